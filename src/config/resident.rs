use serde::{Deserialize, Serialize};

use super::section::{Findings, Section};

/// `[resident]`: the conversation that `/api/reset` begins and `/api/generate` continues,
/// as with the vendor's runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resident {
    /// Most tokens of an answer, where the request does not say; 0 is `defaults.max_tokens`.
    pub max_tokens: u32,
    /// Most messages kept, the system prompt aside.
    pub messages: usize,
    /// Most bytes of text kept, the system prompt included.
    pub bytes: usize,
    /// Whether `/api/generate` without a `model` answers at once, for its text to be polled.
    pub polled: bool,
}

impl Default for Resident {
    fn default() -> Self {
        Self { max_tokens: 80, messages: 256, bytes: 64 << 10, polled: false }
    }
}

impl Section for Resident {
    const NAME: &'static str = "resident";

    fn check(&mut self, findings: &mut Findings) {
        let default = Self::default();
        findings.range("max_tokens", &mut self.max_tokens, 0..=1 << 20, default.max_tokens);
        findings.range("messages", &mut self.messages, 2..=100_000, default.messages);
        findings.range("bytes", &mut self.bytes, 1 << 10..=8 << 20, default.bytes);
    }
}
