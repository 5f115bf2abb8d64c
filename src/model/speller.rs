//! Text into tokens; what comes again with every turn of a conversation, by memory.
//!
//! A control token parts a text: what is before it and what is behind do not touch each other's tokens. So a rendered
//! conversation falls into pieces that end with the mark of a turn's end, and only pieces that are new are tokenized.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokenizers::Tokenizer;

use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

/// Bytes of text whose tokens are remembered; they take about twice as much beside.
const REMEMBERED: usize = 1 << 20;

/// A tokenizer with a memory.
pub struct Speller {
    tokenizer: Tokenizer,
    /// Control tokens at which text may be parted.
    marks: Vec<String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    pieces: HashMap<Box<str>, Arc<[TokenId]>>,
    bytes: usize,
}

impl Speller {
    /// Of `marks` those are used at which this tokenizer does part text.
    pub fn new(tokenizer: Tokenizer, marks: &[&str]) -> Self {
        let mut speller = Self { tokenizer, marks: Vec::new(), known: Mutex::default() };
        speller.marks =
            marks.iter().filter(|mark| speller.parts_at(mark)).map(|&mark| mark.to_owned()).collect();
        speller
    }

    /// Tokenizes text in which control tokens are recognised. `begin` adds what the tokenizer
    /// puts at the beginning of a text.
    ///
    /// # Errors
    /// [`Fault::Tokenizer`].
    pub fn encode(&self, text: &str, begin: bool) -> Result<Vec<TokenId>> {
        let ends =
            |mark: &String| text.match_indices(mark.as_str()).map(|(at, mark)| at + mark.len()).collect();
        let mut ends: Vec<usize> = self.marks.iter().flat_map::<Vec<usize>, _>(ends).collect();
        ends.sort_unstable();
        let (mut tokens, mut rest, mut spelt) = (Vec::new(), text, 0);
        for end in ends {
            let (piece, behind) = rest.split_at(end - spelt);
            if begin && spelt == 0 {
                tokens = self.spell(piece, true)?;
            } else {
                tokens.extend_from_slice(&self.recall(piece)?);
            }
            (rest, spelt) = (behind, end);
        }
        if !rest.is_empty() || spelt == 0 {
            tokens.extend(self.spell(rest, begin && spelt == 0)?);
        }
        Ok(tokens)
    }

    fn recall(&self, piece: &str) -> Result<Arc<[TokenId]>> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tokens) = known().pieces.get(piece) {
            return Ok(Arc::clone(tokens));
        }
        let tokens: Arc<[TokenId]> = self.spell(piece, false)?.into();
        let mut known = known();
        if known.bytes + piece.len() > REMEMBERED {
            *known = Known::default();
        }
        if piece.len() <= REMEMBERED && known.pieces.insert(piece.into(), Arc::clone(&tokens)).is_none() {
            known.bytes += piece.len();
        }
        Ok(tokens)
    }

    fn spell(&self, text: &str, begin: bool) -> Result<Vec<TokenId>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, begin)
            .map_err(|e| Failure::new(Fault::Tokenizer, format!("a text of {} bytes: {e}", text.len())))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Whether text on both sides of `mark` is spelt as if alone: it is a control token, and trying shows no
    /// tokenizer that treats the beginning of a text or blanks beside control tokens in its own way.
    fn parts_at(&self, mark: &str) -> bool {
        if !self.tokenizer.get_added_vocabulary().get_vocab().contains_key(mark) {
            return false;
        }
        const SIDES: [&str; 9] = ["", "x", " x", "x ", "\n", "\nx y", "x\n\n", "é", " . "];
        let spell = |text: &str, begin| self.spell(text, begin).ok();
        SIDES.iter().flat_map(|before| SIDES.iter().map(move |behind| (before, behind))).all(
            |(before, behind)| {
                let (first, whole) =
                    (format!("{before}{mark}"), format!("{before}{mark}{behind}{mark}{behind}"));
                let second = format!("{behind}{mark}");
                [true, false].into_iter().all(|begin| {
                    let parts = [spell(&first, begin), spell(&second, false), spell(behind, false)];
                    let joined: Option<Vec<_>> = parts.into_iter().collect();
                    joined.is_some_and(|parts| spell(&whole, begin) == Some(parts.concat()))
                })
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use proptest::prelude::*;

    fn tokenizer() -> Tokenizer {
        serde_json::from_value(fixture::tokenizer_json()).unwrap()
    }

    #[test]
    fn text_is_parted_at_control_tokens_only() {
        let speller = Speller::new(tokenizer(), &["<|im_end|>", "ing", "</s>"]);
        assert_eq!(speller.marks, ["<|im_end|>"]);
    }

    #[test]
    fn a_tokenizer_that_marks_the_beginning_of_text_is_left_alone() {
        let tokenizer = serde_json::from_value(serde_json::json!({
            "version": "1.0",
            "added_tokens": [{ "id": 6, "content": "<end>", "special": true, "single_word": false, "lstrip": false,
                               "rstrip": false, "normalized": false }],
            "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false },
            "model": { "type": "BPE", "vocab": { "▁": 0, "x": 1, "y": 2, ".": 3, "é": 4, "\n": 5 }, "merges": [] },
        }));
        let tokenizer: Tokenizer = tokenizer.unwrap();
        assert!(tokenizer.token_to_id("<end>").is_some());
        assert!(Speller::new(tokenizer, &["<end>"]).marks.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let speller = Speller::new(tokenizer(), &["<|im_end|>"]);
        for n in 0..30 {
            let long = format!("{n}{}<|im_end|>", "the ".repeat(20_000));
            assert_eq!(speller.encode(&long, false).unwrap(), speller.spell(&long, false).unwrap());
            let known = speller.known.lock().unwrap();
            assert!(known.bytes <= REMEMBERED);
            assert_eq!(known.bytes, known.pieces.keys().map(|piece| piece.len()).sum::<usize>());
        }
        let huge = format!("{}<|im_end|>", "x".repeat(REMEMBERED + 1));
        assert_eq!(speller.encode(&huge, true).unwrap().len(), REMEMBERED + 2);
    }

    proptest! {
        #[test]
        fn by_memory_or_not_the_tokens_are_the_same(
            parts in proptest::collection::vec("(<\\|im_end\\|>|<\\|im_start\\|>|<think>|the|ing| |\n|é|x|[a-z ]{0,6}){0,6}", 0..12),
            begin in any::<bool>(),
        ) {
            let speller = Speller::new(tokenizer(), &["<|im_end|>"]);
            let text = parts.concat();
            for _ in 0..2 {
                prop_assert_eq!(speller.encode(&text, begin).unwrap(), speller.spell(&text, begin).unwrap());
            }
        }
    }
}
