//! Which rung a fault calls for, and how often each may be used.
//!
//! Budgets count in *operating time*, which goes on over restarts of supervisor and host
//! and knows no clock jumps: see `ledger`.

use std::time::Duration;

use super::state::Rung;
use crate::fault::Fault;

const fn minutes(number: u64) -> Duration {
    Duration::from_secs(60 * number)
}

/// At most `most` uses within `span`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub most: usize,
    pub span: Duration,
}

const fn budget(most: usize, span: Duration) -> Budget {
    Budget { most, span }
}

/// The budgets of a rung; all must allow it.
pub const fn budgets(rung: Rung) -> &'static [Budget] {
    const R1: &[Budget] = &[budget(3, minutes(10))];
    const R2_TO_R4: &[Budget] = &[budget(2, minutes(60))];
    const R5: &[Budget] = &[budget(1, minutes(30)), budget(3, minutes(24 * 60))];
    match rung {
        Rung::R1 => R1,
        Rung::R2 | Rung::R3 | Rung::R4 => R2_TO_R4,
        Rung::R5 => R5,
    }
}

/// So many boots within so long are a boot loop …
pub const LOOP: Budget = budget(3, minutes(10));
/// … after which the host is not restarted for this long.
pub const CALM: Duration = minutes(6 * 60);

/// What a fault calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Nothing but a person helps: the worker is tried again now and then.
    Person,
    /// The ladder from the first rung given; from the second where the fault came before in
    /// this incident; up to the third.
    Climb { first: Rung, again: Rung, last: Rung },
}

/// What `fault` calls for.
pub const fn call(fault: Fault) -> Call {
    use Rung::{R1, R2, R3, R4, R5};
    let (first, again, last) = match fault {
        Fault::WorkerExit | Fault::WorkerLink | Fault::CardCall | Fault::Internal => (R1, R1, R5),
        Fault::CardStall | Fault::CardOutput | Fault::CardMemory | Fault::CardPorts => (R1, R2, R5),
        Fault::Golden | Fault::SelfTest => (R1, R2, R4),
        Fault::ModelEngine => (R1, R2, R3),
        Fault::CardSlow | Fault::WorkerStart => (R1, R1, R1),
        Fault::CardDead => (R2, R2, R5),
        Fault::CardDriver | Fault::Firmware | Fault::Modules => (R3, R3, R5),
        Fault::CardAbsent => (R4, R4, R4),
        Fault::CardLink | Fault::Bus => (R4, R4, R5),
        Fault::TaskStuck => (R5, R5, R5),
        _ => return Call::Person,
    };
    Call::Climb { first, again, last }
}

/// What was used, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    /// In order of time.
    used: Vec<(Rung, Duration)>,
    /// When the host was started, in order of time.
    boots: Vec<Duration>,
}

impl Ladder {
    /// With what was used before.
    pub fn new(mut used: Vec<(Rung, Duration)>, mut boots: Vec<Duration>) -> Self {
        used.sort_by_key(|&(_, at)| at);
        boots.sort();
        Self { used, boots }
    }

    /// Whether `rung` may be used at `now`.
    pub fn allows(&self, rung: Rung, now: Duration) -> bool {
        let within = |budget: &Budget| {
            let since = |at: Duration| now.saturating_sub(at) < budget.span;
            self.used.iter().filter(|&&(used, at)| used == rung && since(at)).count() < budget.most
        };
        budgets(rung).iter().all(within) && (rung != Rung::R5 || !self.looping(now))
    }

    /// Whether the host was lately in a boot loop.
    fn looping(&self, now: Duration) -> bool {
        self.boots.windows(LOOP.most).any(|boots| match boots {
            [first, .., last] => last.saturating_sub(*first) < LOOP.span && now.saturating_sub(*last) < CALM,
            _ => false,
        })
    }

    /// Uses `rung`.
    pub fn take(&mut self, rung: Rung, now: Duration) {
        // Longer ago than any budget looks.
        self.used.retain(|&(_, at)| now.saturating_sub(at) <= minutes(24 * 60));
        self.used.push((rung, now));
    }

    /// The lowest rung from `first` to `last` that may be used.
    pub fn choose(&self, first: Rung, last: Rung, now: Duration) -> Option<Rung> {
        Rung::ALL.into_iter().find(|&rung| rung >= first && rung <= last && self.allows(rung, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Rung::{R1, R2, R3, R4, R5};

    const M: fn(u64) -> Duration = minutes;

    #[test]
    fn each_budget_is_kept_and_comes_back_with_time() {
        for rung in Rung::ALL {
            for budget in budgets(rung) {
                let mut ladder = Ladder::default();
                // Spread so that only this budget is at its end.
                let step = budget.span / u32::try_from(budget.most).unwrap();
                let times: Vec<Duration> =
                    (0..budget.most).map(|i| step * u32::try_from(i).unwrap()).collect();
                for &at in &times {
                    assert!(ladder.allows(rung, at), "{rung} at {at:?}");
                    ladder.take(rung, at);
                }
                let end = budget.span - Duration::from_secs(1);
                assert!(!ladder.allows(rung, end), "{rung} {budget:?}");
                assert!(ladder.allows(rung, budget.span), "{rung} {budget:?}");
            }
        }
    }

    #[test]
    fn the_lowest_rung_left_is_chosen_within_bounds() {
        let mut ladder = Ladder::default();
        let mut chosen = Vec::new();
        while let Some(rung) = ladder.choose(R1, R5, M(1)) {
            ladder.take(rung, M(1));
            chosen.push(rung);
        }
        assert_eq!(chosen, [R1, R1, R1, R2, R2, R3, R3, R4, R4, R5]);
        assert_eq!(ladder.choose(R1, R5, M(12)), Some(R1));
        assert_eq!(ladder.choose(R2, R5, M(12)), None);
        assert_eq!(Ladder::default().choose(R4, R4, M(0)), Some(R4));
        assert_eq!(Ladder::default().choose(R4, R3, M(0)), None);
    }

    #[test]
    fn three_boots_in_ten_minutes_end_restarts_for_six_hours() {
        let boots = vec![M(100), M(103), M(109)];
        let ladder = Ladder::new(Vec::new(), boots);
        assert!(!ladder.allows(R5, M(110)));
        assert!(!ladder.allows(R5, M(109 + 359)));
        assert!(ladder.allows(R5, M(109 + 360)));
        assert!(ladder.allows(R4, M(110)), "other rungs are free");
        let slow = Ladder::new(Vec::new(), vec![M(100), M(105), M(110)]);
        assert!(slow.allows(R5, M(111)));
    }

    #[test]
    fn every_fault_has_its_call_and_no_range_is_empty() {
        for &fault in Fault::ALL {
            if let Call::Climb { first, again, last } = call(fault) {
                assert!(first <= again && again <= last, "{fault}");
            }
        }
        assert_eq!(call(Fault::ModelMissing), Call::Person);
        assert_eq!(call(Fault::CardDead), Call::Climb { first: R2, again: R2, last: R5 });
    }
}
