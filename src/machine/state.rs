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

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
            Self::R4 => "R4",
            Self::R5 => "R5",
        }
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
        f.write_str(self.name())
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
    /// Every state; those with a rung once for each.
    pub const ALL: [Self; 16] = [
        Self::Booting,
        Self::Probing,
        Self::Loading,
        Self::Ready,
        Self::Busy,
        Self::Suspect,
        Self::Recovering(Rung::R1),
        Self::Recovering(Rung::R2),
        Self::Recovering(Rung::R3),
        Self::Recovering(Rung::R4),
        Self::Recovering(Rung::R5),
        Self::Degraded,
        Self::Parked,
        Self::NoCard,
        Self::ThermalHold,
        Self::Stopping,
    ];

    /// What it means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Booting => "the supervisor has just started",
            Self::Probing => "card and driver are looked for, the driver is loaded",
            Self::Loading => "a worker loads the model and answers the test prompt",
            Self::Ready => "requests are answered at once",
            Self::Busy => "a request is being answered",
            Self::Suspect => "the test prompt was answered wrongly once, and is asked again",
            Self::Recovering(rung) => rung.act(),
            Self::Degraded => "the small model answers on the CPU; the card is tried again on schedule",
            Self::Parked => "nothing answers; the card is tried again on schedule",
            Self::NoCard => "as parked: there is no card. It is used as soon as it appears",
            Self::ThermalHold => "the card is too hot and rests",
            Self::Stopping => "the service is stopping",
        }
    }

    /// What becomes of a request that comes now.
    pub const fn new_requests(self) -> &'static str {
        match self {
            Self::Booting | Self::Probing | Self::ThermalHold => "held up to `hold_s`, then 503",
            Self::Recovering(Rung::R5) | Self::Parked | Self::NoCard | Self::Stopping => "503",
            Self::Loading | Self::Suspect | Self::Recovering(_) => {
                "held while the estimate fits the request's time, else 503"
            }
            Self::Ready => "answered",
            Self::Busy => "queued, 429 when the queue is full",
            Self::Degraded => "answered by the small model",
        }
    }

    /// What becomes of an answer under way.
    pub const fn running_requests(self) -> &'static str {
        match self {
            Self::Booting | Self::Probing => "–",
            Self::Ready | Self::Busy => "goes on",
            Self::Loading | Self::Suspect | Self::Recovering(Rung::R1 | Rung::R2 | Rung::R3 | Rung::R4) => {
                "held, then continued at the next token"
            }
            Self::Recovering(Rung::R5) => "ended with `E-INTERRUPTED`",
            Self::Degraded => "begun anew where nothing was sent yet, else it waits for the card",
            Self::Parked | Self::NoCard => {
                "waits for the next try where its time allows, else ended with an error"
            }
            Self::ThermalHold | Self::Stopping => "completed",
        }
    }

    /// What `/readyz` says, given a worker that answers pings.
    pub const fn readiness(self) -> &'static str {
        match self {
            Self::Ready | Self::Busy => "200",
            Self::Degraded => "200, `degraded`",
            _ => "503",
        }
    }

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
