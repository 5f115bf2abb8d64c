//! How long the card waits for the host between two tokens.

use serde::Serialize;

/// How long the host took from having fetched something to its next call to the card, in
/// nanoseconds: while a token is chosen, the card has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Turnaround {
    pub count: usize,
    pub p50_ns: u32,
    pub p99_ns: u32,
    pub max_ns: u32,
}

impl Turnaround {
    /// Of any number of samples.
    pub fn of(mut samples: Vec<u32>) -> Self {
        samples.sort_unstable();
        let last = samples.len().saturating_sub(1);
        let at = |percent: usize| samples.get(samples.len() * percent / 100).or(samples.get(last));
        let [p50_ns, p99_ns, max_ns] = [50, 99, 100].map(|percent| at(percent).copied().unwrap_or(0));
        Self { count: samples.len(), p50_ns, p99_ns, max_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        assert_eq!(Turnaround::of(Vec::new()), Turnaround::default());
        let few = Turnaround { count: 3, p50_ns: 2, p99_ns: 3, max_ns: 3 };
        assert_eq!(Turnaround::of(vec![3, 1, 2]), few);
        let many = Turnaround { count: 200, p50_ns: 101, p99_ns: 199, max_ns: 200 };
        assert_eq!(Turnaround::of((1..=200).collect()), many);
    }
}
