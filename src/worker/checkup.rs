//! When the card is asked how it is.

use std::time::{Duration, Instant};

/// Asking takes several commands on the card, and no engine runs behind the one under way meanwhile.
pub struct Checkup {
    asked: Instant,
    took: Duration,
    /// Who has had an answer may go on at once.
    quiet: Instant,
}

impl Checkup {
    const INTERVAL: Duration = Duration::from_secs(8);
    /// Of the time between, asking may cost a fiftieth where nobody waits,
    const RESTING: u32 = 50;
    /// and a two-hundredth where somebody waits for tokens.
    const ANSWERING: u32 = 200;
    /// A card that has answered rests after so long.
    const QUIET: Duration = Duration::from_millis(500);

    /// The card was asked at `asked` and had told after `took`.
    pub fn new(asked: Instant, took: Duration) -> Self {
        Self { asked, took, quiet: asked }
    }

    /// An answer ended.
    pub fn answered(&mut self, now: Instant) {
        self.quiet = now + Self::QUIET;
    }

    /// When to ask a card at rest.
    pub fn due(&self) -> Instant {
        self.after(Self::RESTING).max(self.quiet)
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

    #[test]
    fn a_card_that_has_just_answered_is_not_at_rest() {
        let (mut checkup, told) = checkup(100);
        let ended = told + Duration::from_secs(9);
        checkup.answered(ended);
        assert_eq!(checkup.due(), ended + Duration::from_millis(500));
        assert!(checkup.is_overdue(told + Duration::from_secs(20)), "one answer follows the other");
        checkup.answered(told);
        assert_eq!(checkup.due(), told + Duration::from_secs(8));
    }
}
