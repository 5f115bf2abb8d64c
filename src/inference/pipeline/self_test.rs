//! Which ways of computing this card may be trusted with.
//!
//! A few fixed tokens are computed one by one along the plain path; every other way must
//! leave the same K and V rows and the same logits, to the bit. Shortcuts that depend on the
//! runtime's version (binding in the middle of a cache, sharing buffers between engines,
//! asynchronous order, chunks) thus prove themselves on each card before they are used.

use std::time::Instant;

use half::bf16;

use super::PathMode;
use super::plan::Costs;
use super::stack::{Path, Stack};
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};
use crate::inference::logits::impossible;
use crate::model::Embeddings;

/// What the test allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub path: Path,
    /// Whether chunks may be used.
    pub chunked: bool,
}

/// Tokens of a run. Every start waits for them.
const TOKENS: usize = 5;
/// The same in two chunks, the second with history, each with a row that sees another of its chunk; then one token.
const CHUNKS: [usize; 2] = [2, 2];
/// The same one by one.
const SINGLES: [usize; 0] = [];

/// Tests the stack, leaving it on the path allowed and its caches empty. Learns `costs`.
///
/// # Errors
/// [`Fault::SelfTest`] if `mode` insists on a path that fails, [`Fault::CardOutput`] if even
/// the plain path computes nonsense; otherwise what the plain path answers.
pub fn run(stack: &mut Stack, embeddings: &Embeddings, mode: PathMode, costs: &mut Costs) -> Result<Verdict> {
    let mut trial = Trial { stack, embeddings, costs };
    let verdict = trial.judge(mode)?;
    if mode == PathMode::CopySaving && verdict.path == Path::Plain {
        return Err(Failure::new(Fault::SelfTest, "the copy-saving path differs from the plain one"));
    }
    stack.bind(verdict.path)?;
    stack.clear_rows(TOKENS)?;
    Ok(verdict)
}

/// What a run leaves behind.
#[derive(PartialEq)]
struct Outcome {
    rows: Vec<u8>,
    logits: Vec<bf16>,
}

struct Trial<'a> {
    stack: &'a mut Stack,
    embeddings: &'a Embeddings,
    costs: &'a mut Costs,
}

impl Trial<'_> {
    fn judge(&mut self, mode: PathMode) -> Result<Verdict> {
        let reference = self.run(Path::Plain, &SINGLES)?;
        if impossible(&reference.logits).is_some() {
            return Err(Failure::new(Fault::CardOutput, "impossible logits in the self-test"));
        }
        let chunks_exist = !self.stack.geometry().chunks.is_empty();
        if mode != PathMode::Plain
            && let Some(path) = self.fastest(&reference)?
        {
            let chunked = chunks_exist && self.chunks(path, &reference)?;
            // Chunks may be wrong on this card, however they are moved: then single tokens
            // still go the copy-saving way.
            if chunked || !chunks_exist || !self.agrees(Path::Plain, &CHUNKS, &reference)? {
                return Ok(Verdict { path, chunked });
            }
            return Ok(Verdict { path: Path::Plain, chunked: true });
        }
        let chunked = chunks_exist && self.agrees(Path::Plain, &CHUNKS, &reference)?;
        Ok(Verdict { path: Path::Plain, chunked })
    }

    /// The fastest way for single tokens beside the plain one.
    fn fastest(&mut self, reference: &Outcome) -> Result<Option<Path>> {
        for path in [Path::Overlapping, Path::CopySaving] {
            if self.agrees(path, &SINGLES, reference)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Whether chunks agree on this path; from then on they write into the caches if they may.
    fn chunks(&mut self, path: Path, reference: &Outcome) -> Result<bool> {
        for in_place in [true, false] {
            self.stack.place_chunks(in_place);
            if self.agrees(path, &CHUNKS, reference)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether this way gives the reference's outcome. A card that refuses a shortcut has
    /// failed the test, no more; if it is dead the plain path will say so.
    fn agrees(&mut self, path: Path, chunks: &[usize], reference: &Outcome) -> Result<bool> {
        match self.run(path, chunks) {
            Ok(outcome) => Ok(outcome == *reference),
            Err(failure) if failure.fault == Fault::CardCall => {
                tracing::warn!(%failure, ?path, "self-test refused");
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Computes the test's tokens, the first of them in these chunks.
    fn run(&mut self, path: Path, chunks: &[usize]) -> Result<Outcome> {
        let mut logits = vec![bf16::NAN; self.stack.vocabulary()];
        self.stack.bind(path)?;
        self.stack.clear_rows(TOKENS)?;
        let mut position = 0;
        let mut chunks = chunks.iter();
        while position < TOKENS {
            // Where no group looks back this far, single tokens prove what chunks there are.
            let group = self.stack.geometry().chunks.iter().position(|g| g.history >= position);
            let group = chunks.next().zip(group);
            let (count, group) = group.map_or((1, None), |(&count, group)| (count, Some(group)));
            let wanted = (position + count == TOKENS).then_some(logits.as_mut_slice());
            self.step(group, position, count, wanted)?;
            position += count;
        }
        Ok(Outcome { rows: self.stack.cached_rows(TOKENS)?, logits })
    }

    /// Computes the `count` tokens from `position` on by that chunk group, or the one token.
    fn step(
        &mut self,
        group: Option<usize>,
        position: usize,
        count: usize,
        logits: Option<&mut [bf16]>,
    ) -> Result<()> {
        let hidden = self.hidden(position, count)?;
        let whole = logits.is_some();
        let began = Instant::now();
        if let Some(group) = group {
            self.stack.chunk(group, position, &hidden, logits)?;
        } else {
            let group = self.stack.geometry().decode_group(position);
            self.stack.token(group.unwrap_or(0), position, &hidden, logits)?;
        }
        // What ends in logits takes longer.
        match group {
            _ if whole => {}
            Some(_) => self.costs.chunk_took(began.elapsed()),
            None => self.costs.token_took(began.elapsed()),
        }
        Ok(())
    }

    /// Embeddings of the test's tokens, spread over the vocabulary.
    fn hidden(&self, position: usize, count: usize) -> Result<Vec<u8>> {
        const STRIDE: usize = 7919;
        let mut hidden = Vec::new();
        for p in position..position + count {
            let token = (13 + p * STRIDE) % self.stack.vocabulary().max(1);
            let row = TokenId::try_from(token).ok().and_then(|t| self.embeddings.row(t));
            let missing = || Failure::new(Fault::ModelInvalid, format!("token {token} has no embedding"));
            hidden.extend_from_slice(row.ok_or_else(missing)?);
        }
        Ok(hidden)
    }
}
