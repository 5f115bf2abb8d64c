//! Hugging Face tokenizer files from a GGUF file's vocabulary.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr;

use candle_core::quantized::gguf_file::Value as Meta;
use serde_json::{Map, Value, json};

use super::description::write_json;
use super::gguf::Gguf;
use super::splitting::splitting;
use super::{PackError, sentencepiece, write_file};

/// Kinds of tokens, as GGUF numbers them.
const UNKNOWN: usize = 2;
const CONTROL: usize = 3;
const USER_DEFINED: usize = 4;

/// Control tokens that end an answer whatever else the file says.
const ENDS: [&str; 7] =
    ["<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "<|end|>", "<EOT>"];

/// A vocabulary as the file has it.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<usize>,
    bos: Option<usize>,
    eos: Option<usize>,
    unknown: Option<usize>,
    adds_bos: bool,
}

impl Vocabulary {
    fn read(gguf: &Gguf, expected: usize) -> Result<Self, PackError> {
        let tokens = texts(gguf, "tokenizer.ggml.tokens")?
            .ok_or_else(|| gguf.damaged("key tokenizer.ggml.tokens is missing"))?;
        if tokens.len() > expected {
            return Err(gguf.damaged(format!("{} tokens but {expected} embeddings", tokens.len())));
        }
        let kinds = match gguf.list("tokenizer.ggml.token_type")? {
            Some(kinds) => kinds.iter().map(|kind| integer(kind).unwrap_or(1)).collect(),
            None => vec![1; tokens.len()],
        };
        let id = |name: &str| -> Result<Option<usize>, PackError> {
            let id = gguf.number(&format!("tokenizer.ggml.{name}_token_id"))?;
            Ok(id.filter(|&id| id < tokens.len()))
        };
        Ok(Self {
            bos: id("bos")?,
            eos: id("eos")?,
            unknown: id("unknown")?,
            adds_bos: gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(false),
            kinds,
            tokens,
        })
    }

    fn name(&self, id: Option<usize>) -> Option<&str> {
        self.tokens.get(id?).map(String::as_str)
    }

    /// Token names with their numbers, the first where a name occurs twice.
    fn ids(&self) -> Map<String, Value> {
        let mut ids = Map::new();
        for (id, token) in self.tokens.iter().enumerate() {
            ids.entry(token.clone()).or_insert_with(|| json!(id));
        }
        ids
    }

    fn added(&self) -> Vec<Value> {
        let kinds = self.tokens.iter().zip(&self.kinds).enumerate();
        kinds
            .filter(|(_, (_, kind))| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind))
            .map(|(id, (token, &kind))| {
                json!({
                    "id": id, "content": token, "special": kind != USER_DEFINED, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false,
                })
            })
            .collect()
    }

    /// Numbers of the tokens that end an answer.
    fn ends(&self, gguf: &Gguf) -> Result<Vec<usize>, PackError> {
        let mut ends: Vec<usize> = self.eos.into_iter().collect();
        for name in ["eot", "eom"] {
            ends.extend(gguf.number(&format!("tokenizer.ggml.{name}_token_id"))?);
        }
        let known = self.tokens.iter().zip(&self.kinds).enumerate();
        ends.extend(
            known
                .filter(|(_, (token, kind))| **kind != 1 && ENDS.contains(&token.as_str()))
                .map(|(id, _)| id),
        );
        let mut seen = HashSet::new();
        ends.retain(|&id| id < self.tokens.len() && seen.insert(id));
        Ok(ends)
    }

    /// Puts the begin token before a text where the model wants it.
    fn post_processor(&self) -> Value {
        let Some(bos) = self.name(self.bos).filter(|_| self.adds_bos) else { return Value::Null };
        let single = json!([
            {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        ]);
        let pair = json!([
            {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}
        ]);
        let special = json!({ bos: {"id": bos, "ids": [self.bos], "tokens": [bos]} });
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special})
    }
}

fn integer(value: &Meta) -> Option<usize> {
    match value {
        Meta::I32(n) => usize::try_from(*n).ok(),
        other => other.to_u32().ok().map(|n| n as usize),
    }
}

fn texts(gguf: &Gguf, key: &str) -> Result<Option<Vec<String>>, PackError> {
    let Some(list) = gguf.list(key)? else { return Ok(None) };
    list.iter()
        .map(|value| match value {
            Meta::String(text) => Ok(text.clone()),
            _ => Err(gguf.damaged(format!("key {key} is not a list of texts"))),
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`.
///
/// # Errors
/// For kinds of tokenizers that are not known, naming the kind.
pub fn write_tokenizer(gguf: &Gguf, vocabulary_size: usize, dir: &Path) -> Result<(), PackError> {
    let vocabulary = Vocabulary::read(gguf, vocabulary_size)?;
    let json = match gguf.text("tokenizer.ggml.model")? {
        Some("gpt2") => byte_level(gguf, &vocabulary)?,
        Some("llama") => pieces(gguf, &vocabulary)?,
        other => {
            return Err(gguf.unsupported(format!(
                "tokenizer {:?}; use a model with a tokenizer of kind gpt2 or llama",
                other.unwrap_or("(none)")
            )));
        }
    };
    // Reading it proves it usable, and writing it again puts it in the usual form.
    let tokenizer = tokenizers::Tokenizer::from_str(&json.to_string())
        .map_err(|e| gguf.damaged(format!("its tokenizer is inconsistent: {e}")))?;
    let text = tokenizer.to_string(false).map_err(|e| PackError::Internal(e.to_string()))?;
    write_file(&dir.join("tokenizer.json"), text.as_bytes())?;
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": vocabulary.adds_bos,
        "bos_token": vocabulary.name(vocabulary.bos),
        "eos_token": vocabulary.name(vocabulary.eos),
        "unk_token": vocabulary.name(vocabulary.unknown),
        "clean_up_tokenization_spaces": false,
    });
    if let (Some(template), Some(config)) = (gguf.text("tokenizer.chat_template")?, config.as_object_mut()) {
        config.insert("chat_template".into(), template.into());
    }
    write_json(&dir.join("tokenizer_config.json"), &config)?;
    let generation = json!({
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.ends(gguf)?,
    });
    write_json(&dir.join("generation_config.json"), &generation)
}

/// Byte-level pairs, as GPT-2, Qwen and Llama 3 use.
fn byte_level(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Value, PackError> {
    let name = gguf.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let splitting = splitting(name).ok_or_else(|| {
        gguf.unsupported(format!(
            "tokenizer splitting {name:?}; known are default, gpt-2, smollm, qwen2, llama-bpe and their kin"
        ))
    })?;
    let merges = texts(gguf, "tokenizer.ggml.merges")?
        .ok_or_else(|| gguf.damaged("key tokenizer.ggml.merges is missing"))?;
    let merges: Vec<Value> =
        merges.iter().filter_map(|merge| merge.split_once(' ').map(|(a, b)| json!([a, b]))).collect();
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": splitting.normalizer,
        "pre_tokenizer": splitting.pre_tokenizer,
        "post_processor": vocabulary.post_processor(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": splitting.ignores_merges, "vocab": vocabulary.ids(), "merges": merges,
        },
    }))
}

/// SentencePiece pieces with scores, as Llama 2 and TinyLlama use.
fn pieces(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Value, PackError> {
    let scores = gguf.list("tokenizer.ggml.scores")?.unwrap_or_default();
    let scores: Vec<f32> = scores.iter().filter_map(|score| score.to_f32().ok()).collect();
    if scores.len() != vocabulary.tokens.len() {
        return Err(gguf.damaged("tokenizer.ggml.scores does not have one score per token"));
    }
    let merges: Vec<Value> = sentencepiece::merges(&vocabulary.tokens, &scores)
        .into_iter()
        .map(|(left, right)| json!([left, right]))
        .collect();
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prefixed = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut normalizers = vec![spaces];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefixed {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": vocabulary.post_processor(),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": vocabulary.name(vocabulary.unknown),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary.ids(), "merges": merges,
        },
    }))
}
