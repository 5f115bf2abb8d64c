//! What each token stands for, in bytes.

use std::collections::HashMap;

use serde_json::Value;

use super::bpe::byte_of_char;
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

/// Control tokens that are part of the answer all the same: they delimit its parts.
const SHOWN: [&str; 4] = ["<think>", "</think>", "<tool_call>", "</tool_call>"];

/// How a tokenizer's token names turn into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decoding {
    /// Each character is one byte (GPT-2's table).
    ByteLevel,
    /// `▁` is a space, `<0x0A>` a byte, the rest is text (SentencePiece).
    SentencePiece,
}

/// The bytes of every token, in one block.
pub struct Pieces {
    bytes: Vec<u8>,
    /// Where token n begins; one entry more than there are tokens.
    starts: Vec<u32>,
    hidden: Vec<bool>,
    strips_first_space: bool,
}

impl Pieces {
    /// Reads them off a tokenizer.
    ///
    /// # Errors
    /// [`Fault::Tokenizer`] where its decoder is neither byte-level nor SentencePiece's.
    pub fn new(tokenizer: &tokenizers::Tokenizer) -> Result<Self> {
        let failed = |e: String| Failure::new(Fault::Tokenizer, e);
        let decoder = match tokenizer.get_decoder() {
            Some(decoder) => serde_json::to_value(decoder).map_err(|e| failed(e.to_string()))?,
            None => Value::Null,
        };
        let (decoding, strips_first_space) = recognise(&decoder)
            .ok_or_else(|| failed(format!("its decoder is of a kind that is not supported: {decoder}")))?;
        let added = tokenizer.get_added_tokens_decoder();
        let vocabulary = tokenizer.get_vocab(true);
        let names: HashMap<TokenId, &str> =
            vocabulary.iter().map(|(name, &id)| (id, name.as_str())).collect();
        let count = names.keys().max().map_or(0, |&id| id.saturating_add(1));
        let mut pieces = Self { bytes: Vec::new(), starts: vec![0], hidden: Vec::new(), strips_first_space };
        for id in 0..count {
            match (added.get(&id), names.get(&id)) {
                (Some(token), _) => pieces.bytes.extend(token.content.as_bytes()),
                (None, Some(name)) => decoding.append(name, &mut pieces.bytes),
                (None, None) => {}
            }
            let hidden = added.get(&id).is_some_and(|t| t.special && !SHOWN.contains(&t.content.as_str()));
            pieces.hidden.push(hidden);
            let end = u32::try_from(pieces.bytes.len()).map_err(|e| failed(e.to_string()))?;
            pieces.starts.push(end);
        }
        Ok(pieces)
    }

    /// How many tokens there are.
    pub fn count(&self) -> usize {
        self.hidden.len()
    }

    /// A token's own bytes, not always whole characters; none for unknown tokens.
    pub fn bytes(&self, token: TokenId) -> &[u8] {
        let range = usize::try_from(token).ok().and_then(|i| {
            let start = usize::try_from(*self.starts.get(i)?).ok()?;
            let end = usize::try_from(*self.starts.get(i.checked_add(1)?)?).ok()?;
            self.bytes.get(start..end)
        });
        range.unwrap_or_default()
    }

    /// Whether a token is a control token that is never shown.
    pub fn is_hidden(&self, token: TokenId) -> bool {
        usize::try_from(token).ok().and_then(|i| self.hidden.get(i)).copied().unwrap_or(true)
    }

    /// Whether the space before an answer's first word belongs to the tokenizer, not the text.
    pub fn strips_first_space(&self) -> bool {
        self.strips_first_space
    }
}

/// The decoding of a tokenizer's `decoder` object, and whether it strips the first space.
fn recognise(decoder: &Value) -> Option<(Decoding, bool)> {
    let kind = |value: &Value| value.get("type").and_then(Value::as_str).map(str::to_owned);
    match kind(decoder)?.as_str() {
        "ByteLevel" => Some((Decoding::ByteLevel, false)),
        "Metaspace" => {
            let never = decoder.get("prepend_scheme").and_then(Value::as_str) == Some("never");
            Some((Decoding::SentencePiece, !never))
        }
        "Sequence" => {
            let parts = decoder.get("decoders")?.as_array()?;
            if let Some(inner) =
                parts.iter().find(|part| matches!(kind(part).as_deref(), Some("ByteLevel" | "Metaspace")))
            {
                return recognise(inner);
            }
            let replaces = parts.iter().any(|part| {
                kind(part).as_deref() == Some("Replace")
                    && part.pointer("/pattern/String").and_then(Value::as_str) == Some("▁")
            });
            let strips = parts.iter().any(|part| {
                kind(part).as_deref() == Some("Strip") && part.get("start").and_then(Value::as_u64) == Some(1)
            });
            replaces.then_some((Decoding::SentencePiece, strips))
        }
        _ => None,
    }
}

impl Decoding {
    fn append(self, name: &str, bytes: &mut Vec<u8>) {
        match self {
            Self::ByteLevel => {
                let start = bytes.len();
                for c in name.chars() {
                    let Some(byte) = byte_of_char(c) else {
                        // Not in the table: the name is text.
                        bytes.truncate(start);
                        bytes.extend(name.as_bytes());
                        return;
                    };
                    bytes.push(byte);
                }
            }
            Self::SentencePiece => match byte_name(name) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend(name.replace('▁', " ").as_bytes()),
            },
        }
    }
}

/// The byte named `<0x0A>`.
fn byte_name(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decoders_are_recognised() {
        let llama = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        assert_eq!(recognise(&llama), Some((Decoding::SentencePiece, true)));
        let gemma = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]});
        assert_eq!(recognise(&gemma), Some((Decoding::SentencePiece, false)));
        assert_eq!(recognise(&json!({"type": "ByteLevel"})), Some((Decoding::ByteLevel, false)));
        assert_eq!(recognise(&json!({"type": "WordPiece"})), None);
        assert_eq!(recognise(&Value::Null), None);
    }

    #[test]
    fn names_become_bytes() {
        let bytes = |decoding: Decoding, name: &str| {
            let mut out = Vec::new();
            decoding.append(name, &mut out);
            out
        };
        assert_eq!(bytes(Decoding::ByteLevel, "ĠParis"), b" Paris");
        assert_eq!(bytes(Decoding::ByteLevel, "ðŁ"), [0xf0, 0x9f]);
        assert_eq!(bytes(Decoding::ByteLevel, "日本"), "日本".as_bytes());
        assert_eq!(bytes(Decoding::SentencePiece, "▁Paris"), b" Paris");
        assert_eq!(bytes(Decoding::SentencePiece, "<0xF0>"), [0xf0]);
    }
}
