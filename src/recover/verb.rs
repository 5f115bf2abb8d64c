//! What the card helper can be asked for, and what it says. One JSON value per line.

use serde::{Deserialize, Serialize};

use crate::fault::Failure;

pub use crate::machine::Verb;

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
