//! Driver, library and firmware of the card belong together: what the image holds, and what is
//! loaded of it, against what it was made of (`unpack-deb` wrote that down).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::report;
use crate::fault::{Failure, Fault};
use crate::sys::root::SysRoot;

const TRIPLE: &str = "usr/lib/axcl/triple.json";
const RELEASE: &str = "proc/sys/kernel/osrelease";
const MODULES: &str = "usr/lib/modules";
const LOADED: &str = "sys/module";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Triple {
    version: String,
    library: Part,
    firmware: Vec<Part>,
    /// The driver's, without their ending.
    modules: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    file: PathBuf,
    sha256: String,
}

/// Compares and tells. An image without the vendor's package has nothing to compare.
pub fn triple(root: &SysRoot) -> Vec<String> {
    let found = match std::fs::read(root.path(TRIPLE)) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(triple) => compare(root, &triple),
            Err(e) => vec![format!("/{TRIPLE}: {e}")],
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => vec![format!("/{TRIPLE}: {e}")],
    };
    let problems: Vec<String> =
        found.into_iter().map(|what| Failure::new(Fault::Triple, what).to_string()).collect();
    report::problems(root, "triple", &problems);
    problems
}

fn compare(root: &SysRoot, triple: &Triple) -> Vec<String> {
    let version = &triple.version;
    let parts = std::iter::once(&triple.library).chain(&triple.firmware);
    let files = parts.filter_map(|Part { file, sha256 }| match digest(&root.path(file)) {
        Ok(found) if found == *sha256 => None,
        Ok(_) => Some(format!("{} is not the one of version {version}", file.display())),
        Err(e) => Some(format!("{}: {e}", file.display())),
    });
    let release = std::fs::read_to_string(root.path(RELEASE)).unwrap_or_default();
    let directory = root.path(MODULES).join(release.trim());
    let built = std::fs::read_to_string(directory.join("modules.dep")).unwrap_or_default();
    let modules = triple.modules.iter().filter_map(|name| {
        let Some(path) = listed(&built, name) else {
            return Some(format!("its driver has no module {name} for the kernel {}", release.trim()));
        };
        replaced(root, &directory.join(path), name)
    });
    files.chain(modules).collect()
}

fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 16];
    loop {
        let length = io::Read::read(&mut file, &mut piece)?;
        let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else { break };
        hasher.update(read);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A module's file, as depmod lists it.
fn listed<'a>(built: &'a str, name: &str) -> Option<&'a str> {
    built.lines().filter_map(|line| Some(line.split_once(':')?.0)).find(|path| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split_once(".ko").is_some_and(|(stem, _)| stem == name)
    })
}

/// What is wrong with a module's file, or with what was loaded in its place. Its `version` is
/// not compared: what the vendor writes there is not known.
fn replaced(root: &SysRoot, path: &Path, name: &str) -> Option<String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) => return Some(format!("{}: {e}", path.display())),
    };
    let loaded = std::fs::read_to_string(root.path(LOADED).join(name).join("srcversion")).ok()?;
    // Packed, or without one.
    let built = told(&bytes, "srcversion")?;
    (loaded.trim() != built).then(|| format!("the loaded module {name} is not the image's"))
}

/// What a module's file tells of itself under `key`.
fn told<'a>(bytes: &'a [u8], key: &str) -> Option<&'a str> {
    let mut entries = bytes.split(|&byte| byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.find_map(|entry| entry.strip_prefix(key)?.strip_prefix('='))
}
