//! When the card computes much slower than it used to.

use std::time::Duration;

/// A rate is judged over this much decoding.
const WINDOW: Duration = Duration::from_secs(20);
/// However fast the pace of a test, one second is needed to tell.
const SHORTEST: Duration = Duration::from_secs(1);
/// So many slow windows in a row are a fault: a minute.
const SLOW_WINDOWS: u32 = 3;
/// A rate below this share of the baseline is slow …
const SLOW: f64 = 0.5;
/// … and above this one it belongs to the baseline.
const USUAL: f64 = 0.7;
/// Windows until the baseline is believed.
const FIRST: u32 = 3;

/// The speed of decoding, and what it usually is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Speed {
    /// Of the window under way.
    time: Duration,
    tokens: u32,
    /// Tokens per second.
    baseline: f64,
    windows: u32,
    slow: u32,
    /// Reported; not again before the speed is back.
    told: bool,
}

impl Speed {
    /// A token came `time` after the one before it. True when the card turns out slow: once,
    /// until its speed is back.
    pub fn token(&mut self, time: Duration, pace: f64) -> bool {
        self.time += time;
        self.tokens += 1;
        if self.time < WINDOW.div_f64(pace).max(SHORTEST) {
            return false;
        }
        let rate = f64::from(self.tokens) / self.time.as_secs_f64();
        (self.time, self.tokens) = (Duration::ZERO, 0);
        self.judge(rate)
    }

    fn judge(&mut self, rate: f64) -> bool {
        if self.windows < FIRST || rate >= USUAL * self.baseline {
            let share = 1.0 / f64::from(self.windows.saturating_add(1).min(16));
            self.baseline += (rate - self.baseline) * share;
            self.windows = self.windows.saturating_add(1);
            (self.slow, self.told) = (0, false);
            return false;
        }
        self.slow = if rate < SLOW * self.baseline { self.slow + 1 } else { 0 };
        let tell = self.slow >= SLOW_WINDOWS && !self.told;
        self.told |= tell;
        tell
    }

    /// Whether it was slow when last judged.
    pub fn is_slow(&self) -> bool {
        self.told
    }

    /// Tokens per second it usually decodes; `None` before that is known.
    pub fn usual(&self) -> Option<f64> {
        (self.windows >= FIRST).then_some(self.baseline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes for so many seconds; how often it was reported.
    fn decode(speed: &mut Speed, seconds: u32, per_second: u32) -> usize {
        let time = Duration::from_secs(1) / per_second;
        (0..seconds * per_second).filter(|_| speed.token(time, 1.0)).count()
    }

    #[test]
    fn half_the_usual_speed_for_a_minute_is_reported_once() {
        let mut speed = Speed::default();
        assert_eq!(decode(&mut speed, 200, 10), 0);
        assert_eq!(speed.usual().unwrap().round(), 10.0);
        assert_eq!(decode(&mut speed, 59, 4), 0);
        assert_eq!(decode(&mut speed, 300, 4), 1);
        assert!(speed.is_slow());
        assert_eq!(decode(&mut speed, 40, 10), 0);
        assert!(!speed.is_slow());
        assert_eq!(decode(&mut speed, 80, 3), 1, "slow again");
    }

    #[test]
    fn a_longer_context_is_no_fault() {
        let mut speed = Speed::default();
        for rate in [20, 19, 17, 15, 14, 13, 12] {
            assert_eq!(decode(&mut speed, 60, rate), 0);
        }
    }

    #[test]
    fn short_dips_are_no_fault() {
        let mut speed = Speed::default();
        decode(&mut speed, 100, 10);
        for _ in 0..20 {
            assert_eq!(decode(&mut speed, 40, 3), 0);
            assert_eq!(decode(&mut speed, 40, 10), 0);
        }
    }
}
