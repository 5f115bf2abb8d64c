use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Seconds;
use super::section::{Findings, Section};

/// How the worker moves data between host and card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathChoice {
    /// The copy-saving path where its self-test passes, the plain one otherwise.
    #[default]
    Auto,
    /// One call after the other, as the vendor's host does.
    Plain,
    /// The copy-saving path, or no start at all.
    CopySaving,
}

/// `[worker]`: the process that drives the card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// The worker's program. A bare name is looked for beside the supervisor's, then in `PATH`.
    pub program: PathBuf,
    /// The card's runtime library: the vendor's, or the emulator's.
    pub runtime: PathBuf,
    /// The runtime's `axcl.json`; empty for none.
    pub runtime_config: PathBuf,
    /// Which card, counted from 0.
    pub device: u32,
    /// Whether the model's files are checked against their manifest while loading.
    pub verify: bool,
    pub path: PathChoice,
    /// Conversations of a model the card keeps at most.
    pub prefix_slots: u32,
    /// Bytes of the host's memory for conversations that had to leave the card.
    pub saved_bytes: u64,
    /// Added to the worker's environment.
    pub env: BTreeMap<String, String>,
    /// How long a worker may take from its start to its first frame.
    pub hello_s: Seconds,
    /// Longest a single call to the card may take while serving.
    pub call_s: Seconds,
    /// Longest a single call to the card may take while loading.
    pub load_call_s: Seconds,
    /// How long a worker asked to stop may take before it is sent SIGTERM; while loading
    /// it is given this six times over, since a load that is cut off can wedge the card.
    pub stop_s: Seconds,
    /// How long after SIGTERM before SIGKILL.
    pub term_s: Seconds,
    /// The same for a worker whose card hangs: it was waited for already.
    pub hung_s: Seconds,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            program: "llm8850-worker".into(),
            runtime: "libaxcl_rt.so".into(),
            runtime_config: PathBuf::new(),
            device: 0,
            verify: true,
            path: PathChoice::Auto,
            prefix_slots: 4,
            saved_bytes: 1 << 30,
            env: BTreeMap::new(),
            hello_s: Seconds::new(30),
            call_s: Seconds::new(60),
            load_call_s: Seconds::new(300),
            stop_s: Seconds::new(10),
            term_s: Seconds::new(5),
            hung_s: Seconds::new(2),
        }
    }
}

impl Worker {
    /// The runtime's configuration file, where one is named.
    pub fn runtime_config(&self) -> Option<&std::path::Path> {
        (!self.runtime_config.as_os_str().is_empty()).then_some(&self.runtime_config)
    }
}

impl Section for Worker {
    const NAME: &'static str = "worker";

    fn check(&mut self, findings: &mut Findings) {
        let default = Self::default();
        for (key, path, fallback) in
            [("program", &mut self.program, default.program), ("runtime", &mut self.runtime, default.runtime)]
        {
            if path.as_os_str().is_empty() {
                findings.wrong(key, "is empty: name a file, or leave it out");
                *path = fallback;
            }
        }
        findings.range("device", &mut self.device, 0..=255, default.device);
        findings.range("prefix_slots", &mut self.prefix_slots, 1..=64, default.prefix_slots);
        findings.range("saved_bytes", &mut self.saved_bytes, 0..=64 << 30, default.saved_bytes);
        let bad: Vec<String> =
            self.env.keys().filter(|k| k.is_empty() || k.contains(['=', '\0'])).cloned().collect();
        for name in bad {
            findings.wrong("env", format!("names {name:?}: a variable's name is not empty and has no `=`"));
            self.env.remove(&name);
        }
        if let Some((name, _)) = self.env.iter().find(|(_, value)| value.contains('\0')) {
            findings.wrong("env", format!("gives {name} a value with a zero byte: leave that out"));
            self.env.retain(|_, value| !value.contains('\0'));
        }
        let second = Seconds::new(1);
        findings.range("hello_s", &mut self.hello_s, second..=Seconds::new(600), default.hello_s);
        findings.range("call_s", &mut self.call_s, second..=Seconds::new(3600), default.call_s);
        findings.range(
            "load_call_s",
            &mut self.load_call_s,
            second..=Seconds::new(7200),
            default.load_call_s,
        );
        let moment = Seconds(std::time::Duration::from_millis(100));
        findings.range("stop_s", &mut self.stop_s, moment..=Seconds::new(600), default.stop_s);
        findings.range("term_s", &mut self.term_s, moment..=Seconds::new(600), default.term_s);
        findings.range("hung_s", &mut self.hung_s, moment..=Seconds::new(600), default.hung_s);
    }
}
