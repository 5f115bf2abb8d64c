use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::section::{Findings, Section};

/// `[fallback]`: what answers, on the CPU, when the card cannot be brought back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fallback {
    /// A small model's directory. Empty: nothing answers without the card.
    pub model_dir: PathBuf,
    /// The emulated card's library.
    pub runtime: PathBuf,
}

impl Fallback {
    /// Whether there is one.
    pub fn configured(&self) -> bool {
        !self.model_dir.as_os_str().is_empty()
    }
}

impl Section for Fallback {
    const NAME: &'static str = "fallback";

    fn check(&mut self, findings: &mut Findings) {
        if self.configured() && self.runtime.as_os_str().is_empty() {
            findings.wrong("model_dir", "is given without `runtime`: name the emulated card's library");
            *self = Self::default();
        }
    }
}
