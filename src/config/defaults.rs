use serde::{Deserialize, Serialize};

use super::section::{Findings, Section};
use crate::chat::{self, Format, Sampling, Think};

/// `[defaults]`: what a request gets where it does not say otherwise. Values left out
/// here are the model package's, then neutral.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub typical_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub repeat_last_n: Option<i32>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    /// Most tokens of an answer; 0 until the context is full.
    pub max_tokens: u32,
    /// The same for answers that must be JSON or may call tools: cut short they are worth nothing.
    pub form_max_tokens: u32,
    /// When an answer must be there, in milliseconds; 0 is whenever it is.
    pub deadline_ms: u32,
    /// Whether a reasoning model thinks: `default` (its template decides), `on`, `off`.
    pub think: Think,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            temperature: Some(0.9),
            top_k: None,
            top_p: Some(0.95),
            min_p: None,
            typical_p: None,
            repeat_penalty: None,
            repeat_last_n: None,
            frequency_penalty: None,
            presence_penalty: None,
            max_tokens: 100,
            form_max_tokens: 512,
            deadline_ms: 0,
            think: Think::Default,
        }
    }
}

impl Defaults {
    /// Fills in what a request leaves open.
    pub fn apply(&self, request: &mut chat::Request) {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repeat_penalty,
            repeat_last_n,
            frequency_penalty,
            presence_penalty,
            logit_bias: _,
            seed: _,
            stop: _,
        } = &mut request.sampling;
        *temperature = temperature.or(self.temperature);
        *top_k = top_k.or(self.top_k);
        *top_p = top_p.or(self.top_p);
        *min_p = min_p.or(self.min_p);
        *typical_p = typical_p.or(self.typical_p);
        *repeat_penalty = repeat_penalty.or(self.repeat_penalty);
        *repeat_last_n = repeat_last_n.or(self.repeat_last_n);
        *frequency_penalty = frequency_penalty.or(self.frequency_penalty);
        *presence_penalty = presence_penalty.or(self.presence_penalty);
        let formed = request.format != Format::Text || request.tools.callable();
        let most = if formed { self.form_max_tokens } else { self.max_tokens };
        let most = (most > 0).then_some(most);
        request.limits.max_tokens = request.limits.max_tokens.or(most);
        let deadline = (self.deadline_ms > 0).then_some(self.deadline_ms);
        request.limits.deadline_ms = request.limits.deadline_ms.or(deadline);
        if request.think == Think::Default {
            request.think = self.think;
        }
    }
}

impl Section for Defaults {
    const NAME: &'static str = "defaults";

    fn check(&mut self, findings: &mut Findings) {
        findings.optional("temperature", &mut self.temperature, 0.0..=2.0);
        findings.optional("top_k", &mut self.top_k, 0..=1 << 20);
        findings.optional("top_p", &mut self.top_p, 0.0..=1.0);
        findings.optional("min_p", &mut self.min_p, 0.0..=1.0);
        findings.optional("typical_p", &mut self.typical_p, 0.0..=1.0);
        findings.optional("repeat_penalty", &mut self.repeat_penalty, 0.01..=10.0);
        findings.optional("repeat_last_n", &mut self.repeat_last_n, -1..=1 << 20);
        findings.optional("frequency_penalty", &mut self.frequency_penalty, -2.0..=2.0);
        findings.optional("presence_penalty", &mut self.presence_penalty, -2.0..=2.0);
        let default = Self::default();
        findings.range("max_tokens", &mut self.max_tokens, 0..=1 << 20, default.max_tokens);
        findings.range("form_max_tokens", &mut self.form_max_tokens, 0..=1 << 20, default.form_max_tokens);
        findings.range("deadline_ms", &mut self.deadline_ms, 0..=86_400_000, default.deadline_ms);
    }
}
