//! Random numbers for what needs no secrecy: seeds, identifiers, the spread of back-offs.

use std::hash::{BuildHasher, RandomState};

/// 64 random bits. The standard library's hash keys come from the system's generator
/// and differ from call to call.
pub fn bits() -> u64 {
    RandomState::new().hash_one(())
}

/// A number in 0..1.
pub fn fraction() -> f64 {
    // The upper 32 bits fit a double exactly.
    f64::from((bits() >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_stay_in_range() {
        let drawn: std::collections::HashSet<u64> = (0..1000).map(|_| bits()).collect();
        assert_eq!(drawn.len(), 1000);
        let fractions: Vec<f64> = (0..1000).map(|_| fraction()).collect();
        assert!(fractions.iter().all(|f| (0.0..=1.0).contains(f)));
        let mean = fractions.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }
}
