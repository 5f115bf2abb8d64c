//! When the card is asked how it is.

use std::time::{Duration, Instant};

/// Asking takes several commands on the card, and no engine runs behind the one under way meanwhile.
pub struct Checkup {
    asked: Instant,
    took: Duration,
}

impl Checkup {
    const INTERVAL: Duration = Duration::from_secs(8);
    /// Of the time between, asking may cost a fiftieth where nobody waits,
    const RESTING: u32 = 50;
    /// and a two-hundredth where somebody waits for tokens.
    const ANSWERING: u32 = 200;

    /// The card was asked at `asked` and had told after `took`.
    pub fn new(asked: Instant, took: Duration) -> Self {
        Self { asked, took }
    }

    /// When to ask a card at rest.
    pub fn due(&self) -> Instant {
        self.after(Self::RESTING)
    }

    /// Whether to ask during an answer.
    pub fn is_overdue(&self, now: Instant) -> bool {
        now >= self.after(Self::ANSWERING)
    }

    fn after(&self, share: u32) -> Instant {
        self.asked + self.took + Self::INTERVAL.max(self.took.saturating_mul(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkup(took_ms: u64) -> (Checkup, Instant) {
        let now = Instant::now();
        let took = Duration::from_millis(took_ms);
        (Checkup::new(now, took), now + took)
    }

    #[test]
    fn a_quick_card_is_asked_every_eight_seconds_whatever_it_does() {
        let (checkup, told) = checkup(1);
        assert_eq!(checkup.due(), told + Duration::from_secs(8));
        assert!(!checkup.is_overdue(told + Duration::from_millis(7999)));
        assert!(checkup.is_overdue(told + Duration::from_secs(8)));
    }

    #[test]
    fn a_slow_card_is_asked_later_and_later_still_during_an_answer() {
        let (checkup, told) = checkup(100);
        assert_eq!(checkup.due(), told + Duration::from_secs(8));
        assert!(!checkup.is_overdue(told + Duration::from_millis(19_999)));
        assert!(checkup.is_overdue(told + Duration::from_secs(20)));
        let (checkup, told) = self::checkup(1000);
        assert_eq!(checkup.due(), told + Duration::from_secs(50));
        assert!(checkup.is_overdue(told + Duration::from_secs(200)));
    }
}
