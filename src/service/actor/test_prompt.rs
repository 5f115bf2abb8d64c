//! The test prompt: its answer, compared with the recorded one, is the only proof that the
//! card computes.

use tracing::{info, warn};

use super::Actor;
use crate::chat::TokenId;
use crate::fault::{Failure, Fault};
use crate::link::frame::Command;
use crate::machine::{Event, Seat};
use crate::service::hands::Hands;

/// The first of two answers that must agree before they are recorded.
#[derive(Default)]
pub(super) struct Trial(Option<Vec<TokenId>>);

impl<H: Hands> Actor<H> {
    pub(super) fn ask_test(&mut self) {
        self.trial = Trial::default();
        self.send_test(None);
    }

    fn send_test(&mut self, model: Option<String>) {
        if let Err(failure) = self.parts.hands.command(Seat::Card, Command::Test { model }) {
            self.distrust(Seat::Card, failure);
        }
    }

    /// `model` answered the test prompt.
    pub(super) fn tested(&mut self, model: &str, tokens: Vec<TokenId>) {
        let added = self.shelf.tests(model);
        let Some(right) = self.judge(model, tokens) else { return };
        match added {
            true => self.model_tested(right),
            false => {
                self.happen(Event::Tested(right));
                self.warm();
            }
        }
    }

    /// Whether the answer is right; nothing where another one is awaited.
    fn judge(&mut self, model: &str, tokens: Vec<TokenId>) -> Option<bool> {
        let fingerprint = self.shelf.fingerprint(model);
        let right = match (self.parts.hands.golden(&fingerprint), self.trial.0.take()) {
            _ if tokens.is_empty() => false,
            (Some(recorded), _) => tokens == recorded,
            // Recorded at the first load of a model; not on one answer's word.
            (None, None) => {
                self.trial = Trial(Some(tokens));
                self.send_test(Some(model.to_owned()));
                return None;
            }
            (None, Some(first)) if first == tokens => {
                self.parts.hands.keep_golden(&fingerprint, &tokens);
                info!(fingerprint, tokens = tokens.len(), "the answer to the test prompt was recorded");
                true
            }
            (None, Some(_)) => false,
        };
        if !right {
            warn!(code = Fault::Golden.code(), model, "the test prompt was answered wrongly");
            self.blame(Failure::new(Fault::Golden, format!("{} tokens that differ", tokens.len())));
        }
        Some(right)
    }
}
