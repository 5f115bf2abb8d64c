//! When it is worth trying again.

use std::time::Duration;

use crate::machine::{Rung, State};

const FIRST_ANSWER: Duration = Duration::from_secs(5);
const FIRST_LOAD: Duration = Duration::from_secs(20);
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(600);

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

    /// Until a worker is ready, from `state`, when the next one starts in `wait` or has been
    /// loading for `loading`.
    pub fn ready(&self, state: State, wait: Duration, loading: Duration) -> Duration {
        let act = match state {
            State::Recovering(rung) => act(rung),
            _ => Duration::ZERO,
        };
        (act + wait + self.load.saturating_sub(loading)).clamp(SOONEST, LATEST)
    }
}

/// How long a rung's act usually takes: what is published of drivers and firmware.
const fn act(rung: Rung) -> Duration {
    Duration::from_secs(match rung {
        Rung::R1 => 2,
        Rung::R2 => 30,
        Rung::R3 => 45,
        Rung::R4 => 60,
        Rung::R5 => 100,
    })
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
        assert_eq!(
            estimate.ready(State::Loading, Duration::from_secs(2), Duration::ZERO),
            Duration::from_secs(42)
        );
        assert_eq!(estimate.ready(State::Loading, Duration::ZERO, Duration::from_secs(90)), SOONEST);
        let climbing = estimate.ready(State::Recovering(Rung::R3), Duration::ZERO, Duration::ZERO);
        assert_eq!(climbing, Duration::from_secs(85));
        estimate.loaded(Duration::from_secs(4000));
        assert_eq!(estimate.ready(State::Loading, Duration::ZERO, Duration::ZERO), LATEST);
    }
}
