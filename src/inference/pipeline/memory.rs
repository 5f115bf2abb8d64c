//! Whether a model fits the card. Pure.

use crate::fault::{Failure, Fault, Result};

/// Left free for the card's own needs; running the card dry crashes its driver.
pub const RESERVE: u64 = 128 << 20;

/// Whether `bytes` can be taken of `free` bytes for what is only good to have.
pub fn spares(bytes: u64, free: u64) -> bool {
    bytes.saturating_add(2 * RESERVE) <= free
}

/// Bytes an engine takes on the card once loaded.
pub fn engine_bytes(file: u64) -> u64 {
    file + file * 3 / 10
}

/// Most bytes needed at any moment from now on: engine files are loaded in this order, each
/// needing its size once more while it loads, then the buffers are allocated.
pub fn peak(files: &[u64], buffers: u64) -> u64 {
    let (mut loaded, mut most) = (0, 0);
    for &file in files {
        loaded += engine_bytes(file);
        most = most.max(loaded + file);
    }
    most.max(loaded + buffers)
}

/// Refuses what does not fit into `free` bytes of card memory.
///
/// # Errors
/// [`Fault::CardMemory`], saying how much is missing.
pub fn check(model: &str, needed: u64, free: u64) -> Result<()> {
    let missing = (needed + RESERVE).saturating_sub(free);
    if missing == 0 {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let detail = format!(
        "{model} needs {} MiB and {} MiB in reserve, the card has {} MiB free: {} MiB are missing",
        mib(needed),
        mib(RESERVE),
        free >> 20,
        mib(missing)
    );
    Err(Failure::new(Fault::CardMemory, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_counts_the_copy_while_loading() {
        assert_eq!(engine_bytes(100), 130);
        assert_eq!(peak(&[100], 0), 230);
        // The large one first: its copy is gone before the others come.
        assert_eq!(peak(&[100, 10, 10], 0), 230);
        assert_eq!(peak(&[10, 10, 100], 0), 256);
        assert_eq!(peak(&[10, 10, 100], 500), 656);
        assert_eq!(peak(&[], 5), 5);
    }

    #[test]
    fn what_is_only_good_to_have_leaves_twice_the_reserve() {
        assert!(spares(100, 100 + 2 * RESERVE));
        assert!(!spares(101, 100 + 2 * RESERVE));
    }

    #[test]
    fn a_refusal_says_how_much_is_missing() {
        let mib = 1 << 20;
        assert!(check("m", 872 * mib, 1000 * mib).is_ok());
        let failure = check("m", 873 * mib, 1000 * mib).unwrap_err();
        assert_eq!(failure.fault, Fault::CardMemory);
        assert_eq!(
            failure.detail,
            "m needs 873 MiB and 128 MiB in reserve, the card has 1000 MiB free: 1 MiB are missing"
        );
    }

    #[test]
    fn the_largest_supported_model_fits_a_fresh_card() {
        // Qwen3-4B: post first, 36 layers, caches of 2559 tokens.
        let mut files = vec![424_609_056];
        files.extend([125_435_994; 36]);
        let needed = peak(&files, 36 * 2 * 2559 * 2048 + 36 * 2 * 128 * 2048 + (8 << 20));
        assert!(check("qwen3-4b", needed, (7040 - 18) << 20).is_ok());
    }
}
