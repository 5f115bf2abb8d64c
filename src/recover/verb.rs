//! What the card helper can be asked for, and what it says. One JSON value per line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::Failure;

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
