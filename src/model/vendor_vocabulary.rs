//! The vendor's vocabulary text (`…_tokenizer.txt`, magic number 430), read into the
//! Hugging Face form. The format is described in `docs/model-packages.md`.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::bpe::{parents, spell};
use crate::chat::TokenId;

/// What the file begins with.
const MAGIC: &str = "430";

/// A vocabulary in Hugging Face's form, and the tokens that end an answer.
#[derive(Debug)]
pub struct VendorVocabulary {
    pub tokenizer_json: Value,
    pub ends: Vec<TokenId>,
}

/// How a family of models splits text before byte-pair encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Qwen 2, 2.5 and 3, and what is built on them.
    Qwen,
    /// SmolLM2 and SmolVLM2.
    SmolLm,
}

impl Family {
    /// The family of a `tokenizer_type` as the vendor writes it, or of a Python class name.
    pub fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace(['-', '_', '.'], "");
        // Qwen 3.5 splits marks differently and has a vocabulary of its own.
        if name.starts_with("qwen35") {
            return None;
        }
        let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
        if starts(&["qwen2", "qwen3", "internvl3"]) {
            Some(Self::Qwen)
        } else if starts(&["smollm2", "smolvlm2"]) {
            Some(Self::SmolLm)
        } else {
            None
        }
    }

    /// A `tokenizer.json` for this family. Names in `vocabulary` are byte-level.
    pub fn tokenizer_json(
        self,
        mut vocabulary: Map<String, Value>,
        merges: Vec<Value>,
        added: Vec<Value>,
    ) -> Value {
        // The library numbers added tokens anew unless the vocabulary has them.
        for token in &added {
            if let Some(content) = token.get("content").and_then(Value::as_str) {
                vocabulary.entry(content).or_insert_with(|| token.get("id").cloned().unwrap_or_default());
            }
        }
        let byte_level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex});
        let (normalizer, splitter) = match self {
            Self::Qwen => (
                json!({"type": "NFC"}),
                json!({"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
                    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                }}),
            ),
            Self::SmolLm => (Value::Null, json!({"type": "Digits", "individual_digits": true})),
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": {"type": "Sequence",
                "pretokenizers": [splitter, byte_level(self == Self::SmolLm)]},
            "post_processor": null, "decoder": byte_level(true),
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": false, "vocab": vocabulary, "merges": merges}
        })
    }
}

/// An entry of `added_tokens`: never split, found in any text.
pub fn added_token(id: TokenId, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special})
}

/// Reads the text of such a file.
///
/// # Errors
/// What is wrong, without the file's name.
pub fn parse(text: &str, tokenizer_type: Option<&str>) -> Result<VendorVocabulary, String> {
    let mut lines = text.lines();
    let mut line = |what: &str| lines.next().ok_or_else(|| format!("it ends before its {what}"));
    let kind = line("first line")?
        .strip_prefix(MAGIC)
        .map(str::trim)
        .ok_or_else(|| format!("its first line is not \"{MAGIC}\" and a kind"))?;
    let counts = numbers(line("counts")?)?;
    let &[special, stop, prefix] = counts.as_slice() else {
        return Err("its second line is not three counts".to_owned());
    };
    let listed = numbers(line("special tokens")?)?;
    if listed.len() != special.saturating_add(stop).saturating_add(prefix) {
        return Err(format!(
            "its third line lists {} tokens, not {special} + {stop} + {prefix}",
            listed.len()
        ));
    }
    let ids: Vec<TokenId> = listed
        .iter()
        .map(|&id| TokenId::try_from(id).map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    let (special, rest) = ids.split_at(special.min(ids.len()));
    let ends = rest.get(..stop).unwrap_or_default().to_vec();
    if prefix != 0 {
        return Err(
            "it puts tokens before every text, which is supported only from a tokenizer.json".to_owned()
        );
    }
    let sizes = numbers(line("vocabulary size")?)?;
    let family = tokenizer_type.and_then(Family::of).ok_or_else(|| {
        format!(
            "it does not say how text is split, and tokenizer_type {tokenizer_type:?} is not of a known family \
             (Qwen2, Qwen2.5, Qwen3, InternVL3, SmolLM2, SmolVLM2): put the model's tokenizer.json beside it"
        )
    })?;
    let (entries, merges) = match (kind, sizes.as_slice()) {
        ("1", &[count]) => {
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                entries.push(BASE64_STANDARD.decode(line("last token")?).map_err(|e| e.to_string())?);
            }
            (entries, None)
        }
        ("3", &[count, merge_count]) => {
            let mut entries = Vec::with_capacity(count);
            for _ in 0..count {
                entries.push(line("last token")?.as_bytes().to_vec());
            }
            let mut merges = Vec::with_capacity(merge_count);
            for _ in 0..merge_count {
                let rule = line("last merge rule")?;
                if let Some((a, b)) = rule.split_once(' ').filter(|_| !rule.starts_with("#version")) {
                    merges.push(json!([a, b]));
                }
            }
            (entries, Some(merges))
        }
        ("1" | "3", _) => return Err("its vocabulary size is not as its kind demands".to_owned()),
        (kind, _) => {
            return Err(format!(
                "its kind is {kind}; only 1 (byte-pair ranks) and 3 (with merge rules) are supported: \
                 put the model's tokenizer.json beside it"
            ));
        }
    };
    Ok(VendorVocabulary { tokenizer_json: assemble(family, &entries, merges, special)?, ends })
}

fn assemble(
    family: Family,
    entries: &[Vec<u8>],
    merges: Option<Vec<Value>>,
    special: &[TokenId],
) -> Result<Value, String> {
    let is_special: std::collections::HashSet<TokenId> = special.iter().copied().collect();
    let spelt = merges.is_some();
    let numbered = || (0..).zip(entries.iter().map(Vec::as_slice));
    let ranks: HashMap<&[u8], TokenId> =
        numbered().filter(|(id, _)| !is_special.contains(id)).map(|(id, bytes)| (bytes, id)).collect();
    let mut vocabulary = Map::new();
    let mut added = Vec::new();
    let mut implied = Vec::new();
    for (id, bytes) in numbered() {
        if is_special.contains(&id) {
            let content = std::str::from_utf8(bytes).map_err(|e| format!("special token {id}: {e}"))?;
            added.push(added_token(id, content, true));
            continue;
        }
        let name = if spelt { String::from_utf8_lossy(bytes).into_owned() } else { spell(bytes) };
        // Gaps are written as `<unk>` once for every id: the first keeps the name.
        vocabulary.entry(name).or_insert(Value::from(id));
        if !spelt && let Some((a, b)) = parents(bytes, id, &ranks) {
            implied.push(json!([spell(a), spell(b)]));
        }
    }
    Ok(family.tokenizer_json(vocabulary, merges.unwrap_or(implied), added))
}

fn numbers(line: &str) -> Result<Vec<usize>, String> {
    line.split_whitespace().map(|n| n.parse().map_err(|e| format!("\"{n}\": {e}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::str::FromStr;

    /// A vocabulary of 256 bytes, a few merges and two markers.
    fn sample() -> String {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        tokens
            .extend(["th", "the", " the", "in", "<|im_start|>", "<|im_end|>"].map(|t| t.as_bytes().to_vec()));
        let mut text = format!("430 1\n2 1 0\n260 261 261 \n{}\n", tokens.len());
        for token in tokens {
            writeln!(text, "{}", BASE64_STANDARD.encode(token)).unwrap();
        }
        text
    }

    #[test]
    fn a_rank_file_becomes_a_working_tokenizer() {
        let vocabulary = parse(&sample(), Some("Qwen3")).unwrap();
        assert_eq!(vocabulary.ends, [261]);
        let tokenizer = tokenizers::Tokenizer::from_str(&vocabulary.tokenizer_json.to_string()).unwrap();
        let ids = tokenizer.encode("<|im_start|>the then<|im_end|>", false).unwrap();
        assert_eq!(ids.get_ids(), [260, 257, 258, 110, 261]);
    }

    #[test]
    fn a_merge_file_becomes_a_working_tokenizer() {
        let text = "430 3\n1 1 0\n4 4 \n5 2\na\nb\nab\naba\n<end>\n#version: 0.2\na b\nab a\n";
        let text = text.replacen("5 2", "5 3", 1);
        let vocabulary = parse(&text, Some("Qwen2_5")).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_str(&vocabulary.tokenizer_json.to_string()).unwrap();
        assert_eq!(tokenizer.encode("ababa<end>", false).unwrap().get_ids(), [2, 3, 4]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let failure = |text: &str, kind| parse(text, kind).unwrap_err();
        assert!(failure("431 1\n", Some("Qwen3")).contains("first line"));
        assert!(failure(&sample(), Some("Gemma4")).contains("not of a known family"));
        assert!(failure(&sample(), None).contains("tokenizer.json"));
        assert!(failure(&sample().replacen("430 1", "430 0", 1), Some("Qwen3")).contains("kind is 0"));
        let cut = sample();
        let cut = cut.get(..cut.len() - 30).unwrap();
        assert!(failure(cut, Some("Qwen3")).contains("ends before"));
        assert!(failure("430 1\n1 1 1\n4 4 4\n5\n", Some("Qwen3")).contains("before every text"));
    }

    #[test]
    fn families_are_told_apart() {
        for (name, family) in [
            ("Qwen2_5", Some(Family::Qwen)),
            ("Qwen3VL", Some(Family::Qwen)),
            ("Qwen2Tokenizer", Some(Family::Qwen)),
            ("InternVL3_5", Some(Family::Qwen)),
            ("SmolVLM2", Some(Family::SmolLm)),
            ("Qwen3.5", None),
            ("Gemma4VL", None),
        ] {
            assert_eq!(Family::of(name), family, "{name}");
        }
    }
}
