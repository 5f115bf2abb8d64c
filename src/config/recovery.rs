use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Seconds;
use super::section::{Findings, Section};

/// `[recovery]`: how faults are noticed and what is done about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recovery {
    /// What restarts card, driver, slot and host: the card helper's socket
    /// (`/run/llm8850/card.sock`), or its program. Empty: only workers are restarted.
    pub helper: PathBuf,
    /// Where incidents, boots and recorded answers are kept. Empty: nowhere.
    pub state_dir: PathBuf,
    /// What stands for `/` when the kernel's files are read: another directory beside an
    /// emulated card.
    pub system_root: PathBuf,
    /// A call to the card may take five times as long as it ever took, and at least this.
    pub stall_s: Seconds,
    /// Longest a model may take to load.
    pub load_s: Seconds,
    /// The test prompt is asked after this long without requests.
    pub test_idle_s: Seconds,
    /// From this temperature of the card on requests wait. °C.
    pub hot_c: f32,
    /// Below this temperature they are answered again. °C.
    pub cool_c: f32,
    /// Divides the ladder's waits, budgets and deadlines: for tests.
    pub pace: f64,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            helper: PathBuf::new(),
            state_dir: PathBuf::new(),
            system_root: "/".into(),
            stall_s: Seconds::new(10),
            load_s: Seconds::new(900),
            test_idle_s: Seconds::new(600),
            hot_c: 80.0,
            cool_c: 70.0,
            pace: 1.0,
        }
    }
}

impl Section for Recovery {
    const NAME: &'static str = "recovery";

    fn check(&mut self, findings: &mut Findings) {
        let default = Self::default();
        let moment = Seconds(Duration::from_millis(100));
        let day = Seconds::new(86_400);
        findings.range("stall_s", &mut self.stall_s, moment..=Seconds::new(3600), default.stall_s);
        findings.range("load_s", &mut self.load_s, Seconds::new(1)..=day, default.load_s);
        findings.range("test_idle_s", &mut self.test_idle_s, moment..=day, default.test_idle_s);
        findings.range("hot_c", &mut self.hot_c, 30.0..=119.0, default.hot_c);
        findings.range("cool_c", &mut self.cool_c, 20.0..=118.0, default.cool_c);
        if self.cool_c >= self.hot_c {
            findings.wrong("cool_c", format!("is {}: write less than `hot_c`, {}", self.cool_c, self.hot_c));
            (self.hot_c, self.cool_c) = (default.hot_c, default.cool_c);
        }
        findings.range("pace", &mut self.pace, 1.0..=1000.0, default.pace);
    }
}
