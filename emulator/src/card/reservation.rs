//! Keeps the host's addresses that look like card addresses unmapped for everyone else,
//! so that dereferencing a card pointer on the host crashes as it does with the real card.

use std::io;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use super::allocator::{BASE, SIZE};

/// Maps the card's address range without any access, for the rest of the process's life.
/// Costs address space only.
///
/// # Errors
/// When something else already lives there.
pub fn reserve() -> io::Result<()> {
    let size = usize::try_from(SIZE).map_err(io::Error::other)?;
    let base = std::ptr::without_provenance_mut(usize::try_from(BASE).map_err(io::Error::other)?);
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: FIXED_NOREPLACE replaces no existing mapping, and nothing ever accesses the
    // new one through a reference.
    let got = unsafe { mmap_anonymous(base, size, ProtFlags::empty(), flags) }?;
    if got == base { Ok(()) } else { Err(io::Error::other("the kernel chose another address")) }
}
