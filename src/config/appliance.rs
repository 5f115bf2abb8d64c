use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::section::{Findings, Section};

/// `[appliance]`: where the image's own programs write what the service is to tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Appliance {
    /// Empty: there are none.
    pub dir: PathBuf,
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
