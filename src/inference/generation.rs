//! An answer in the making: a state machine that takes logits and gives tokens.

use std::sync::Arc;

use half::bf16;

use super::detokenize::Detokenizer;
use super::sampler::{Sampler, Settings};
use super::stop::StopFilter;
use super::think::ThinkFilter;
use crate::chat::{Delta, Done, Finish, Timings, Token, TokenId, TokenLogprobs, Usage};
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
    stop: StopFilter,
    limit: u32,
    logprobs: Option<u8>,
    usage: Usage,
    ended: bool,
}

impl Generation {
    /// An answer before its first token.
    pub fn new(beginning: Beginning<'_>) -> Self {
        let Beginning { text, settings, stop, think, prompt, limit, logprobs } = beginning;
        Self {
            pieces: Arc::clone(text.pieces()),
            ends: text.ends().to_vec(),
            vocabulary: text.vocabulary(),
            sampler: Sampler::new(settings, prompt),
            detokenizer: Detokenizer::new(Arc::clone(text.pieces())),
            think,
            stop,
            limit,
            logprobs,
            usage: Usage {
                prompt_tokens: u32::try_from(prompt.len()).unwrap_or(u32::MAX),
                ..Usage::default()
            },
            ended: false,
        }
    }

    /// Chooses the next token from the logits behind prompt and all tokens so far.
    /// `cached_tokens` and `timings` of a `Done` are left for the caller to fill in.
    ///
    /// # Errors
    /// [`Fault::CardOutput`] for logits that are too few, NaN or infinite,
    /// [`Fault::RequestInvalid`] where the request bans every token, [`Fault::Internal`]
    /// after the end.
    pub fn next(&mut self, logits: &[bf16]) -> Result<Step> {
        if self.ended {
            return Err(Failure::new(Fault::Internal, "an ended answer was continued"));
        }
        let logits = logits.get(..self.vocabulary).ok_or_else(|| {
            Failure::new(
                Fault::CardOutput,
                format!("{} logits for a vocabulary of {}", logits.len(), self.vocabulary),
            )
        })?;
        let index = self.usage.completion_tokens;
        let (id, logprobs) = self.sampler.choose(logits, index, self.logprobs, &self.pieces)?;
        Ok(match self.accept(id) {
            (_, Some(done)) if self.is_end(id) => Step::Done(Done { logprobs, ..done }),
            (delta, Some(done)) => Step::Last(Token { index, id, delta, logprobs }, done),
            (delta, None) => Step::Token(Token { index, id, delta, logprobs }),
        })
    }

    /// Takes over a token an earlier worker generated; gives the end, if it ended the answer.
    pub fn replay(&mut self, id: TokenId) -> Option<Done> {
        if self.ended { None } else { self.accept(id).1 }
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

    fn accept(&mut self, id: TokenId) -> (Delta, Option<Done>) {
        self.usage.completion_tokens += 1;
        self.sampler.accept(id);
        if self.is_end(id) {
            return (Delta::default(), Some(self.end(Finish::Stop)));
        }
        let was_thinking = self.think.is_thinking();
        let text = self.detokenizer.push(id);
        let split = self.think.push(&text);
        if was_thinking || self.think.is_thinking() {
            self.usage.reasoning_tokens += 1;
        }
        let (content, stopped) = self.stop.push(&split.content);
        let delta = Delta { content, reasoning: split.reasoning };
        if stopped {
            // What is behind the stop string is no part of the answer.
            self.ended = true;
            return (delta, Some(self.done(Finish::Stop, Delta::default(), None)));
        }
        let full = self.usage.completion_tokens >= self.limit;
        let done = full.then(|| self.end(Finish::Length));
        (delta, done)
    }

    fn end(&mut self, finish: Finish) -> Done {
        self.ended = true;
        let mut tail = self.think.finish();
        let (released, stopped) = self.stop.push(&tail.content);
        tail.content = released;
        if !stopped {
            tail.content.push_str(&self.stop.finish());
        }
        self.done(finish, tail, None)
    }

    fn done(&self, finish: Finish, tail: Delta, logprobs: Option<TokenLogprobs>) -> Done {
        Done { finish, tail, usage: self.usage, timings: Timings::default(), logprobs }
    }
}

#[cfg(test)]
#[path = "generation_tests.rs"]
mod tests;
