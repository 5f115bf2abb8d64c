//! The card's address space: contiguous, first fit, whole pages.

use std::collections::BTreeMap;

/// First address of the card's contiguous memory.
pub const BASE: u64 = 0x1_4800_0000;
/// Its size in bytes: 7040 MiB.
pub const SIZE: u64 = 7040 << 20;
/// What the card's own system uses of it, in bytes.
pub const BASELINE: u64 = 18 << 20;
/// Allocations are multiples of this many bytes.
pub const PAGE: u64 = 4096;

/// Hands out address ranges. Knows nothing of what is stored there.
#[derive(Debug)]
pub struct Space {
    /// Base → bytes (whole pages) of the ranges in use.
    used: BTreeMap<u64, u64>,
}

impl Default for Space {
    fn default() -> Self {
        Self { used: BTreeMap::from([(BASE, BASELINE)]) }
    }
}

impl Space {
    /// Takes the lowest gap of at least `size` bytes; `None` when there is none or `size` is 0.
    pub fn take(&mut self, size: u64) -> Option<u64> {
        let size = size.checked_next_multiple_of(PAGE).filter(|&s| s > 0)?;
        let mut at = BASE;
        for (&base, &taken) in &self.used {
            if base - at >= size {
                break;
            }
            at = base + taken;
        }
        if (BASE + SIZE).saturating_sub(at) < size {
            return None;
        }
        self.used.insert(at, size);
        Some(at)
    }

    /// Gives back the range that starts at `base`; false if none does.
    pub fn give_back(&mut self, base: u64) -> bool {
        base != BASE && self.used.remove(&base).is_some()
    }

    /// Bytes in no range.
    pub fn free(&self) -> u64 {
        SIZE - self.used.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_gap_that_fits() {
        let mut space = Space::default();
        let [a, b, c] = [3 * PAGE, PAGE, PAGE].map(|n| space.take(n).unwrap());
        assert_eq!((a, b, c), (BASE + BASELINE, a + 3 * PAGE, b + PAGE));
        assert!(space.give_back(a));
        assert_eq!(space.take(4 * PAGE), Some(c + PAGE));
        assert_eq!(space.take(1), Some(a));
        assert_eq!(space.take(2 * PAGE), Some(a + PAGE));
    }

    #[test]
    fn accounts_whole_pages_and_returns_them() {
        let mut space = Space::default();
        assert_eq!(space.free(), SIZE - BASELINE);
        let base = space.take(PAGE + 1).unwrap();
        assert_eq!(space.free(), SIZE - BASELINE - 2 * PAGE);
        assert!(!space.give_back(base + PAGE));
        assert!(space.give_back(base));
        assert!(!space.give_back(base));
        assert_eq!(space.free(), SIZE - BASELINE);
    }

    #[test]
    fn refuses_nothing_too_much_and_the_baseline() {
        let mut space = Space::default();
        assert_eq!(space.take(0), None);
        assert_eq!(space.take(u64::MAX), None);
        assert_eq!(space.take(SIZE - BASELINE + 1), None);
        assert!(!space.give_back(BASE));
        assert_eq!(space.take(SIZE - BASELINE), Some(BASE + BASELINE));
        assert_eq!(space.take(1), None);
    }
}
