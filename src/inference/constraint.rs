//! Holds an answer to a form: says which tokens may come next.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, ParserFactory};

use super::grammar::Grammar;
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

/// What brings JSON to its end, most final first.
const CLOSERS: [&[u8]; 5] = [b"}", b"]", b",", b":", b"\""];
/// What ends a string.
const QUOTE: &[u8] = b"\"";

/// The form of one answer, at some place of it.
pub struct Constraint {
    matcher: Matcher,
    /// From so few tokens before the limit on the answer is brought to its end.
    wind_down: u32,
    /// The tokens of [`CLOSERS`].
    closers: Vec<TokenId>,
    quote: Option<TokenId>,
    place: Place,
    /// What must still come before the form begins.
    before: Vec<&'static str>,
    /// The last bytes until then.
    tail: Vec<u8>,
}

/// Where in a text the answer is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// Outside of strings.
    Open,
    String,
    /// Behind a backslash in one.
    Escape,
}

impl Place {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Open, b'"') | (Self::Escape, _) => Self::String,
            (Self::String, b'"') => Self::Open,
            (Self::String, b'\\') => Self::Escape,
            (same, _) => same,
        }
    }
}

impl Constraint {
    /// The form before the answer's first token; the answer has at most `limit` tokens.
    ///
    /// # Errors
    /// [`Fault::RequestInvalid`] where the form cannot be held to.
    pub fn new(factory: &ParserFactory, grammar: &Grammar, limit: u32) -> Result<Self> {
        let mut matcher =
            Matcher::new(factory.create_parser(TopLevelGrammar::from_lark(grammar.lark.clone())));
        matcher.compute_mask().map_err(|e| invalid(&e))?;
        let trie = factory.tok_env().tok_trie();
        let closers = CLOSERS.iter().filter_map(|bytes| trie.token_id_at_bytes(bytes)).collect();
        let quote = trie.token_id_at_bytes(QUOTE);
        // Names of properties that must still come are part of the grammar's text.
        let text = u32::try_from(grammar.lark.len() / 4).unwrap_or(u32::MAX);
        let wind_down = text.saturating_add(16).min(limit / 4 * 3);
        Ok(Self {
            matcher,
            wind_down,
            closers,
            quote,
            place: Place::Open,
            before: grammar.before.clone(),
            tail: Vec::new(),
        })
    }

    /// The tokens that may come next, with `left` tokens until the limit.
    ///
    /// # Errors
    /// [`Fault::RequestInvalid`] where the form turns out too expensive to follow.
    pub fn allowed(&mut self, left: u32) -> Result<SimpleVob> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|e| invalid(&e))?;
        if left > self.wind_down {
            return Ok(mask);
        }
        // The end itself, or else whatever leads there.
        let environment = self.matcher.tok_env().map_err(|e| invalid(&e))?;
        let trie = environment.tok_trie();
        let mut ends = trie.eos_token_set();
        ends.and(&mask);
        if !ends.is_zero() {
            return Ok(ends);
        }
        let ways = if self.place == Place::Open { &self.closers } else { self.quote.as_slice() };
        let closer = ways.iter().find(|&&token| mask.is_allowed(token));
        Ok(closer.map_or(mask, |&token| trie.singleton_token_set(token)))
    }

    /// Follows the strings of the form.
    fn read(&mut self, byte: u8) {
        let Some(&marker) = self.before.first() else {
            self.place = self.place.after(byte);
            return;
        };
        self.tail.push(byte);
        if self.tail.ends_with(marker.as_bytes()) {
            self.before.remove(0);
            self.tail.clear();
        }
        let excess = self.tail.len().saturating_sub(marker.len());
        self.tail.drain(..excess);
    }

    /// Takes a token and its bytes over. True once nothing may follow.
    ///
    /// # Errors
    /// [`Fault::RequestInvalid`] where the token does not fit.
    pub fn accept(&mut self, token: TokenId, bytes: &[u8]) -> Result<bool> {
        self.matcher.consume_token(token).map_err(|e| invalid(&e))?;
        bytes.iter().for_each(|&byte| self.read(byte));
        Ok(self.matcher.is_stopped())
    }
}

fn invalid(error: &dyn std::fmt::Display) -> Failure {
    let words: String = error.to_string().chars().take(400).collect();
    Failure::new(Fault::RequestInvalid, format!("the form asked of the answer cannot be held to: {words}"))
}
