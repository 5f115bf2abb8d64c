//! What is kept of the slots over restarts. Both slots' versions of this program read it: what
//! one does not know it leaves out, what is missing is the default.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A boot and a root partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// Its name, for RAUC as for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The slot of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.name().eq_ignore_ascii_case(name))
    }

    /// The number of its boot partition.
    pub const fn partition(self) -> u32 {
        match self {
            Self::A => 2,
            Self::B => 3,
        }
    }

    /// The slot with this boot partition.
    pub fn of_partition(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.partition() == number)
    }

    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of a slot's contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Never judged.
    #[default]
    Untested,
    /// Judged good once.
    Good,
    Bad,
}

/// How a slot was judged good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// The address at which the service answered; empty where a person judged.
    pub address: String,
    /// Whether that was one of the local network.
    pub network: bool,
    /// What computed the answer.
    pub by: String,
    /// Seconds since 1970, by a clock that may have been wrong.
    pub at: u64,
}

/// One slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Of its contents; empty where it never ran.
    pub version: String,
    pub state: State,
    /// Why it is bad.
    pub why: String,
    /// Of the last time it was judged good.
    pub verdict: Option<Verdict>,
}

/// The slot that is to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub slot: Slot,
    /// How often its start was ordered.
    pub attempts: u32,
}

/// Everything that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub a: Kept,
    pub b: Kept,
    pub trial: Option<Trial>,
    /// The slot that the firmware was last seen to start by itself.
    pub committed: Option<Slot>,
    /// How often that one was started since it was last judged good.
    pub starts: u32,
    /// No version below this one is installed.
    pub floor: String,
}

impl Record {
    pub fn slot(&self, slot: Slot) -> &Kept {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }

    pub fn slot_mut(&mut self, slot: Slot) -> &mut Kept {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    /// Marks a slot bad.
    pub fn condemn(&mut self, slot: Slot, why: impl Into<String>) {
        let kept = self.slot_mut(slot);
        (kept.state, kept.why) = (State::Bad, why.into());
    }

    pub fn is_good(&self, slot: Slot) -> bool {
        self.slot(slot).state == State::Good
    }
}
