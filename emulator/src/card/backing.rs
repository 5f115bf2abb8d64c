//! Where the host keeps the bytes of emulated card memory.

use std::fs::File;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;
use rustix::fs::{MemfdFlags, memfd_create};

/// From this size on bytes are kept in a mapping of their own.
const LARGE: usize = 1 << 20;

/// Bytes that begin as zeros; the host gives a page when it is first written to.
///
/// Large ones are shared memory, of a file that is nowhere (`memfd:emulated-card-memory` in
/// `/proc/PID/maps`): the process's own, anonymous memory stays what it would be with a card.
#[derive(Debug)]
pub enum Bytes {
    Small(Vec<u8>),
    Large(MmapMut),
}

impl Bytes {
    /// `size` zeros.
    pub fn zeroed(size: usize) -> Self {
        // A sandbox may forbid such a file: where the bytes are is of no account to the card.
        let large = (size >= LARGE).then(|| shared(size)).and_then(Result::ok);
        large.map_or_else(|| Self::Small(vec![0; size]), Self::Large)
    }
}

fn shared(size: usize) -> std::io::Result<MmapMut> {
    let file = File::from(memfd_create("emulated-card-memory", MemfdFlags::CLOEXEC)?);
    file.set_len(u64::try_from(size).map_err(std::io::Error::other)?)?;
    // SAFETY: nobody else has this file: it has no name and its descriptor is closed here, so nobody
    // changes its bytes or its length while they are mapped.
    unsafe { MmapMut::map_mut(&file) }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_memory_is_shared_and_given_back() {
        // An odd size, that no other test's memory has.
        const SIZE: usize = (37 << 20) + 3;
        let size_line = format!(" {} kB", (37 << 10) + 4);
        let mapped = || {
            let map = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = map.lines().skip_while(|line| !line.contains("memfd:emulated-card-memory"));
            lines.any(|line| line.starts_with("Size:") && line.ends_with(&size_line))
        };
        let mut bytes = Bytes::zeroed(SIZE);
        assert!(mapped());
        assert_eq!((bytes.len(), bytes.first(), bytes.last()), (SIZE, Some(&0), Some(&0)));
        bytes.fill(7);
        assert_eq!(bytes.iter().position(|&byte| byte != 7), None);
        drop(bytes);
        assert!(!mapped());
    }

    #[test]
    fn small_memory_is_on_the_heap() {
        assert!(matches!(Bytes::zeroed(LARGE - 1), Bytes::Small(_)));
        assert!(matches!(Bytes::zeroed(LARGE), Bytes::Large(_)));
        assert!(Bytes::zeroed(0).is_empty());
    }
}
