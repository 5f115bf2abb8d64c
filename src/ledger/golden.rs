//! The recorded answers to the test prompt: what a healthy card says.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Ledger, writer::Order};
use crate::fault::{Failure, Fault};

pub(super) const NAME: &str = "golden.json";
/// More answers than models are ever used; the oldest go first.
const MOST: usize = 32;

/// Answers by the fingerprint of what they depend on: model, library, prompt.
///
/// Deleting `golden.json` while the supervisor is stopped forgets them all.
pub struct Golden {
    ledger: Ledger,
    answers: Vec<Answer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Answer {
    fingerprint: String,
    tokens: Vec<u32>,
}

impl Golden {
    /// Reads the answers in `state_dir`, the one `ledger` was opened in. Damaged ones
    /// count as none: they are recorded again.
    pub fn open(state_dir: &Path, ledger: &Ledger) -> Self {
        let mut golden = Self { ledger: ledger.clone(), answers: Vec::new() };
        if state_dir.as_os_str().is_empty() {
            return golden;
        }
        let path = state_dir.join(NAME);
        let read = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return golden,
            Err(e) => Err(e.to_string()),
        };
        match read {
            Ok(answers) => golden.answers = answers,
            Err(e) => warn!("{}", Failure::new(Fault::State, format!("{}: {e}", path.display()))),
        }
        golden
    }

    /// The answer recorded for `fingerprint`.
    pub fn get(&self, fingerprint: &str) -> Option<&[u32]> {
        let answer = self.answers.iter().find(|answer| answer.fingerprint == fingerprint)?;
        Some(&answer.tokens)
    }

    /// Records `tokens` as the answer for `fingerprint`, in place of an earlier one, and
    /// has it written.
    pub fn record(&mut self, fingerprint: &str, tokens: Vec<u32>) {
        self.answers.retain(|answer| answer.fingerprint != fingerprint);
        self.answers.push(Answer { fingerprint: fingerprint.into(), tokens });
        let surplus = self.answers.len().saturating_sub(MOST);
        self.answers.drain(..surplus);
        if let Ok(bytes) = serde_json::to_vec(&self.answers) {
            self.ledger.order(Order::Golden(bytes));
        }
    }
}
