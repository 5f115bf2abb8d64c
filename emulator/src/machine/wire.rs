//! What a process with the card's library and the emulated machine tell each other, one JSON
//! value per line.

use serde::{Deserialize, Serialize};

use crate::card::code::Code;
use crate::card::condition::Condition;

/// What the library says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    Ask(Ask),
    /// The condition of this number is in force.
    Heard(u64),
}

/// What the library asks. One answer each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A process opens the driver. The connection is its attachment from now on.
    Attach { pid: u32, name: String },
    /// It wants ports on the card (the first axclrtSetDevice).
    Activate {},
    /// It gives them back.
    Release {},
    /// DEVICE_BOOT.
    Reboot {},
}

/// What the machine answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What is to be returned, if it went wrong.
    pub code: Option<Code>,
    /// Whether the driver lists a card.
    pub listed: bool,
}

/// What the machine says to the library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    Answer(Answer),
    /// Said whenever it changes, in time before an answer that depends on it.
    Condition {
        number: u64,
        condition: Condition,
    },
}

/// How one of the host's programs was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub program: String,
    pub arguments: Vec<String>,
}

/// How it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub exit: i32,
    pub stderr: String,
}

impl Ended {
    /// Exit code 1 and a line on stderr.
    pub fn failed(stderr: String) -> Self {
        Self { exit: 1, stderr }
    }
}
