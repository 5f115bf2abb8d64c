//! What the card helper can be asked for, and what it says. One JSON value per line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::{Failure, Fault};

/// Whatever an order's pace, it has at least this long.
const SHORTEST: Duration = Duration::from_secs(5);

/// The closed list of what the helper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Look, change nothing.
    Probe,
    /// Restart the card through its driver (R2).
    CardReboot,
    /// Unload the driver's modules.
    ModulesOut,
    /// Load the driver's modules, which pushes the firmware.
    ModulesIn,
    /// Reset the card's slot (R4); only without modules.
    BusReset,
    /// Restart the host (R5).
    HostReboot,
}

impl Verb {
    pub const ALL: [Self; 6] =
        [Self::Probe, Self::CardReboot, Self::ModulesOut, Self::ModulesIn, Self::BusReset, Self::HostReboot];

    /// Its name on the wire and in the journal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::CardReboot => "card-reboot",
            Self::ModulesOut => "modules-out",
            Self::ModulesIn => "modules-in",
            Self::BusReset => "bus-reset",
            Self::HostReboot => "host-reboot",
        }
    }

    /// The helper gives up after this long.
    pub const fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::Probe => 75,
            Self::CardReboot | Self::ModulesIn => 300,
            Self::ModulesOut => 120,
            Self::BusReset => 30,
            Self::HostReboot => 90,
        })
    }

    /// What it is called when it does not end in time.
    pub const fn fault(self) -> Fault {
        match self {
            Self::Probe => Fault::Helper,
            Self::CardReboot => Fault::CardStall,
            Self::ModulesOut | Self::ModulesIn => Fault::Modules,
            Self::BusReset => Fault::Bus,
            Self::HostReboot => Fault::HostReboot,
        }
    }

    /// The verb with this [`Self::name`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

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
