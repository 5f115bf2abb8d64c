//! When it is worth trying again.

use std::time::Duration;

const FIRST_ANSWER: Duration = Duration::from_secs(5);
const FIRST_LOAD: Duration = Duration::from_secs(20);
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(120);

/// How long answers and loads took lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    answer: Duration,
    load: Duration,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { answer: FIRST_ANSWER, load: FIRST_LOAD }
    }
}

impl Estimate {
    /// An answer took `time`: weighs one eighth.
    pub fn answered(&mut self, time: Duration) {
        self.answer = (self.answer * 7 + time) / 8;
    }

    /// A load took `time`.
    pub fn loaded(&mut self, time: Duration) {
        self.load = time;
    }

    /// Until a full queue has a free place.
    pub fn place(&self) -> Duration {
        self.answer.clamp(SOONEST, LATEST)
    }

    /// Until a worker is ready that starts in `wait`, or has been loading for `loading`.
    pub fn ready(&self, wait: Duration, loading: Duration) -> Duration {
        (wait + self.load.saturating_sub(loading)).clamp(SOONEST, LATEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_what_was_seen_within_bounds() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.place(), FIRST_ANSWER);
        for _ in 0..100 {
            estimate.answered(Duration::from_millis(10));
        }
        assert_eq!(estimate.place(), SOONEST);
        estimate.loaded(Duration::from_secs(40));
        assert_eq!(estimate.ready(Duration::from_secs(2), Duration::ZERO), Duration::from_secs(42));
        assert_eq!(estimate.ready(Duration::ZERO, Duration::from_secs(90)), SOONEST);
        estimate.loaded(Duration::from_secs(4000));
        assert_eq!(estimate.ready(Duration::ZERO, Duration::ZERO), LATEST);
    }
}
