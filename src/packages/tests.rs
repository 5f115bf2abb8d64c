//! What the tests of this room share.

use serde_json::json;

use super::*;

type File = (&'static str, &'static [u8]);

/// In order.
pub const FILES: [File; 3] =
    [("config.json", b"{}"), ("deep/down/layer.axmodel", b"123456789"), ("nothing", b"")];
pub const NEWER: [File; 3] =
    [("config.json", b"{ }"), ("deep/down/layer.axmodel", b"123456780"), ("more", b"x")];

/// A partition `models`.
pub struct Scene {
    pub place: Place,
    _directory: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = SysRoot::new(directory.path());
        std::fs::create_dir(root.path(MODELS)).unwrap();
        Self { place: Place::new(&root), _directory: directory }
    }

    /// All of a package arrives, as far as it has not.
    pub fn sent(&self, name: &str, files: &[File]) {
        self.place.begin(name, &manifest(files)).unwrap();
        for piece in self.place.look(name).unwrap().files {
            let (path, bytes) = files.iter().find(|(path, _)| *path == piece.path).unwrap();
            let mut rest = &bytes[usize::try_from(piece.received).unwrap()..];
            self.place.write(name, path, piece.received, &mut rest).unwrap();
        }
    }

    /// The installed package of this name, where its manifest says it is whole.
    pub fn installed(&self, name: &str) -> Option<Vec<File>> {
        let package = self.place.package(name);
        let manifest = Manifest::open(&package).unwrap()?;
        let known = [&FILES[..], &NEWER[..]].concat();
        let file = |path: &str| {
            manifest.check(&package, path).unwrap();
            let bytes = std::fs::read(package.join(path)).unwrap();
            *known.iter().find(|known| **known == (path, &bytes)).unwrap()
        };
        Some(manifest.files().map(file).collect())
    }

    /// What is there, also of what arrives.
    pub fn found(&self) -> Vec<String> {
        let mut found = names(&self.place.directory);
        found.retain(|name| name != INCOMING);
        found.extend(names(&self.place.directory.join(INCOMING)));
        found
    }
}

/// A manifest of these files.
pub fn manifest(files: &[(&str, &[u8])]) -> String {
    let entry = |(path, bytes): &(&str, &[u8])| {
        let crc = crc32fast::hash(bytes);
        ((*path).to_owned(), json!({"bytes": bytes.len(), "crc32": format!("{crc:08x}")}))
    };
    let files: serde_json::Map<_, _> = files.iter().map(entry).collect();
    json!({"version": 1, "files": files}).to_string()
}
