//! The doors between rooms: which module may name which. The table is the one in
//! docs/architecture.md; this test reads every source file's syntax tree.

// The exemption for tests does not reach the functions they share.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Room → rooms it may name. `fault` is open to all; `bin` may enter everywhere.
const DOORS: &[(&str, &[&str])] = &[
    ("axcl", &[]),
    ("button", &["config", "sys"]),
    ("chat", &[]),
    ("config", &["chat"]),
    ("detect", &["sys"]),
    ("fault", &[]),
    ("http", &["chat", "config", "lights", "metrics", "packages", "service", "sys"]),
    ("inference", &["axcl", "chat", "model"]),
    ("ledger", &["machine", "sys"]),
    ("lights", &["config", "machine", "sys"]),
    ("link", &["chat"]),
    ("machine", &[]),
    ("metrics", &["machine"]),
    ("model", &["axcl", "chat", "sys"]),
    ("packages", &["model", "slots", "sys"]),
    ("provision", &["config", "packages", "slots", "sys"]),
    ("recover", &["axcl", "config", "machine", "sys"]),
    ("service", &["chat", "config", "detect", "ledger", "link", "machine", "metrics", "recover", "sys"]),
    ("slots", &["config", "sys"]),
    ("sys", &["config"]),
    ("worker", &["axcl", "chat", "inference", "link", "model"]),
];

/// Collects the rooms a file names through `crate::…` and whether it says `unsafe`.
#[derive(Default)]
struct Reader {
    rooms: BTreeSet<String>,
    uses_unsafe: bool,
}

impl Reader {
    fn use_tree(&mut self, tree: &syn::UseTree, under_crate: bool) {
        match tree {
            syn::UseTree::Path(path) if under_crate => {
                self.rooms.insert(path.ident.to_string());
            }
            syn::UseTree::Path(path) => self.use_tree(&path.tree, path.ident == "crate"),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.use_tree(item, under_crate));
            }
            syn::UseTree::Name(name) if under_crate => {
                self.rooms.insert(name.ident.to_string());
            }
            syn::UseTree::Rename(name) if under_crate => {
                self.rooms.insert(name.ident.to_string());
            }
            _ => {}
        }
    }
}

impl<'a> Visit<'a> for Reader {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.use_tree(&item.tree, false);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|first| first.ident == "crate")
            && let Some(room) = segments.next()
        {
            self.rooms.insert(room.ident.to_string());
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_unsafe(&mut self, block: &'a syn::ExprUnsafe) {
        self.uses_unsafe = true;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'a syn::Signature) {
        self.uses_unsafe |= signature.unsafety.is_some();
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        self.uses_unsafe |= item.unsafety.is_some();
        visit::visit_item_impl(self, item);
    }
}

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// (path below `src`, room, what it names)
fn readings() -> Vec<(PathBuf, String, Reader)> {
    let src = top().join("src");
    sources(&src)
        .into_iter()
        .map(|path| {
            let below = path.strip_prefix(&src).unwrap().to_path_buf();
            let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
            let room = first.trim_end_matches(".rs").to_owned();
            let mut reader = Reader::default();
            reader.visit_file(&syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap());
            (below, room, reader)
        })
        .collect()
}

#[test]
fn every_room_goes_only_through_its_doors() {
    let doors: BTreeMap<_, _> = DOORS.iter().copied().collect();
    let mut broken = Vec::new();
    for (path, room, reader) in readings() {
        if room == "lib" || room == "bin" {
            continue;
        }
        let open = doors.get(room.as_str()).unwrap_or_else(|| panic!("{room} is not in the table"));
        for named in &reader.rooms {
            let is_room = doors.contains_key(named.as_str());
            if is_room && *named != room && named != "fault" && !open.contains(&named.as_str()) {
                broken.push(format!("{}: {room} may not enter {named}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_door_in_the_table_is_used() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, room, reader) in readings() {
        used.entry(room).or_default().extend(reader.rooms);
    }
    for (room, open) in DOORS {
        for door in *open {
            assert!(
                used.get(*room).is_some_and(|rooms| rooms.contains(*door)),
                "{room} no longer enters {door}: close that door in the table"
            );
        }
    }
}

#[test]
fn only_the_axcl_room_is_unsafe() {
    let outside: Vec<_> = readings()
        .into_iter()
        .filter(|(_, room, reader)| reader.uses_unsafe && room != "axcl")
        .map(|(path, ..)| path)
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn files_stay_short_enough_to_read() {
    let mut long = Vec::new();
    for folder in ["src", "emulator", "tests"] {
        for path in sources(&top().join(folder)) {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            let limit = if path.components().any(|c| c.as_os_str() == "bin") { 120 } else { 400 };
            if lines > limit {
                long.push(format!("{}: {lines} lines, at most {limit}", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}
