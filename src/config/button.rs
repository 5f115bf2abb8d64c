use serde::{Deserialize, Serialize};

use super::section::{Findings, Section};

/// `[button]`: held, it asks for a factory reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Button {
    /// GPIO number (BCM) of the pin that it connects to ground. None: there is no button.
    pub pin: Option<u8>,
}

impl Section for Button {
    const NAME: &'static str = "button";

    fn check(&mut self, findings: &mut Findings) {
        if let Some(pin) = self.pin.filter(|pin| *pin > 27) {
            findings.wrong("pin", format!("is {pin}: write 0 to 27"));
            self.pin = None;
        }
    }
}
