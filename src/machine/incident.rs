//! One incident: from the first fault until the card has proved itself again.

use std::time::Duration;

use super::ladder::{Call, budgets, call};
use super::state::Rung;
use crate::fault::Fault;

/// What is known of the incident under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What it began with.
    pub first: Fault,
    /// What was seen last.
    pub latest: Fault,
    pub since: Duration,
    /// Faults seen, in order.
    seen: Vec<Fault>,
    /// The lowest rung still worth trying: acts of the lower ones failed.
    floor: Rung,
    /// The hardest rung worth trying: beyond it a person must help first.
    cap: Rung,
    /// The last rung used.
    pub rung: Option<Rung>,
    /// How often it was used in a row.
    tries: usize,
}

/// Faults remembered of one incident.
const MOST: usize = 64;

impl Incident {
    pub fn new(fault: Fault, now: Duration) -> Self {
        let (seen, floor, cap) = (vec![fault], Rung::R1, Rung::R5);
        Self { first: fault, latest: fault, since: now, seen, floor, cap, rung: None, tries: 0 }
    }

    /// Another fault before the card proved itself.
    pub fn see(&mut self, fault: Fault) {
        self.latest = fault;
        if self.seen.len() < MOST {
            self.seen.push(fault);
        }
    }

    /// `rung` is used. One that did not help as often as its budget lets it be used will not
    /// help either when time has filled the budget up again.
    pub fn used(&mut self, rung: Rung) {
        self.tries = if self.rung == Some(rung) { self.tries + 1 } else { 1 };
        self.rung = Some(rung);
        if budgets(rung).iter().any(|budget| self.tries >= budget.most) {
            self.failed(rung);
        }
    }

    /// The act of `rung` itself failed.
    pub fn failed(&mut self, rung: Rung) {
        self.floor = rung.next().unwrap_or(rung);
    }

    /// The act of `rung` found `fault`, which only a person can mend.
    pub fn hopeless(&mut self, rung: Rung, fault: Fault) {
        self.see(fault);
        self.cap = rung;
    }

    /// After a rest everything above the first rung is worth another try.
    pub fn renew(&mut self) {
        self.seen = vec![self.latest];
        self.tries = 0;
        self.floor = match call(self.latest) {
            Call::Climb { last: Rung::R1, .. } | Call::Person => Rung::R1,
            Call::Climb { .. } => Rung::R2,
        };
    }

    /// The range of rungs worth trying; `None` where only a person can help.
    pub fn range(&self) -> Option<(Rung, Rung)> {
        let Call::Climb { first, again, last } = call(self.latest) else { return None };
        let times = self.seen.iter().filter(|&&fault| fault == self.latest).count();
        // What an earlier fault of this incident called for stays called for.
        let called = self.seen.iter().filter_map(|&fault| match call(fault) {
            Call::Climb { first, .. } => Some(first),
            Call::Person => None,
        });
        let hardest = called.max().unwrap_or(first);
        let first = if times > 1 { again } else { first };
        Some((first.max(hardest).max(self.floor), last.min(self.cap)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Rung::{R1, R2, R3, R4, R5};

    #[test]
    fn the_range_follows_the_evidence() {
        let mut incident = Incident::new(Fault::CardStall, Duration::ZERO);
        assert_eq!(incident.range(), Some((R1, R5)));
        incident.see(Fault::CardStall);
        assert_eq!(incident.range(), Some((R2, R5)), "a second stall is the card's");
        incident.failed(R2);
        assert_eq!(incident.range(), Some((R3, R5)));
        incident.see(Fault::CardLink);
        assert_eq!(incident.range(), Some((R4, R5)));
        incident.see(Fault::WorkerExit);
        assert_eq!(incident.range(), Some((R4, R5)), "the link is not forgotten");
    }

    #[test]
    fn what_did_not_help_is_not_tried_for_ever() {
        let mut incident = Incident::new(Fault::CardDead, Duration::ZERO);
        incident.used(R2);
        assert_eq!(incident.range(), Some((R2, R5)));
        incident.used(R2);
        assert_eq!(incident.range(), Some((R3, R5)));
        incident.used(R4);
        incident.used(R4);
        assert_eq!(incident.range(), Some((R5, R5)));
        incident.renew();
        assert_eq!(incident.range(), Some((R2, R5)));
    }

    #[test]
    fn what_only_a_person_can_mend_is_not_climbed_for() {
        let mut incident = Incident::new(Fault::CardDead, Duration::ZERO);
        incident.see(Fault::ModelMissing);
        assert_eq!(incident.range(), None);
        incident.renew();
        assert_eq!(incident.range(), None);
    }

    #[test]
    fn what_waits_for_a_person_is_not_climbed_beyond() {
        let mut incident = Incident::new(Fault::CardDriver, Duration::ZERO);
        incident.hopeless(R3, Fault::FirmwareMissing);
        assert_eq!(incident.range(), None);
        incident.renew();
        incident.see(Fault::CardDriver);
        assert_eq!(incident.range(), Some((R3, R3)), "the host is not restarted for a missing file");
    }

    #[test]
    fn after_a_rest_the_card_itself_is_tried_first() {
        let mut incident = Incident::new(Fault::WorkerExit, Duration::ZERO);
        incident.failed(R5);
        incident.renew();
        assert_eq!(incident.range(), Some((R2, R5)));
        let mut slow = Incident::new(Fault::CardSlow, Duration::ZERO);
        slow.renew();
        assert_eq!(slow.range(), Some((R1, R1)));
    }
}
