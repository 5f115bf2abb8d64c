//! What the card helper is sent for, and in which order.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::Rung;
use crate::fault::Fault;

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

/// What the helper is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Find card and driver, and load the driver where it is missing.
    Look,
    /// A rung above the first.
    Climb(Rung),
}

/// A sequence of verbs under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand {
    pub purpose: Purpose,
    /// Verbs done so far.
    done: usize,
    /// Whether the driver must be loaded at the end of a look.
    load: bool,
}

impl Errand {
    pub const fn new(purpose: Purpose) -> Self {
        Self { purpose, done: 0, load: false }
    }

    const fn verbs(&self) -> &'static [Verb] {
        match self.purpose {
            Purpose::Look if self.load => &[Verb::Probe, Verb::ModulesIn],
            Purpose::Look => &[Verb::Probe],
            // R1 needs no helper.
            Purpose::Climb(Rung::R1) => &[],
            Purpose::Climb(Rung::R2) => &[Verb::CardReboot],
            Purpose::Climb(Rung::R3) => &[Verb::ModulesOut, Verb::ModulesIn],
            Purpose::Climb(Rung::R4) => &[Verb::ModulesOut, Verb::BusReset, Verb::ModulesIn],
            Purpose::Climb(Rung::R5) => &[Verb::HostReboot],
        }
    }

    /// What the helper is at, or is to begin; `None` when all is done.
    pub fn verb(&self) -> Option<Verb> {
        self.verbs().get(self.done).copied()
    }

    /// The present verb is done.
    pub fn advance(&mut self) {
        self.done += 1;
    }

    /// Whether the driver was found missing.
    pub const fn loads_driver(&self) -> bool {
        self.load
    }

    /// The driver was found missing.
    pub fn load_driver(&mut self) {
        self.load = true;
    }
}
