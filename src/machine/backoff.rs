//! How long to wait before a worker is started again.

use std::time::Duration;

/// Waits after the first, second, third … failure in a row; the last one repeats.
const WAITS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_secs(60),
];

/// A worker that served this long was healthy: its failure is the first of a new row.
pub const HEALTHY: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and returns the wait before the next start. `dice`, in 0..1,
    /// spreads it by ± 20 %.
    pub fn fail(&mut self, dice: f64) -> Duration {
        let wait = WAITS.get(self.failures as usize).or(WAITS.last()).copied().unwrap_or_default();
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(0.8 + 0.4 * dice.clamp(0.0, 1.0))
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_stay_there() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.fail(0.5).as_secs()).collect();
        assert_eq!(waits, [0, 2, 10, 20, 40, 60, 60, 60]);
        assert_eq!(backoff.failures(), 8);
    }

    #[test]
    fn waits_are_spread_by_a_fifth() {
        for (dice, millis) in [(0.0, 8_000), (1.0, 12_000)] {
            let mut backoff = Backoff { failures: 2 };
            assert_eq!(backoff.fail(dice).as_millis(), millis);
        }
    }
}
