//! The token embedding table, memory-mapped.

use std::path::Path;

use crate::axcl::mapped::MappedFile;
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

/// Row-major bf16 table of vocabulary × hidden values; its pages are the page cache's.
pub struct Embeddings {
    map: MappedFile,
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
        let map = MappedFile::open(path)?;
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
}
