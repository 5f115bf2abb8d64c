//! `manifest.json`: length and CRC-32 of every other file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{SeekFrom as Part, seek};
use serde_json::{Map, json};

use super::PackError;
use super::description::write_json;

/// The manifest's file name.
pub const NAME: &str = "manifest.json";

/// Writes the manifest of `dir`.
pub fn write_manifest(dir: &Path) -> Result<(), PackError> {
    let failed = |path: &Path, e| PackError::Read { path: path.into(), source: e };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| failed(dir, e))? {
        let path = entry.map_err(|e| failed(dir, e))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name != NAME {
            let (bytes, crc) = sum(&path).map_err(|e| failed(&path, e))?;
            files.push((name, json!({ "bytes": bytes, "crc32": format!("{crc:08x}") })));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let files: Map<_, _> = files.into_iter().collect();
    write_json(&dir.join(NAME), &json!({ "version": 1, "files": files }))
}

/// Length and CRC-32 of a file. Holes are not read: the sum of zeros is computed.
fn sum(path: &Path) -> std::io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut hasher = crc32fast::Hasher::new();
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    while at < len {
        let data = match seek(&file, Part::Data(at)) {
            Ok(data) => data.min(len),
            // No data after this point, or a file system without holes.
            Err(rustix::io::Errno::NXIO) => len,
            Err(_) => at,
        };
        hasher.combine(&zeros(data - at));
        let end = seek(&file, Part::Hole(data)).unwrap_or(len).clamp(data, len);
        file.seek(SeekFrom::Start(data))?;
        let mut part = file.by_ref().take(end - data);
        loop {
            match part.read(&mut buffer)? {
                0 => break,
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            }
        }
        if part.limit() > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        at = end;
    }
    Ok((len, hasher.finalize()))
}

/// The state after `len` zero bytes, by doubling.
fn zeros(mut len: u64) -> crc32fast::Hasher {
    let mut result = crc32fast::Hasher::new();
    let mut power = crc32fast::Hasher::new();
    power.update(&[0]);
    while len > 0 {
        if len & 1 == 1 {
            result.combine(&power);
        }
        let double = power.clone();
        power.combine(&double);
        len >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_sum_with_holes_is_the_sum_of_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 9_000_000).unwrap();
        file.set_len(20_000_001).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(sum(&path).unwrap(), (20_000_001, crc32fast::hash(&bytes)));
        std::fs::write(&path, b"123456789").unwrap();
        assert_eq!(sum(&path).unwrap(), (9, 0xcbf4_3926));
        std::fs::write(&path, b"").unwrap();
        assert_eq!(sum(&path).unwrap(), (0, 0));
    }
}
