//! How long things take on the emulated host, and what it does by choice.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Changed when the machine starts or by the command `set`. Short by default, so that tests
/// are; [`Settings::real`] is as on a Raspberry Pi 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Loading `axcl_host`, which pushes the firmware.
    pub modprobe_ms: u64,
    /// Unloading `axcl_host`, which resets the chip.
    pub rmmod_ms: u64,
    /// A restart of the card by its driver.
    pub reboot_ms: u64,
    /// How long a request for ports is held before it is refused.
    pub port_hold_ms: u64,
    /// Silence after which the driver declares the card dead.
    pub heartbeat_ms: u64,
    /// The same for the first heartbeat after the firmware was pushed.
    pub first_heartbeat_ms: u64,
    /// Between the lines `device 1: dead!`.
    pub dead_repeat_ms: u64,
    /// From the end of a slot's reset until its link is up.
    pub link_up_ms: u64,
    /// Whether a host reboot resets the chip, as PERST# should.
    pub reboot_resets_card: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            modprobe_ms: 50,
            rmmod_ms: 10,
            reboot_ms: 100,
            port_hold_ms: 100,
            heartbeat_ms: 100,
            first_heartbeat_ms: 200,
            dead_repeat_ms: 1000,
            link_up_ms: 20,
            reboot_resets_card: true,
        }
    }
}

impl Settings {
    /// As reported for the real thing; loading and restart are estimates.
    pub fn real() -> Self {
        Self {
            modprobe_ms: 12_000,
            rmmod_ms: 2000,
            reboot_ms: 12_000,
            port_hold_ms: 50_000,
            heartbeat_ms: 9000,
            first_heartbeat_ms: 50_000,
            dead_repeat_ms: 20_000,
            link_up_ms: 100,
            reboot_resets_card: true,
        }
    }

    /// These settings with the given ones changed.
    ///
    /// # Errors
    /// What is wrong with a given one.
    pub fn with(&self, changes: &Value) -> Result<Self, String> {
        let changes = changes.as_object().ok_or("settings are a JSON object")?;
        let mut all = serde_json::to_value(self).map_err(|e| e.to_string())?;
        if let Some(all) = all.as_object_mut() {
            all.extend(changes.clone());
        }
        serde_json::from_value(all).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn single_settings_change_and_unknown_ones_are_refused() {
        let settings = Settings::default().with(&json!({"reboot_ms": 5})).unwrap();
        assert_eq!(settings, Settings { reboot_ms: 5, ..Settings::default() });
        assert!(Settings::default().with(&json!({"reboot_s": 5})).unwrap_err().contains("reboot_s"));
        assert!(Settings::default().with(&json!(5)).is_err());
    }
}
