//! What can be broken, and what mends it.

use std::ffi::CString;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Steps of recovery, weakest first. Each mends what the weaker ones mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rung {
    /// The end of a process that used the card.
    R1,
    /// The card's restart by its driver.
    R2,
    /// Unloading the driver.
    R3,
    /// The slot's reset.
    R4,
    /// The host's reboot.
    R5,
    /// Nothing but the command `heal`.
    #[serde(rename = "never")]
    Never,
}

/// What blocking calls do once the driver has declared the card dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    #[default]
    Fail,
    Hang,
}

/// Where a firmware push fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushStep {
    /// A part is not acknowledged.
    #[default]
    Chunk,
    /// The card's system does not come up.
    Handshake,
}

const fn one() -> u64 {
    1
}

fn axcl_host() -> String {
    "axcl_host".into()
}

/// The kinds of breakage. `times` and `starts` 0 is without end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// No heartbeat.
    Dead {
        #[serde(default)]
        calls: Calls,
    },
    /// Calls that wait for the card never return; the heartbeat goes on.
    Stuck {},
    /// No ports are to be had; every try loses four of the driver's.
    Ports {
        #[serde(default)]
        starts: u64,
        hold_ms: Option<u64>,
    },
    /// The card reads as all ones.
    LinkLost {
        #[serde(default)]
        calls: Calls,
    },
    /// The link is slower or narrower than it was.
    LinkDrop { speed: Option<String>, width: Option<u32> },
    /// The card is not on the bus.
    Absent { appears_ms: Option<u64> },
    /// Killed processes leave card memory in use.
    Memory {
        mib: u64,
        #[serde(default)]
        now: bool,
    },
    /// The firmware's file is not there.
    FirmwareMissing {},
    /// Pushing the firmware fails.
    FirmwareFails {
        #[serde(default)]
        at: PushStep,
        #[serde(default = "one")]
        times: u64,
    },
    /// Loading a module never ends.
    ModprobeHangs {
        #[serde(default = "axcl_host")]
        module: String,
    },
    /// A module cannot be unloaded.
    RmmodInUse {
        #[serde(default = "axcl_host")]
        module: String,
        #[serde(default = "one")]
        times: u64,
    },
    /// The firmware is of another version than the library.
    Versions { firmware: CString },
    /// The card's temperature, thousandths of °C.
    Heat {
        from: i32,
        to: i32,
        #[serde(default)]
        over_ms: u64,
        /// The chip switches itself off here.
        reset_at: Option<i32>,
    },
    /// Executes take this many times as long.
    Slow { factor: f64 },
    /// Executes compute wrongly.
    Wrong {},
    /// The card's restart takes long or fails.
    Reboot {
        takes_ms: Option<u64>,
        #[serde(default)]
        fails: u64,
    },
    /// The host does not reboot unless forced.
    ShutdownHangs {
        #[serde(default = "one")]
        times: u64,
    },
}

impl Kind {
    /// What mends it unless said otherwise.
    pub const fn heals_at(&self) -> Rung {
        match self {
            Self::Dead { .. }
            | Self::Stuck {}
            | Self::Ports { .. }
            | Self::Memory { .. }
            | Self::Slow { .. }
            | Self::Wrong {} => Rung::R2,
            Self::Reboot { .. } => Rung::R3,
            // Every push follows a reset: the weaker ones must not mend it before it acts.
            Self::FirmwareFails { .. } | Self::LinkLost { .. } | Self::LinkDrop { .. } => Rung::R4,
            Self::ModprobeHangs { .. } | Self::RmmodInUse { .. } | Self::ShutdownHangs { .. } => Rung::R5,
            Self::Absent { .. } | Self::FirmwareMissing {} | Self::Versions { .. } | Self::Heat { .. } => {
                Rung::Never
            }
        }
    }

    /// Whether it does something at once, not only when something is tried.
    pub const fn acts_at_once(&self) -> bool {
        !matches!(
            self,
            Self::Ports { .. }
                | Self::Memory { now: false, .. }
                | Self::FirmwareFails { .. }
                | Self::ModprobeHangs { .. }
                | Self::RmmodInUse { .. }
                | Self::Reboot { .. }
                | Self::ShutdownHangs { .. }
        )
    }

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Slow { factor } if !factor.is_finite() || *factor < 1.0 => Err("`factor` is 1 or more"),
            Self::LinkDrop { speed: None, width: None } => Err("give `speed` or `width`"),
            Self::Reboot { takes_ms: None, fails: 0 } => Err("give `takes_ms` or `fails`"),
            _ => Ok(()),
        }
    }
}

/// Something that is to break.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Breakage {
    #[serde(flatten)]
    pub kind: Kind,
    pub heals_at: Rung,
}

impl Breakage {
    /// Reads a kind with its options and, where given, `heals_at`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_value(mut value: Value) -> Result<Self, String> {
        let object = value.as_object_mut().ok_or("a break is a JSON object")?;
        let heals_at = object.remove("heals_at").map(serde_json::from_value::<Rung>).transpose();
        let heals_at = heals_at.map_err(|e| format!("heals_at: {e}"))?;
        let kind: Kind = serde_json::from_value(value).map_err(|e| e.to_string())?;
        kind.check()?;
        let heals_at = heals_at.unwrap_or_else(|| kind.heals_at());
        Ok(Self { kind, heals_at })
    }

    /// Its kind's name.
    pub fn name(&self) -> String {
        let value = serde_json::to_value(&self.kind).unwrap_or_default();
        value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_break_is_read_with_its_defaults() {
        let read = |value| Breakage::from_value(value).unwrap();
        let dead = read(json!({"kind": "dead"}));
        assert_eq!(dead, Breakage { kind: Kind::Dead { calls: Calls::Fail }, heals_at: Rung::R2 });
        assert_eq!(dead.name(), "dead");
        assert_eq!(read(json!({"kind": "dead", "heals_at": "never"})).heals_at, Rung::Never);
        assert_eq!(
            read(json!({"kind": "rmmod_in_use", "module": "ax_pcie_msg"})).kind,
            Kind::RmmodInUse { module: "ax_pcie_msg".into(), times: 1 }
        );
        assert!(Rung::R2 < Rung::R4 && Rung::R5 < Rung::Never);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let refused = |value| Breakage::from_value(value).unwrap_err();
        assert!(refused(json!({"kind": "ded"})).contains("ded"));
        assert!(refused(json!({"kind": "dead", "cals": "hang"})).contains("cals"));
        assert!(refused(json!({"kind": "slow", "factor": 0.5})).contains("factor"));
        assert!(refused(json!({"kind": "dead", "heals_at": "R9"})).contains("heals_at"));
        assert!(refused(json!({"kind": "reboot"})).contains("takes_ms"));
        assert!(refused(json!([])).contains("object"));
    }
}
