//! The token embedding table, memory-mapped.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::axcl::mapped::MappedFile;
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

/// Bytes brought into memory at a time: whatever else wants to map memory may do so in between.
const PIECE: usize = 4 << 20;

/// Row-major bf16 table of vocabulary × hidden values; its pages are the page cache's.
pub struct Embeddings {
    map: Arc<MappedFile>,
    row_bytes: usize,
}

impl Embeddings {
    /// Maps `path`.
    ///
    /// # Errors
    /// [`Fault::ModelMissing`] where it cannot be mapped, [`Fault::ModelInvalid`] where it is
    /// not exactly vocabulary × hidden × 2 bytes long.
    pub fn open(path: &Path, vocabulary: usize, hidden: usize) -> Result<Self> {
        let row_bytes = hidden * size_of::<half::bf16>();
        let map = Arc::new(MappedFile::open(path)?);
        let wanted = vocabulary.saturating_mul(row_bytes);
        if row_bytes == 0 || map.len() != wanted {
            return Err(Failure::new(
                Fault::ModelInvalid,
                format!(
                    "{}: {} bytes, but {vocabulary} tokens of {hidden} bf16 values are {wanted}",
                    path.display(),
                    map.len()
                ),
            ));
        }
        Ok(Self { map, row_bytes })
    }

    /// Brings the whole table into memory, beside whatever else is done: the card would wait for the disk
    /// where a token comes for the first time. Ends with the table.
    ///
    /// # Errors
    /// Where no thread can be made: rows are read when they are needed.
    pub fn warm(&self) -> std::io::Result<JoinHandle<()>> {
        let (map, length) = (Arc::downgrade(&self.map), self.map.len());
        let warm = move || {
            for start in (0..length).step_by(PIECE) {
                let Some(map) = map.upgrade() else { return };
                if let Err(error) = map.populate(start..length.min(start + PIECE)) {
                    tracing::warn!(%error, "the embedding table is read from the disk row by row");
                    return;
                }
            }
        };
        thread::Builder::new().name("warm".into()).spawn(warm)
    }

    /// The embedding of one token: hidden × 2 bytes, little endian bf16.
    pub fn row(&self, token: TokenId) -> Option<&[u8]> {
        let start = usize::try_from(token).ok()?.checked_mul(self.row_bytes)?;
        self.map.get(start..start.checked_add(self.row_bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_and_a_wrong_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("embed.bin");
        std::fs::write(&path, (0..24).collect::<Vec<u8>>()).unwrap();
        let table = Embeddings::open(&path, 3, 4).unwrap();
        assert_eq!(table.row(2).unwrap(), (16..24).collect::<Vec<u8>>());
        assert!(table.row(3).is_none());
        let failure = Embeddings::open(&path, 4, 4).err().unwrap();
        assert_eq!(failure.fault, Fault::ModelInvalid);
        assert!(failure.detail.contains("24 bytes"), "{}", failure.detail);
    }

    /// How many bytes of a mapped file are in this process's page tables.
    fn mapped_now(path: &Path) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let rss =
            maps.lines().skip_while(|line| !line.ends_with(name)).find_map(|line| line.strip_prefix("Rss:"));
        1024 * rss.unwrap().trim_end_matches("kB").trim().parse::<usize>().unwrap()
    }

    #[test]
    fn a_warm_table_is_in_memory_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("warm-embed.bin");
        let length = 2 * PIECE + 8192;
        std::fs::File::create(&path).unwrap().set_len(length as u64).unwrap();
        let table = Embeddings::open(&path, length / 4096, 2048).unwrap();
        assert_eq!(mapped_now(&path), 0);
        table.warm().unwrap().join().unwrap();
        assert_eq!(mapped_now(&path), length);
    }
}
