//! Card memory: address ranges with a host backing each.
//!
//! Addresses belong to no host object; whoever accesses card memory names an address and
//! a length, and the range must lie within one allocation. Access is by lock per
//! allocation; whoever locks several does so in the order of their addresses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::allocator::Space;
use super::backing::Bytes;

/// What undefined memory holds: NaN in every float format, so that its use shows.
const UNDEFINED: u8 = 0xFF;

/// Backing of an allocation. Not touched before its first use, so large allocations
/// that are zeroed or filled as a whole cost the host no second copy.
#[derive(Debug)]
enum Backing {
    Undefined,
    Bytes(Bytes),
}

impl Backing {
    fn undefined(size: usize) -> Self {
        let mut bytes = Bytes::zeroed(size);
        bytes.fill(UNDEFINED);
        Self::Bytes(bytes)
    }
}

/// One allocation.
#[derive(Debug)]
pub struct Block {
    pub base: u64,
    /// Bytes asked for.
    pub size: usize,
    backing: RwLock<Backing>,
}

/// A block locked for reading.
pub struct Reading<'a>(RwLockReadGuard<'a, Backing>);

impl Reading<'_> {
    /// All bytes of the block.
    pub fn bytes(&self) -> &[u8] {
        match &*self.0 {
            Backing::Bytes(bytes) => bytes,
            Backing::Undefined => &[],
        }
    }
}

impl Block {
    /// Locks for reading; the bytes exist afterwards.
    pub fn read(&self) -> Reading<'_> {
        {
            let guard = self.backing.read().unwrap_or_else(PoisonError::into_inner);
            if matches!(*guard, Backing::Bytes(_)) {
                return Reading(guard);
            }
        }
        self.with_bytes(|_| ());
        Reading(self.backing.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> RwLockWriteGuard<'_, Backing> {
        self.backing.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_bytes<R>(&self, change: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut guard = self.write();
        if matches!(*guard, Backing::Undefined) {
            *guard = Backing::undefined(self.size);
        }
        match &mut *guard {
            Backing::Bytes(bytes) => change(bytes),
            Backing::Undefined => change(&mut []),
        }
    }
}

/// A range within one block.
#[derive(Clone, Debug)]
pub struct Range {
    pub block: Arc<Block>,
    pub start: usize,
    pub len: usize,
}

impl Range {
    /// The range's part of its block's bytes.
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.start..self.start + self.len).unwrap_or_default()
    }

    fn whole(&self) -> bool {
        self.start == 0 && self.len == self.block.size
    }

    /// Replaces the range's bytes. `bytes` is as long as the range.
    pub fn write(&self, bytes: &[u8]) {
        if self.whole() {
            let mut guard = self.block.write();
            match &mut *guard {
                Backing::Bytes(old) => old.copy_from_slice(bytes),
                Backing::Undefined => {
                    let mut new = Bytes::zeroed(bytes.len());
                    new.copy_from_slice(bytes);
                    *guard = Backing::Bytes(new);
                }
            }
            return;
        }
        self.change(|to| to.copy_from_slice(bytes));
    }

    /// Copies the range's bytes out. `to` is as long as the range.
    pub fn read(&self, to: &mut [u8]) {
        to.copy_from_slice(self.of(self.block.read().bytes()));
    }

    /// Sets every byte.
    pub fn fill(&self, value: u8) {
        if self.whole() && value == 0 {
            // Fresh zero pages instead of written ones: the host maps them when used.
            *self.block.write() = Backing::Bytes(Bytes::zeroed(self.len));
        } else {
            self.change(|to| to.fill(value));
        }
    }

    fn change(&self, change: impl FnOnce(&mut [u8])) {
        self.block.with_bytes(|all| {
            if let Some(part) = all.get_mut(self.start..self.start + self.len) {
                change(part);
            }
        });
    }

    /// Copies `from` here; both are of one length and may overlap.
    pub fn copy_from(&self, from: &Range) {
        if Arc::ptr_eq(&self.block, &from.block) {
            let source = from.start..from.start + from.len;
            self.block.with_bytes(|all| all.copy_within(source, self.start));
        } else if self.block.base < from.block.base {
            let to = self.block.write();
            let source = from.block.read();
            self.write_locked(to, from.of(source.bytes()));
        } else {
            let source = from.block.read();
            let to = self.block.write();
            self.write_locked(to, from.of(source.bytes()));
        }
    }

    fn write_locked(&self, mut to: RwLockWriteGuard<'_, Backing>, bytes: &[u8]) {
        if matches!(*to, Backing::Undefined) {
            *to = Backing::undefined(self.block.size);
        }
        if let Backing::Bytes(all) = &mut *to
            && let Some(part) = all.get_mut(self.start..self.start + self.len)
        {
            part.copy_from_slice(bytes);
        }
    }

    /// `memcmp` of two ranges of one length.
    pub fn compare(&self, other: &Range) -> std::cmp::Ordering {
        if Arc::ptr_eq(&self.block, &other.block) {
            let all = self.block.read();
            return self.of(all.bytes()).cmp(other.of(all.bytes()));
        }
        let (low, high) = if self.block.base < other.block.base { (self, other) } else { (other, self) };
        let (first, second) = (low.block.read(), high.block.read());
        let order = low.of(first.bytes()).cmp(high.of(second.bytes()));
        if low.block.base == self.block.base { order } else { order.reverse() }
    }
}

#[derive(Debug, Default)]
struct State {
    space: Space,
    blocks: BTreeMap<u64, Arc<Block>>,
}

/// All of the card's contiguous memory.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates `size` bytes of undefined content; `None` when out of memory.
    pub fn allocate(&self, size: usize) -> Option<u64> {
        let mut state = self.state();
        let base = state.space.take(u64::try_from(size).ok()?)?;
        let block = Block { base, size, backing: RwLock::new(Backing::Undefined) };
        state.blocks.insert(base, Arc::new(block));
        Some(base)
    }

    /// Frees the allocation that starts exactly at `base`; false if there is none.
    pub fn release(&self, base: u64) -> bool {
        let mut state = self.state();
        state.blocks.remove(&base).is_some() && state.space.give_back(base)
    }

    /// Accounts `size` bytes that programs cannot address (engines live there).
    pub fn reserve(&self, size: u64) -> Option<u64> {
        self.state().space.take(size)
    }

    /// Ends a reservation.
    pub fn unreserve(&self, base: u64) {
        self.state().space.give_back(base);
    }

    /// Whether an allocation starts exactly at `base`.
    pub fn is_base(&self, base: u64) -> bool {
        self.state().blocks.contains_key(&base)
    }

    /// The allocation that holds all of `address .. address + len`.
    pub fn range(&self, address: u64, len: usize) -> Option<Range> {
        let state = self.state();
        let (&base, block) = state.blocks.range(..=address).next_back()?;
        let start = usize::try_from(address - base).ok()?;
        (start < block.size && len <= block.size - start).then(|| Range {
            block: Arc::clone(block),
            start,
            len,
        })
    }

    /// Bytes not in use.
    pub fn free(&self) -> u64 {
        self.state().space.free()
    }

    /// Every allocation as (base, bytes asked for), in the order of addresses.
    pub fn allocations(&self) -> Vec<(u64, usize)> {
        self.state().blocks.values().map(|b| (b.base, b.size)).collect()
    }

    /// Forgets everything, as a reset card does.
    pub fn reset(&self) {
        *self.state() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocator::{BASELINE, PAGE, SIZE};
    use super::*;
    use std::cmp::Ordering;

    fn bytes(range: &Range) -> Vec<u8> {
        let mut out = vec![0; range.len];
        range.read(&mut out);
        out
    }

    #[test]
    fn fresh_memory_is_full_of_nan() {
        let memory = Memory::default();
        let base = memory.allocate(10).unwrap();
        assert_eq!(bytes(&memory.range(base, 10).unwrap()), [0xFF; 10]);
    }

    #[test]
    fn ranges_lie_within_one_allocation() {
        let memory = Memory::default();
        let a = memory.allocate(100).unwrap();
        let b = memory.allocate(PAGE as usize).unwrap();
        assert_eq!(b, a + PAGE);
        assert!(memory.range(a + 40, 60).is_some());
        assert!(memory.range(a + 40, 61).is_none());
        assert!(memory.range(a + 100, 0).is_none());
        assert!(memory.range(a, usize::MAX).is_none());
        assert!(memory.range(0x1000, 1).is_none());
        assert!(memory.range(b, PAGE as usize + 1).is_none());
    }

    #[test]
    fn copies_within_and_between_blocks_in_both_directions() {
        let memory = Memory::default();
        let a = memory.allocate(8).unwrap();
        let b = memory.allocate(8).unwrap();
        memory.range(a, 8).unwrap().write(b"abcdefgh");
        memory.range(b, 8).unwrap().fill(0);
        memory.range(b + 2, 3).unwrap().copy_from(&memory.range(a + 1, 3).unwrap());
        assert_eq!(bytes(&memory.range(b, 8).unwrap()), b"\0\0bcd\0\0\0");
        memory.range(a, 2).unwrap().copy_from(&memory.range(b + 3, 2).unwrap());
        memory.range(a + 1, 4).unwrap().copy_from(&memory.range(a, 4).unwrap());
        assert_eq!(bytes(&memory.range(a, 8).unwrap()), b"ccdcdfgh");
    }

    #[test]
    fn compares_like_memcmp_whatever_the_order_of_addresses() {
        let memory = Memory::default();
        let a = memory.allocate(4).unwrap();
        let b = memory.allocate(4).unwrap();
        memory.range(a, 4).unwrap().write(&[1, 2, 3, 4]);
        memory.range(b, 4).unwrap().write(&[1, 2, 9, 4]);
        let of = |at, len| memory.range(at, len).unwrap();
        assert_eq!(of(a, 4).compare(&of(b, 4)), Ordering::Less);
        assert_eq!(of(b, 4).compare(&of(a, 4)), Ordering::Greater);
        assert_eq!(of(a, 2).compare(&of(b, 2)), Ordering::Equal);
    }

    #[test]
    fn accounting_returns_to_the_baseline() {
        let memory = Memory::default();
        let base = memory.allocate(5000).unwrap();
        let engine = memory.reserve(1 << 20).unwrap();
        assert!(memory.range(engine, 1).is_none());
        assert!(!memory.release(base + 8) && !memory.release(engine));
        assert!(memory.release(base));
        memory.unreserve(engine);
        assert_eq!(memory.free(), SIZE - BASELINE);
    }

    #[test]
    fn overlapping_locks_of_many_threads_do_not_deadlock() {
        let memory = Memory::default();
        let at: Vec<u64> = (0..3).map(|_| memory.allocate(64).unwrap()).collect();
        let memory = &memory;
        std::thread::scope(|scope| {
            for (to, from) in [(0, 1), (1, 2), (2, 0), (1, 0)] {
                let (to, from) = (at[to], at[from]);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        memory.range(to, 64).unwrap().copy_from(&memory.range(from, 64).unwrap());
                        let _ = memory.range(to, 64).unwrap().compare(&memory.range(from, 64).unwrap());
                    }
                });
            }
        });
    }
}
