//! Tokens in, logits out, on the card.
//!
//! | to change | open |
//! |---|---|
//! | what an engine must look like | `geometry` |
//! | what a token may look at | `mask` |
//! | how prompts are cut | `plan` |
//! | which conversations the card keeps, and the host for it | `prefixes` |
//! | when their rows move | `conversations` |
//! | which calls a token or a chunk costs | `stack` |
//! | when the cheaper calls are trusted | `self_test` |
//! | loading, verification | `load` |
//! | whether a model fits the card | `memory` |

mod conversations;
mod geometry;
mod host_rows;
mod layer;
mod load;
mod mask;
mod memory;
mod plan;
mod post;
mod prefixes;
mod self_test;
mod stack;

use std::time::Instant;

use half::bf16;

pub use load::{Load, Loaded, load};
pub use prefixes::Purpose;

use self::host_rows::HostRows;
use self::plan::{Costs, Step};
use self::prefixes::Prefixes;
use self::self_test::Verdict;
use self::stack::{Path, Stack};
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};
use crate::inference::logits::impossible;
use crate::inference::{Logits, Window};
use crate::model::Embeddings;

/// Which path between host and card is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathMode {
    /// The copy-saving one where its self-test passes, the plain one otherwise.
    #[default]
    Auto,
    Plain,
    /// The copy-saving one, or no start at all.
    CopySaving,
}

/// A loaded model with the conversations whose K and V are on the card.
pub struct Pipeline {
    stack: Stack,
    embeddings: Embeddings,
    context: usize,
    chunked: bool,
    costs: Costs,
    prefixes: Prefixes<HostRows>,
    /// Prefix slots there may be.
    most_slots: usize,
    logits: Logits,
    previous: Logits,
    /// Behind which token `logits` are.
    logits_at: Option<usize>,
    /// Whether unchanged logits are suspicious; no longer once a repetition confirmed them.
    watch_stale: bool,
    anomalies: u32,
    hidden: Vec<u8>,
    started: Option<Started>,
}

/// A token the card is computing.
struct Started {
    token: TokenId,
    group: usize,
    began: Instant,
}

/// Anomalies of the copy-saving path until it is no longer used.
const MOST_ANOMALIES: u32 = 3;

impl Pipeline {
    /// Tests the stack and makes it ready.
    fn new(mut stack: Stack, embeddings: Embeddings, how: Load) -> Result<Self> {
        let mut costs = Costs::default();
        let Verdict { path, chunked } = self_test::run(&mut stack, &embeddings, how.path, &mut costs)?;
        if path == Path::Plain && how.path == PathMode::Auto {
            tracing::warn!("the copy-saving path differs from the plain one here: the plain one is used");
        }
        if !chunked {
            tracing::warn!("chunks differ from single tokens here: prompts are read token by token");
        }
        let in_place = chunked && stack.chunks_in_place();
        tracing::info!(?path, chunked, in_place, break_even = costs.break_even(), "self-test passed");
        let capacity = stack.geometry().capacity();
        let context = how.context.map_or(capacity, |c| capacity.min(c as usize));
        let vocabulary = stack.vocabulary();
        let chunk = if chunked { stack.geometry().chunk_rows() } else { 1 };
        Ok(Self {
            stack,
            embeddings,
            context,
            chunked,
            costs,
            prefixes: Prefixes::new(chunk),
            most_slots: how.prefix_slots,
            logits: vec![bf16::ZERO; vocabulary].into(),
            previous: vec![bf16::NAN; vocabulary].into(),
            logits_at: None,
            watch_stale: true,
            anomalies: 0,
            hidden: Vec::new(),
            started: None,
        })
    }

    /// Tokens of prompt and answer together.
    pub fn context(&self) -> u32 {
        u32::try_from(self.context).unwrap_or(u32::MAX)
    }

    /// How many tokens it takes, and of these quickly.
    pub fn window(&self) -> Window {
        let context = self.context();
        let quick = if self.chunked { plan::reach(self.stack.geometry()) } else { self.context };
        Window { context, quick: u32::try_from(quick).map_or(context, |quick| quick.min(context)) }
    }

    /// Values of the logits.
    pub fn vocabulary(&self) -> usize {
        self.stack.vocabulary()
    }

    /// Whether the copy-saving path is in use.
    pub fn copy_saving(&self) -> bool {
        self.stack.path() != Path::Plain
    }

    /// Whether prompts are read in chunks.
    pub fn chunked(&self) -> bool {
        self.chunked
    }

    /// Computes the next chunk or token of `pending` and says how many tokens that was.
    /// When that is all of them, [`Self::logits`] are those behind the last.
    ///
    /// # Errors
    /// [`Fault::ContextLength`] if there is no room, [`Fault::ModelInvalid`] for a token
    /// without embedding, [`Fault::CardOutput`] for impossible logits, [`Fault::CardCall`].
    pub fn advance(&mut self, pending: &[TokenId]) -> Result<usize> {
        let step = self.next_step(pending.len())?;
        let tokens = pending.get(..step.tokens().min(self.room())).unwrap_or(pending);
        let last = tokens.len() == pending.len();
        self.embed(tokens)?;
        if last {
            std::mem::swap(&mut self.logits, &mut self.previous);
        }
        self.run(step, last)?;
        if last {
            self.judge(step, tokens.len())?;
        }
        self.prefixes.extend(tokens);
        Ok(tokens.len())
    }

    /// As [`Self::advance`] to the end of `pending`, as long as `go_on` says so before each run; whether
    /// the end was reached.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn advance_while(&mut self, mut pending: &[TokenId], go_on: &dyn Fn() -> bool) -> Result<bool> {
        while !pending.is_empty() && go_on() {
            pending = pending.get(self.advance(pending)?..).unwrap_or_default();
        }
        Ok(pending.is_empty())
    }

    /// Has the card begin to compute `token`. Until [`Self::finish`], which must follow, this
    /// thread is free for what needs no logits.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn start(&mut self, token: TokenId) -> Result<()> {
        let began = Instant::now();
        let Step::Token { group } = self.next_step(1)? else {
            return Err(Failure::new(Fault::Internal, "one token is no chunk"));
        };
        self.embed(&[token])?;
        std::mem::swap(&mut self.logits, &mut self.previous);
        self.stack.start_token(group, self.resident().len(), &self.hidden, true)?;
        self.started = Some(Started { token, group, began });
        Ok(())
    }

    /// Waits for the token begun: [`Self::logits`] are those behind it.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn finish(&mut self) -> Result<()> {
        let Some(Started { token, group, began }) = self.started.take() else { return Ok(()) };
        let position = self.resident().len();
        self.logits.fill(|logits| self.stack.finish_token(group, position, Some(logits)))?;
        self.costs.token_took(began.elapsed());
        self.judge(Step::Token { group }, 1)?;
        self.prefixes.extend(&[token]);
        Ok(())
    }

    fn room(&self) -> usize {
        self.context.saturating_sub(self.resident().len())
    }

    /// From how many tokens on a chunk is the faster way, if it is one at all.
    fn break_even(&self) -> Option<usize> {
        self.chunked.then(|| self.costs.break_even())
    }

    fn next_step(&self, pending: usize) -> Result<Step> {
        let step = plan::next(self.stack.geometry(), self.resident().len(), pending, self.break_even());
        step.filter(|_| self.room() > 0).ok_or_else(|| {
            Failure::new(Fault::ContextLength, format!("all {} tokens of the context are used", self.context))
        })
    }

    /// The logits behind the last token of the last [`Self::advance`] that computed all it
    /// was given, or of the last [`Self::finish`].
    pub fn logits(&self) -> &Logits {
        &self.logits
    }

    fn is_unchanged(&self) -> bool {
        self.logits.values() == self.previous.values()
    }

    fn embed(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.hidden.clear();
        for &token in tokens {
            let row = self.embeddings.row(token).ok_or_else(|| {
                Failure::new(Fault::ModelInvalid, format!("token {token} has no embedding"))
            })?;
            self.hidden.extend_from_slice(row);
        }
        Ok(())
    }

    fn run(&mut self, step: Step, last: bool) -> Result<()> {
        let position = self.resident().len();
        let Self { stack, costs, hidden, logits, .. } = self;
        let began = Instant::now();
        let mut compute = |logits: Option<&mut [bf16]>| match step {
            Step::Token { group } => stack.token(group, position, hidden, logits),
            Step::Chunk { group, .. } => stack.chunk(group, position, hidden, logits),
        };
        if last {
            logits.fill(|logits| compute(Some(logits)))?;
        } else {
            compute(None)?;
        }
        match step {
            Step::Token { .. } => costs.token_took(began.elapsed()),
            Step::Chunk { .. } => costs.chunk_took(began.elapsed()),
        }
        Ok(())
    }

    /// Asynchronous work fails silently: stale or impossible logits are all there is to see.
    /// Then the run of `tokens` tokens is repeated along the plain path, which reports failures.
    fn judge(&mut self, step: Step, tokens: usize) -> Result<()> {
        let position = self.resident().len();
        // The same token computed again rightly gives the same.
        let at = Some(position + tokens);
        let elsewhere = std::mem::replace(&mut self.logits_at, at) != at;
        let stale = self.watch_stale && elsewhere && self.is_unchanged();
        let possible = self.logits.are_possible();
        if possible && !stale {
            return Ok(());
        }
        tracing::warn!(position, possible, stale, "suspicious logits: repeating the step call by call");
        let path = self.stack.path();
        self.stack.bind(Path::Plain)?;
        self.run(step, true)?;
        let logits = self.logits.values();
        if let Some(wrong) = impossible(logits) {
            let value = logits.get(wrong).copied().unwrap_or_default();
            let detail = format!("logit {wrong} behind token {position} is {value}");
            return Err(Failure::new(Fault::CardOutput, detail));
        }
        if stale && self.is_unchanged() {
            // The model does answer the same twice.
            self.watch_stale = false;
        } else {
            self.anomalies += 1;
        }
        if self.anomalies < MOST_ANOMALIES { self.stack.bind(path) } else { Ok(()) }
    }
}
