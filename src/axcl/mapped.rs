//! Read-only memory-mapped files. Here because mapping is `unsafe` and this is the
//! only room that may say so.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

use crate::fault::{Failure, Fault, Result};

/// A whole file, mapped read-only: its pages are the page cache's, never copied.
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// [`Fault::ModelMissing`], naming the file.
    pub fn open(path: &Path) -> Result<Self> {
        let failed =
            |e: std::io::Error| Failure::new(Fault::ModelMissing, format!("{}: {e}", path.display()));
        let file = File::open(path).map_err(failed)?;
        // SAFETY: model files are installed by renaming finished files into place and are
        // never written afterwards, so the mapped bytes do not change under the reader.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Ok(Self(map))
    }

    /// Has the kernel bring these bytes into memory, and waits for it.
    ///
    /// # Errors
    /// What the kernel answers: it is older than Linux 5.14, or the file cannot be read.
    pub fn populate(&self, bytes: Range<usize>) -> std::io::Result<()> {
        self.0.advise_range(memmap2::Advice::PopulateRead, bytes.start, bytes.len())
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
