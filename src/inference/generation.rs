//! An answer in the making: a state machine that takes logits and gives tokens.

use std::sync::Arc;

use llguidance::toktrie::SimpleVob;

use super::calls::CallFilter;
use super::constraint::Constraint;
use super::detokenize::Detokenizer;
use super::logits::Logits;
use super::sampler::{Sampler, Settings};
use super::stop::StopFilter;
use super::think::ThinkFilter;
use crate::chat::{Delta, Done, Finish, Timings, Token, TokenId, Usage};
use crate::fault::{Failure, Fault, Result};
use crate::model::{Pieces, Text};

/// What one step of generation gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A token; feed it to the model and come again with new logits.
    Token(Token),
    /// The model ended its answer with an end-of-turn token, which is not shown.
    Done(Done),
    /// A token that ends the answer: it completes a stop string or reaches a limit.
    Last(Token, Done),
}

/// What an answer begins with.
pub struct Beginning<'a> {
    pub text: &'a Text,
    pub settings: Settings,
    pub stop: StopFilter,
    pub think: ThinkFilter,
    pub calls: CallFilter,
    pub constraint: Option<Constraint>,
    pub prompt: &'a [TokenId],
    /// Most tokens of the answer; at least 1.
    pub limit: u32,
    pub logprobs: Option<u8>,
}

/// One answer. The same logits give the same answer, wherever it was interrupted.
pub struct Generation {
    pieces: Arc<Pieces>,
    ends: Vec<TokenId>,
    vocabulary: usize,
    sampler: Sampler,
    detokenizer: Detokenizer,
    think: ThinkFilter,
    calls: CallFilter,
    stop: StopFilter,
    constraint: Option<Constraint>,
    /// What the form allows next, once that has been worked out.
    allowed: Option<SimpleVob>,
    limit: u32,
    logprobs: Option<u8>,
    usage: Usage,
    ended: bool,
}

impl Generation {
    /// An answer before its first token.
    pub fn new(beginning: Beginning<'_>) -> Self {
        let Beginning { text, settings, stop, think, calls, constraint, prompt, limit, logprobs } = beginning;
        Self {
            pieces: Arc::clone(text.pieces()),
            ends: text.ends().to_vec(),
            vocabulary: text.vocabulary(),
            sampler: Sampler::new(settings, prompt),
            detokenizer: Detokenizer::new(Arc::clone(text.pieces())),
            think,
            calls,
            stop,
            constraint,
            allowed: None,
            limit,
            logprobs,
            usage: Usage {
                prompt_tokens: u32::try_from(prompt.len()).unwrap_or(u32::MAX),
                ..Usage::default()
            },
            ended: false,
        }
    }

    /// Does the part of the next [`Self::next`] that needs no logits.
    ///
    /// # Errors
    /// [`Fault::RequestInvalid`] where the form turns out too expensive to follow.
    pub fn prepare(&mut self) -> Result<()> {
        let left = self.limit.saturating_sub(self.usage.completion_tokens);
        if let Some(form) = self.constraint.as_mut().filter(|_| self.allowed.is_none() && !self.ended) {
            self.allowed = Some(form.allowed(left)?);
        }
        Ok(())
    }

    /// Chooses the next token from the logits behind prompt and all tokens so far.
    /// `cached_tokens` and `timings` of a `Done` are left for the caller to fill in.
    ///
    /// # Errors
    /// [`Fault::CardOutput`] for logits that are too few, NaN or infinite,
    /// [`Fault::RequestInvalid`] where the request bans every token, [`Fault::Internal`]
    /// after the end.
    pub fn next(&mut self, logits: &Logits) -> Result<Step> {
        if self.ended {
            return Err(Failure::new(Fault::Internal, "an ended answer was continued"));
        }
        let logits = logits.first(self.vocabulary).ok_or_else(|| {
            let detail = format!("{} logits for a vocabulary of {}", logits.values().len(), self.vocabulary);
            Failure::new(Fault::CardOutput, detail)
        })?;
        let index = self.usage.completion_tokens;
        self.prepare()?;
        let allowed = self.allowed.take();
        let (id, logprobs) =
            self.sampler.choose(logits, index, self.logprobs, &self.pieces, allowed.as_ref())?;
        Ok(match self.accept(id)? {
            (_, Some(done)) if self.is_end(id) => Step::Done(Done { logprobs, ..done }),
            (delta, Some(done)) => Step::Last(Token { index, id, delta, logprobs }, done),
            (delta, None) => Step::Token(Token { index, id, delta, logprobs }),
        })
    }

    /// Takes over a token an earlier worker generated; gives the end, if it ended the answer.
    ///
    /// # Errors
    /// [`Fault::RequestInvalid`] where it does not fit the form asked for.
    pub fn replay(&mut self, id: TokenId) -> Result<Option<Done>> {
        if self.ended { Ok(None) } else { Ok(self.accept(id)?.1) }
    }

    /// Tokens generated so far.
    pub fn tokens(&self) -> u32 {
        self.usage.completion_tokens
    }

    /// Ends the answer before its time.
    pub fn cancel(&mut self) -> Done {
        self.end(Finish::Cancelled)
    }

    fn is_end(&self, id: TokenId) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    fn accept(&mut self, id: TokenId) -> Result<(Delta, Option<Done>)> {
        self.usage.completion_tokens += 1;
        self.allowed = None;
        self.sampler.accept(id);
        if self.is_end(id) {
            return Ok((Delta::default(), Some(self.end(Finish::Stop))));
        }
        let complete =
            self.constraint.as_mut().map_or(Ok(false), |form| form.accept(id, self.pieces.bytes(id)))?;
        let was_thinking = self.think.is_thinking();
        let text = self.detokenizer.push(id);
        let split = self.think.push(&text);
        if was_thinking || self.think.is_thinking() {
            self.usage.reasoning_tokens += 1;
        }
        let (delta, stopped) = self.filter(split);
        if stopped {
            // What is behind the stop string is no part of the answer.
            self.ended = true;
            return Ok((delta, Some(self.done(Finish::Stop, Delta::default()))));
        }
        let full = self.usage.completion_tokens >= self.limit;
        let done = match (complete, full) {
            (true, _) => Some(self.end(Finish::Stop)),
            (false, true) => Some(self.end(Finish::Length)),
            (false, false) => None,
        };
        Ok((delta, done))
    }

    /// Takes calls out of the content, and looks for stop strings in the rest.
    fn filter(&mut self, split: Delta) -> (Delta, bool) {
        let Delta { content, calls, .. } = self.calls.push(&split.content);
        let (mut content, stopped) = self.stop.push(&content);
        // A call ends the text before it.
        if !calls.is_empty() && !stopped {
            content.push_str(&self.stop.finish());
        }
        (Delta { content, reasoning: split.reasoning, calls }, stopped)
    }

    fn end(&mut self, finish: Finish) -> Done {
        self.ended = true;
        let rest = self.think.finish();
        let (mut tail, stopped) = self.filter(rest);
        if !stopped {
            let (text, stopped) = self.stop.push(&self.calls.finish());
            tail.content.push_str(&text);
            if !stopped {
                tail.content.push_str(&self.stop.finish());
            }
        }
        self.done(finish, tail)
    }

    fn done(&self, finish: Finish, tail: Delta) -> Done {
        let finish = match finish {
            Finish::Stop if self.calls.called() => Finish::ToolCalls,
            finish => finish,
        };
        Done { finish, tail, usage: self.usage, timings: Timings::default(), logprobs: None }
    }
}

#[cfg(test)]
#[path = "generation_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "form_tests.rs"]
mod form_tests;
