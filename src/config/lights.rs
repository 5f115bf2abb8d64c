use serde::{Deserialize, Serialize};

use super::section::{Findings, Section};

/// How the lights are driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// The kernel's LEDs where they exist, else pins on a Raspberry Pi, else none.
    #[default]
    Auto,
    /// LEDs of the kernel's LED class.
    Leds,
    /// GPIO pins.
    Gpio,
    None,
}

/// What makes a pin's light shine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    #[default]
    ActiveHigh,
    ActiveLow,
}

/// `[lights]`: a status light and a fault light.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lights {
    pub driver: Driver,
    /// Names in the kernel's LED class.
    pub status_led: String,
    pub fault_led: String,
    /// GPIO numbers (BCM).
    pub status_pin: u8,
    pub fault_pin: u8,
    pub polarity: Polarity,
    /// What the lights look like, for status pages and people on the telephone.
    pub status_colour: String,
    pub fault_colour: String,
}

impl Default for Lights {
    fn default() -> Self {
        Self {
            driver: Driver::Auto,
            status_led: "llm8850:status".into(),
            fault_led: "llm8850:fault".into(),
            status_pin: 23,
            fault_pin: 24,
            polarity: Polarity::ActiveHigh,
            status_colour: "green".into(),
            fault_colour: "red".into(),
        }
    }
}

impl Section for Lights {
    const NAME: &'static str = "lights";

    fn check(&mut self, findings: &mut Findings) {
        let default = Self::default();
        findings.range("status_pin", &mut self.status_pin, 0..=27, default.status_pin);
        findings.range("fault_pin", &mut self.fault_pin, 0..=27, default.fault_pin);
        if self.status_pin == self.fault_pin {
            findings.wrong("fault_pin", format!("is {}, as `status_pin`: use two pins", self.fault_pin));
            (self.status_pin, self.fault_pin) = (default.status_pin, default.fault_pin);
        }
        for (key, name, fallback) in [
            ("status_led", &mut self.status_led, default.status_led),
            ("fault_led", &mut self.fault_led, default.fault_led),
        ] {
            if name.is_empty() || name.contains('/') {
                findings.wrong(key, format!("is {name:?}: write a name found in /sys/class/leds"));
                *name = fallback;
            }
        }
    }
}
