//! Chooses the next token: a pure function of logits, history, parameters, seed and position.

use std::collections::{HashMap, VecDeque};

use half::bf16;
use llguidance::toktrie::SimpleVob;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::candidates::{Bucket, Candidates};
use super::histogram::{Histogram, logprobs};
use super::logits::Known;
use super::selection::{Selection, is_allowed};
use crate::chat::{Sampling, TokenId, TokenLogprobs};
use crate::fault::{Failure, Fault, Result};
use crate::model::Pieces;

/// How far back the penalties look where nobody says.
const REPEAT_LAST_N: i32 = 64;
/// A bias this low bans a token, as OpenAI's API has it.
const BAN: f32 = -100.0;
/// Up to so many of the likeliest tokens are found without counting them all.
const SELECTED: usize = 1024;
/// Keeps these random numbers apart from those of other programs with the same seed.
const DOMAIN: &[u8; 24] = b"llm8850 sampler stream 1";

/// Every parameter decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    typical_p: f32,
    repeat_penalty: f32,
    repeat_last_n: i32,
    frequency_penalty: f32,
    presence_penalty: f32,
    logit_bias: HashMap<TokenId, f32>,
    seed: u64,
}

impl Settings {
    /// The request's values, then the model's, then neutral ones.
    ///
    /// # Errors
    /// [`Fault::RequestInvalid`] for values that are no numbers, for a repeat penalty that is
    /// not positive, and for biased tokens the vocabulary does not have.
    pub fn new(request: &Sampling, model: &Sampling, vocabulary: usize) -> Result<Self> {
        let invalid = |what: String| Failure::new(Fault::RequestInvalid, what);
        let number = |name: &str, ours: Option<f32>, theirs: Option<f32>, neutral: f32| {
            let value = ours.or(theirs).unwrap_or(neutral);
            if value.is_finite() { Ok(value) } else { Err(invalid(format!("{name} is {value}"))) }
        };
        let repeat_penalty = number("repeat_penalty", request.repeat_penalty, model.repeat_penalty, 1.0)?;
        if repeat_penalty <= 0.0 {
            return Err(invalid(format!("repeat_penalty is {repeat_penalty}, it must be above 0")));
        }
        let mut logit_bias = HashMap::new();
        for &(token, bias) in &request.logit_bias {
            if usize::try_from(token).map_or(true, |id| id >= vocabulary) {
                return Err(invalid(format!(
                    "logit_bias names token {token}, the vocabulary has {vocabulary}"
                )));
            }
            let bias = number("a logit_bias", Some(bias), None, 0.0)?;
            logit_bias.insert(token, if bias <= BAN { f32::NEG_INFINITY } else { bias });
        }
        Ok(Self {
            temperature: number("temperature", request.temperature, model.temperature, 1.0)?,
            top_k: request.top_k.or(model.top_k).unwrap_or(0),
            top_p: number("top_p", request.top_p, model.top_p, 1.0)?,
            min_p: number("min_p", request.min_p, model.min_p, 0.0)?,
            typical_p: number("typical_p", request.typical_p, model.typical_p, 1.0)?,
            repeat_penalty,
            repeat_last_n: request.repeat_last_n.or(model.repeat_last_n).unwrap_or(REPEAT_LAST_N),
            frequency_penalty: number(
                "frequency_penalty",
                request.frequency_penalty,
                model.frequency_penalty,
                0.0,
            )?,
            presence_penalty: number(
                "presence_penalty",
                request.presence_penalty,
                model.presence_penalty,
                0.0,
            )?,
            logit_bias,
            seed: request.seed.or(model.seed).unwrap_or(0),
        })
    }

    /// How many of the likeliest tokens can matter; `None` where all can.
    fn likeliest(&self) -> Option<usize> {
        if self.temperature <= 0.0 { Some(1) } else { usize::try_from(self.top_k).ok().filter(|&k| k > 0) }
    }

    /// Runs the chain: the logit drawn, and which of its tokens.
    fn narrow(&self, mut candidates: Candidates, position: u32) -> Result<(f32, u32)> {
        let banned = || Failure::new(Fault::RequestInvalid, "logit_bias bans every token");
        if self.temperature <= 0.0 {
            return Ok((candidates.best().ok_or_else(banned)?, 0));
        }
        candidates.top_k(self.top_k);
        candidates.typical_p(f64::from(self.typical_p));
        candidates.top_p(f64::from(self.top_p));
        candidates.min_p(f64::from(self.min_p));
        candidates.draw(f64::from(self.temperature), uniform(self.seed, position)).ok_or_else(banned)
    }

    fn penalises(&self) -> bool {
        self.repeat_last_n != 0
            && (self.repeat_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0)
    }
}

/// The chain of one request, with the tokens the penalties look at.
pub struct Sampler {
    settings: Settings,
    histogram: Histogram,
    selection: Selection,
    /// The last `repeat_last_n` tokens, oldest first; only where penalties need them.
    recent: VecDeque<TokenId>,
    counts: HashMap<TokenId, u32>,
}

impl Sampler {
    /// For an answer to `prompt`.
    pub fn new(settings: Settings, prompt: &[TokenId]) -> Self {
        let mut sampler = Self {
            settings,
            histogram: Histogram::new(),
            selection: Selection::default(),
            recent: VecDeque::new(),
            counts: HashMap::new(),
        };
        for &token in prompt {
            sampler.accept(token);
        }
        sampler
    }

    /// Adds a token to the history.
    pub fn accept(&mut self, token: TokenId) {
        if !self.settings.penalises() {
            return;
        }
        *self.counts.entry(token).or_insert(0) += 1;
        self.recent.push_back(token);
        let limit = usize::try_from(self.settings.repeat_last_n).unwrap_or(usize::MAX);
        while self.recent.len() > limit {
            if let Some(oldest) = self.recent.pop_front()
                && let Some(count) = self.counts.get_mut(&oldest)
            {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&oldest);
                }
            }
        }
    }

    /// Chooses the token at `position` of the answer, counted from 0, of those `allowed`, and
    /// with `top` also gives its log-probability and those of that many alternatives.
    ///
    /// # Errors
    /// [`Fault::CardOutput`] for impossible logits, [`Fault::RequestInvalid`] where
    /// `logit_bias` bans every token.
    pub fn choose(
        &mut self,
        logits: Known<'_>,
        position: u32,
        top: Option<u8>,
        pieces: &Pieces,
        allowed: Option<&SimpleVob>,
    ) -> Result<(TokenId, Option<TokenLogprobs>)> {
        let token = self.pick(logits, position, allowed)?;
        let Some(top) = top else { return Ok((token, None)) };
        self.histogram.fill(logits.values)?;
        Ok((token, Some(logprobs(&self.histogram, logits.values, token, top, pieces))))
    }

    fn pick(&mut self, logits: Known<'_>, position: u32, allowed: Option<&SimpleVob>) -> Result<TokenId> {
        let altered = self.altered(logits.values, allowed);
        // Altered tokens may have been among the likeliest, and need not be any more.
        let likeliest = self.settings.likeliest().map(|n| n.saturating_add(altered.len()));
        match likeliest.filter(|&n| n <= SELECTED) {
            Some(n) => self.select(logits, position, allowed, &altered, n),
            None => self.count(logits.values, position, allowed, &altered),
        }
    }

    /// Looks at the `n` likeliest only: enough of them are left when the altered ones are out.
    fn select(
        &mut self,
        logits: Known<'_>,
        position: u32,
        allowed: Option<&SimpleVob>,
        altered: &[(TokenId, f32)],
        n: usize,
    ) -> Result<TokenId> {
        let is_altered = |token| altered.binary_search_by_key(&token, |&(id, _)| id).is_ok();
        let likeliest = self.selection.likeliest(logits, allowed, n)?.iter().copied();
        let mut tokens: Vec<(TokenId, f32)> =
            likeliest.filter(|&(id, _)| !is_altered(id)).chain(altered.iter().copied()).collect();
        let buckets = tokens.iter().map(|&(_, logit)| Bucket { logit, count: 1 });
        let (logit, index) = self.settings.narrow(Candidates::new(buckets.collect()), position)?;
        tokens.retain(|&(_, value)| value == logit);
        tokens.sort_unstable_by_key(|&(id, _)| id);
        let chosen = usize::try_from(index).ok().and_then(|index| tokens.get(index));
        chosen.map(|&(id, _)| id).ok_or_else(gone)
    }

    /// Counts all logits by value: every token stays a candidate.
    fn count(
        &mut self,
        logits: &[bf16],
        position: u32,
        allowed: Option<&SimpleVob>,
        altered: &[(TokenId, f32)],
    ) -> Result<TokenId> {
        self.histogram.fill(logits)?;
        let masked = allowed.map(|allowed| mask(logits, allowed));
        let open = masked.as_deref().unwrap_or(logits);
        if masked.is_some() {
            self.histogram.count(open);
        }
        for &(token, _) in altered {
            if let Some(&logit) = at(open, token) {
                self.histogram.remove(logit);
            }
        }
        let buckets = self.histogram.values().map(|(logit, count)| Bucket { logit, count });
        let single = altered.iter().map(|&(_, logit)| Bucket { logit, count: 1 });
        let (logit, index) =
            self.settings.narrow(Candidates::new(buckets.chain(single).collect()), position)?;
        nth(altered, open, logit, index).ok_or_else(gone)
    }

    /// Tokens whose logit is not the card's, ascending, with the logit they have instead.
    fn altered(&self, logits: &[bf16], allowed: Option<&SimpleVob>) -> Vec<(TokenId, f32)> {
        let settings = &self.settings;
        let unseen = settings.logit_bias.keys().filter(|token| !self.counts.contains_key(token));
        let mut altered: Vec<(TokenId, f32)> = self
            .counts
            .keys()
            .chain(unseen)
            .filter_map(|&token| {
                let mut logit = at(logits, token)?.to_f32();
                if allowed.is_some_and(|allowed| !is_allowed(allowed.as_slice(), token)) {
                    logit = f32::NEG_INFINITY;
                }
                logit += settings.logit_bias.get(&token).copied().unwrap_or(0.0);
                if let Some(&count) = self.counts.get(&token) {
                    if logit > 0.0 {
                        logit /= settings.repeat_penalty;
                    } else {
                        logit *= settings.repeat_penalty;
                    }
                    #[allow(clippy::cast_precision_loss)]
                    let count = count as f32;
                    logit -= count * settings.frequency_penalty + settings.presence_penalty;
                }
                // Absurd biases stay numbers.
                Some((token, logit.min(f32::MAX)))
            })
            .collect();
        altered.sort_unstable_by_key(|&(token, _)| token);
        altered
    }
}

fn gone() -> Failure {
    Failure::new(Fault::Internal, "the sampler chose a token that is not there")
}

/// The logits with those of all other tokens at −∞.
fn mask(logits: &[bf16], allowed: &SimpleVob) -> Vec<bf16> {
    let mut masked = vec![bf16::NEG_INFINITY; logits.len()];
    for token in allowed.iter() {
        let place = usize::try_from(token).ok();
        if let Some(place) = place
            && let (Some(to), Some(&logit)) = (masked.get_mut(place), logits.get(place))
        {
            *to = logit;
        }
    }
    masked
}

fn at(logits: &[bf16], token: TokenId) -> Option<&bf16> {
    logits.get(usize::try_from(token).ok()?)
}

/// The token with the `index`-th lowest id among those that have `logit`.
fn nth(altered: &[(TokenId, f32)], logits: &[bf16], logit: f32, mut index: u32) -> Option<TokenId> {
    let mut altered = altered.iter().peekable();
    for (token, raw) in (0..).zip(logits) {
        let value = match altered.next_if(|&&(id, _)| id == token) {
            Some(&(_, value)) => value,
            None => raw.to_f32(),
        };
        if value == logit {
            if index == 0 {
                return Some(token);
            }
            index -= 1;
        }
    }
    None
}

/// The random number of [0, 1) that belongs to a position; 53 bits, the same everywhere.
fn uniform(seed: u64, position: u32) -> f64 {
    let mut key = [0; 32];
    let (head, tail) = key.split_at_mut(8);
    head.copy_from_slice(&seed.to_le_bytes());
    tail.copy_from_slice(DOMAIN);
    let mut generator = ChaCha12Rng::from_seed(key);
    generator.set_word_pos(u128::from(position) * 2);
    #[allow(clippy::cast_precision_loss)]
    let bits = (generator.next_u64() >> 11) as f64;
    bits / (1u64 << 53) as f64
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
