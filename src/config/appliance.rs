use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::section::{Findings, Section};

/// `[appliance]`: where the image's own programs write what the service is to tell, and where it
/// asks them for something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Appliance {
    /// Empty: there are none.
    pub dir: PathBuf,
    /// Where they are asked for something. Empty: nowhere.
    pub orders: PathBuf,
    /// The socket where models are taken in. Empty: nowhere.
    pub models: PathBuf,
}

impl Appliance {
    /// What they found wrong.
    pub fn problems(&self) -> Vec<String> {
        let by_program: BTreeMap<String, Vec<String>> = self.read("problems.json").unwrap_or_default();
        by_program.into_values().flatten().collect()
    }

    /// What they know of the boot slots.
    pub fn slots(&self) -> Option<Value> {
        self.read("slots.json")
    }

    /// How it went with the last model that was taken in, or goes.
    pub fn told_of_models(&self) -> Option<Value> {
        self.read("models.json")
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        if self.dir.as_os_str().is_empty() {
            return None;
        }
        serde_json::from_slice(&std::fs::read(self.dir.join(name)).ok()?).ok()
    }
}

impl Section for Appliance {
    const NAME: &'static str = "appliance";

    fn check(&mut self, _: &mut Findings) {}
}
