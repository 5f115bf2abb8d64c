//! `manifest.json`: length and CRC-32 of every file of a package, perhaps its SHA-256.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::fault::{Failure, Fault, Result};

/// The file's name inside a model directory.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Bytes read at a time: large enough for the disk, small enough for the cache.
const CHUNK: usize = 1 << 20;

#[derive(Deserialize)]
struct ManifestFile {
    version: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    bytes: u64,
    /// Eight hexadecimal digits.
    crc32: String,
    /// Sixty-four.
    sha256: Option<String>,
}

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sums {
    bytes: u64,
    crc: u32,
    sha256: Option<String>,
}

/// What the files of a model directory must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, Sums>,
}

impl Manifest {
    /// Reads `dir/manifest.json`; `None` where there is none.
    ///
    /// # Errors
    /// [`Fault::ModelInvalid`] where it is not a manifest of a known version, or names
    /// files outside the directory.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST_FILE);
        let invalid = |what: String| Failure::new(Fault::ModelInvalid, format!("{}: {what}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::new(Fault::ModelMissing, format!("{}: {e}", path.display()))),
        };
        Self::parse(&text).map(Some).map_err(invalid)
    }

    /// Reads a manifest's text.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let file: ManifestFile = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if file.version != 1 {
            return Err(format!("version {} is not known, only 1", file.version));
        }
        let mut files = BTreeMap::new();
        for (name, entry) in file.files {
            let inside = Path::new(&name).components().all(|c| matches!(c, Component::Normal(_)));
            if name.is_empty() || !inside {
                return Err(format!("\"{name}\" leads out of the directory"));
            }
            let crc = Some(&entry.crc32)
                .filter(|digits| digits.len() == 8)
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .ok_or_else(|| format!("the crc32 of \"{name}\" is not eight hexadecimal digits"))?;
            let sha256 = entry.sha256.map(|digits| digits.to_ascii_lowercase());
            if sha256.as_ref().is_some_and(|digits| !is_sha256(digits)) {
                return Err(format!("the sha256 of \"{name}\" is not sixty-four hexadecimal digits"));
            }
            files.insert(name, Sums { bytes: entry.bytes, crc, sha256 });
        }
        Ok(Self { files })
    }

    /// The names of all files, relative to the directory.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// All files, and how long each is.
    pub fn lengths(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, sums)| (name.as_str(), sums.bytes))
    }

    /// One number for all the files: changes with any of them.
    pub fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for (name, sums) in &self.files {
            hasher.update(name.as_bytes());
            hasher.update(&sums.bytes.to_le_bytes());
            hasher.update(&sums.crc.to_le_bytes());
        }
        hasher.finalize()
    }

    /// Reads `dir/name` once and compares length and CRC-32: what a card that ages does to a file.
    ///
    /// # Errors
    /// [`Fault::ModelChecksum`] where they differ or the manifest does not list the file,
    /// [`Fault::ModelMissing`] where it cannot be read; both name the file.
    pub fn check(&self, dir: &Path, name: &str) -> Result<()> {
        self.compare(dir, name, false)
    }

    /// The SHA-256 as well, where the manifest tells it: what somebody else may have put there.
    ///
    /// # Errors
    /// As [`Manifest::check`].
    pub fn check_origin(&self, dir: &Path, name: &str) -> Result<()> {
        self.compare(dir, name, true)
    }

    fn compare(&self, dir: &Path, name: &str, origin: bool) -> Result<()> {
        let differs = |what: String| Failure::new(Fault::ModelChecksum, format!("{name}: {what}"));
        let missing = |e: std::io::Error| Failure::new(Fault::ModelMissing, format!("{name}: {e}"));
        let sums = self.files.get(name).ok_or_else(|| differs("not listed in the manifest".to_owned()))?;
        let Sums { bytes, crc, ref sha256 } = *sums;
        let mut file = File::open(dir.join(name)).map_err(missing)?;
        let length = file.metadata().map_err(missing)?.len();
        if length != bytes {
            return Err(differs(format!("{length} bytes, the manifest says {bytes}")));
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut digest = sha256.as_ref().filter(|_| origin).map(|wanted| (wanted, Sha256::new()));
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(missing(e)),
            };
            let read = buffer.get(..n).unwrap_or_default();
            hasher.update(read);
            if let Some((_, digest)) = &mut digest {
                digest.update(read);
            }
        }
        let found = hasher.finalize();
        if found != crc {
            return Err(differs(format!("CRC-32 {found:08x}, the manifest says {crc:08x}")));
        }
        if let Some((wanted, digest)) = digest {
            let found = hex(&digest.finalize());
            if found != *wanted {
                return Err(differs(format!("SHA-256 {found}, the manifest says {wanted}")));
            }
        }
        Ok(())
    }
}

/// Whether these are the digits of a SHA-256.
pub fn is_sha256(digits: &str) -> bool {
    digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(manifest: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.bin"), b"123456789").unwrap();
        std::fs::write(dir.path().join(MANIFEST_FILE), manifest).unwrap();
        dir
    }

    #[test]
    fn an_undamaged_file_passes_and_a_damaged_one_is_named() {
        // cbf43926 is the check value every description of CRC-32 gives.
        let dir = written(r#"{"version":1,"files":{"a.bin":{"bytes":9,"crc32":"cbf43926"}}}"#);
        let manifest = Manifest::open(dir.path()).unwrap().unwrap();
        assert_eq!(manifest.files().collect::<Vec<_>>(), ["a.bin"]);
        manifest.check(dir.path(), "a.bin").unwrap();

        std::fs::write(dir.path().join("a.bin"), b"123456780").unwrap();
        let failure = manifest.check(dir.path(), "a.bin").unwrap_err();
        assert_eq!(failure.fault, Fault::ModelChecksum);
        assert!(failure.detail.starts_with("a.bin: CRC-32"), "{}", failure.detail);

        std::fs::write(dir.path().join("a.bin"), b"12345678").unwrap();
        let failure = manifest.check(dir.path(), "a.bin").unwrap_err();
        assert!(failure.detail.contains("8 bytes, the manifest says 9"), "{}", failure.detail);
    }

    #[test]
    fn a_sha256_is_compared_where_the_origin_is_asked_for() {
        // What `sha256sum` says of these nine bytes.
        let right = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
        for (sha256, fits) in [(right.to_uppercase(), true), ("0".repeat(64), false)] {
            let dir = written(&format!(
                r#"{{"version":1,"files":{{"a.bin":{{"bytes":9,"crc32":"cbf43926","sha256":"{sha256}"}}}}}}"#
            ));
            let manifest = Manifest::open(dir.path()).unwrap().unwrap();
            manifest.check(dir.path(), "a.bin").unwrap();
            match manifest.check_origin(dir.path(), "a.bin") {
                Ok(()) => assert!(fits),
                Err(failure) => assert!(!fits && failure.detail.starts_with("a.bin: SHA-256 15e2b0d3")),
            }
        }
    }

    #[test]
    fn names_that_leave_the_directory_and_unknown_versions_are_refused() {
        for text in [
            r#"{"version":1,"files":{"../a":{"bytes":9,"crc32":"cbf43926"}}}"#,
            r#"{"version":1,"files":{"/a":{"bytes":9,"crc32":"cbf43926"}}}"#,
            r#"{"version":1,"files":{"":{"bytes":9,"crc32":"cbf43926"}}}"#,
            r#"{"version":2,"files":{}}"#,
            r#"{"version":1,"files":{"a":{"bytes":9,"crc32":"cbf4392"}}}"#,
            r#"{"version":1,"files":{"a":{"bytes":9,"crc32":"cbf43926","sha256":"00"}}}"#,
            r#"{"version":1"#,
        ] {
            let dir = written(text);
            assert_eq!(Manifest::open(dir.path()).unwrap_err().fault, Fault::ModelInvalid, "{text}");
        }
    }
}
