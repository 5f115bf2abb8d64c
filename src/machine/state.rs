//! What the appliance is in, as people, clients and lights are told.

use std::fmt;

use serde::Serialize;

/// A step of the recovery ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Rung {
    /// The worker is replaced.
    R1,
    /// The card is restarted through its driver.
    R2,
    /// The driver's modules are unloaded and loaded.
    R3,
    /// The card's slot is reset.
    R4,
    /// The host is restarted.
    R5,
}

impl Rung {
    pub const ALL: [Self; 5] = [Self::R1, Self::R2, Self::R3, Self::R4, Self::R5];

    /// From 1 to 5.
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The next harder one.
    pub fn next(self) -> Option<Self> {
        Self::ALL.get(usize::from(self.number())).copied()
    }

    /// What is done, as half a sentence.
    pub const fn act(self) -> &'static str {
        match self {
            Self::R1 => "the worker is replaced",
            Self::R2 => "the card is restarted",
            Self::R3 => "the driver is loaded anew",
            Self::R4 => "the card's slot is reset",
            Self::R5 => "the host is restarted",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.number())
    }
}

/// The appliance's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "rung")]
pub enum State {
    /// The supervisor has just started.
    #[default]
    Booting,
    /// Card and driver are looked at.
    Probing,
    /// A worker loads the model and answers the test prompt.
    Loading,
    /// Requests are answered at once.
    Ready,
    /// A request is being answered.
    Busy,
    /// Something does not fit: it is being confirmed.
    Suspect,
    /// A fault is being dealt with.
    Recovering(Rung),
    /// The small model answers on the CPU.
    Degraded,
    /// Nothing answers; the card is tried again on schedule.
    Parked,
    /// As parked: there is no card.
    NoCard,
    /// The card is too hot and rests.
    ThermalHold,
    /// No new requests are taken.
    Stopping,
}

impl State {
    /// Its name on the wire, in the journal and in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Probing => "probing",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Suspect => "suspect",
            Self::Recovering(_) => "recovering",
            Self::Degraded => "degraded",
            Self::Parked => "parked",
            Self::NoCard => "no_card",
            Self::ThermalHold => "thermal_hold",
            Self::Stopping => "stopping",
        }
    }
}
