//! What the card helper can be asked for, and what it says. One JSON value per line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::Failure;
pub use crate::machine::Verb;

/// Whatever an order's pace, it has at least this long.
const SHORTEST: Duration = Duration::from_secs(5);

/// What the helper is asked: the only line it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub verb: Verb,
    /// Divides its deadline: for tests.
    #[serde(default = "one")]
    pub pace: f64,
}

impl Order {
    /// How long the helper may take.
    pub fn deadline(&self) -> Duration {
        self.hasten(self.verb.deadline()).max(SHORTEST)
    }

    /// `time` at this order's pace; a pace that makes no sense is 1.
    pub fn hasten(&self, time: Duration) -> Duration {
        let pace = if self.pace.is_finite() { self.pace.clamp(1.0, 1000.0) } else { 1.0 };
        time.div_f64(pace)
    }
}

const fn one() -> f64 {
    1.0
}

/// What the helper says: any number of `Step`, then `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What it does now, for the journal.
    Step(String),
    Done(Option<Facts>),
    Failed(Failure),
}

/// What a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The card's PCI function, e.g. `0001:01:00.0`.
    pub pci: Option<String>,
    /// Loaded modules of the driver.
    pub modules: Vec<String>,
    /// Whether the driver's node exists.
    pub node: bool,
    /// Whether the firmware file is installed.
    pub firmware: bool,
    /// Processes that hold the driver's nodes: number and name.
    pub holders: Vec<(u32, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_named_as_they_travel() {
        for verb in Verb::ALL {
            assert_eq!(serde_json::to_value(verb).unwrap(), verb.name());
            assert_eq!(Verb::named(verb.name()), Some(verb));
        }
        assert_eq!(Verb::named("format-disk"), None);
    }

    #[test]
    fn a_pace_hastens_but_never_below_five_seconds() {
        let deadline = |verb, pace| Order { verb, pace }.deadline().as_secs();
        assert_eq!(deadline(Verb::ModulesIn, 1.0), 300);
        assert_eq!(deadline(Verb::ModulesIn, 10.0), 30);
        assert_eq!(deadline(Verb::BusReset, 1000.0), 5);
        for nonsense in [0.0, -3.0, f64::NAN, f64::INFINITY] {
            assert_eq!(deadline(Verb::BusReset, nonsense), 30);
        }
    }
}
