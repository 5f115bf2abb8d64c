//! Hollow models: the shapes, file sizes and costs of real packages, without weights. Their
//! big files are sparse. For measuring and testing the host's part at full size.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::description::{Outline, write_description, write_json};
use super::engine_file::{Tensors, write};
use super::family::{CHUNK, Family, histories};
use super::{Names, PackError, Progress, build, manifest, write_file};
use crate::engine::container::{Header, LayerSpec, PostSpec, RopeKind, Spec};

/// Rows of the families' embedding tables.
const VOCABULARY: usize = 151_936;
/// The token numbers below this are single bytes.
const BYTES: usize = 256;
/// The last rows: special tokens, then unused ones. What lies between are words.
const SPECIALS: usize = 293;

/// A model to imitate.
struct Model {
    name: &'static str,
    family: Family,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    capacity: usize,
    vocabulary: usize,
    /// Bits per weight of the layers; the head always has eight.
    bits: usize,
}

const MODELS: [Model; 6] = [
    Model {
        name: "qwen3-4b",
        family: Family::Qwen3,
        layers: 36,
        hidden: 2560,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        ffn: 9728,
        capacity: 2559,
        vocabulary: VOCABULARY,
        bits: 8,
    },
    Model {
        name: "qwen3-1.7b",
        family: Family::Qwen3,
        layers: 28,
        hidden: 2048,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        ffn: 6144,
        capacity: 2047,
        vocabulary: VOCABULARY,
        bits: 8,
    },
    Model {
        name: "qwen3-0.6b",
        family: Family::Qwen3,
        layers: 28,
        hidden: 1024,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        ffn: 3072,
        capacity: 2048,
        vocabulary: VOCABULARY,
        bits: 8,
    },
    Model {
        name: "qwen2.5-0.5b",
        family: Family::Qwen2,
        layers: 24,
        hidden: 896,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
        ffn: 4864,
        capacity: 2047,
        vocabulary: VOCABULARY,
        bits: 8,
    },
    Model {
        name: "qwen2.5-1.5b-int4",
        family: Family::Qwen2,
        layers: 28,
        hidden: 1536,
        heads: 12,
        kv_heads: 2,
        head_dim: 128,
        ffn: 8960,
        capacity: 2047,
        vocabulary: VOCABULARY,
        bits: 4,
    },
    // No real one's: for where even the host's part must cost next to nothing.
    Model {
        name: "tiny",
        family: Family::Qwen3,
        layers: 2,
        hidden: 64,
        heads: 2,
        kv_heads: 1,
        head_dim: 32,
        ffn: 128,
        capacity: 2047,
        vocabulary: 4096,
        bits: 8,
    },
];

impl Model {
    fn find(name: &str) -> Result<&'static Self, PackError> {
        MODELS.iter().find(|model| model.name == name).ok_or_else(|| PackError::NoHollow {
            name: name.into(),
            known: MODELS.map(|model| model.name).join(", "),
        })
    }

    /// The first of the special tokens.
    fn specials(&self) -> usize {
        self.vocabulary - SPECIALS
    }

    /// Bytes of the matrices of a layer.
    fn layer_weights(&self) -> u64 {
        let attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim;
        ((attention + 3 * self.hidden * self.ffn) * self.bits / 8) as u64
    }

    fn head_weights(&self) -> u64 {
        (self.hidden * self.vocabulary) as u64
    }

    /// Size of a layer file: a line through the shipped Qwen3-4B (125.4 MB) and 0.6B
    /// (23.1 MB) layers.
    fn layer_file(&self) -> u64 {
        if self.name == "qwen3-4b" { 125_435_994 } else { self.layer_weights() * 6 / 5 + 4_200_000 }
    }

    /// Size of the post file, in the proportion of the shipped Qwen3-4B's.
    fn post_file(&self) -> u64 {
        if self.name == "qwen3-4b" { 424_609_056 } else { self.head_weights() * 1092 / 1000 }
    }

    fn layer(&self) -> LayerSpec {
        LayerSpec {
            hidden: self.hidden,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            ffn: self.ffn,
            rms_eps: 1e-6,
            rope_kind: RopeKind::Neox,
            rope_base: 1e6,
            rope_dims: self.head_dim,
            rope_scale: 1.0,
            capacity: self.capacity,
            chunk: CHUNK,
            // As shipped: prefill reaches 2048 tokens whatever the cache holds.
            histories: histories(self.capacity.min(2048)),
        }
    }
}

/// Makes the hollow model `name` in the directory `out`.
///
/// # Errors
/// Lists the names there are when `name` is none of them.
pub fn pack_hollow(name: &str, out: &Path, progress: Progress) -> Result<(), PackError> {
    let model = Model::find(name)?;
    let names = Names::new(model.family.name());
    build(out, &|dir| {
        progress("tokenizer");
        write_tokenizer(model, dir)?;
        let outline = Outline {
            name: model.name,
            tokenizer_type: if model.family == Family::Qwen3 { "Qwen3" } else { "Qwen2_5" },
            layers: model.layers,
            vocabulary: model.vocabulary,
            hidden: model.hidden,
            adds_bos: false,
        };
        write_description(&outline, &names, dir)?;
        progress("engines");
        for layer in 0..model.layers {
            let path = dir.join(names.layer(layer));
            write_hollow(&path, Spec::Layer(model.layer()), model.layer_weights(), model.layer_file())?;
        }
        let post = PostSpec { hidden: model.hidden, vocabulary: model.vocabulary, rms_eps: 1e-6 };
        write_hollow(&dir.join(names.post()), Spec::Post(post), model.head_weights(), model.post_file())?;
        write_embeddings(model, &dir.join(Names::EMBEDDINGS))?;
        progress("manifest");
        manifest::write_manifest(dir)
    })
}

fn write_hollow(path: &Path, spec: Spec, weight_bytes: u64, size: u64) -> Result<(), PackError> {
    write(path, &Header { spec, hollow: true, weight_bytes }, &Tensors::default())?;
    let grow = || OpenOptions::new().write(true).open(path)?.set_len(size);
    grow().map_err(|e| PackError::Write { path: path.into(), source: e })
}

/// Rows for bytes and special tokens, which prompts consist of; words keep rows of zeros.
fn write_embeddings(model: &Model, path: &Path) -> Result<(), PackError> {
    let row_bytes = (model.hidden * 2) as u64;
    let fill = || {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.set_len(row_bytes * model.vocabulary as u64)?;
        let specials = (model.specials()..).take(SPECIAL_NAMES.len());
        for token in (0..BYTES).chain(specials) {
            let row: Vec<u8> = (0..model.hidden)
                .flat_map(|i| (0x3c00u16 | ((token * 31 + i * 7) % 512) as u16).to_le_bytes())
                .collect();
            file.write_all_at(&row, token as u64 * row_bytes)?;
        }
        Ok(())
    };
    fill().map_err(|e| PackError::Write { path: path.into(), source: e })
}

/// The family's special tokens, in order.
const SPECIAL_NAMES: [&str; 26] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
];

const CHATML: &str = "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}";
const NO_THINKING: &str = "{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif %}";

/// The made-up word of a number: a space and three syllables.
fn word(number: usize) -> String {
    const CONSONANTS: [char; 15] =
        ['b', 'd', 'f', 'g', 'h', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'z'];
    const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
    let syllables = CONSONANTS.len() * VOWELS.len();
    let letter = |letters: &[char], n: usize| letters.get(n % letters.len()).copied().unwrap_or('a');
    let mut word = String::from("Ġ");
    for place in [syllables * syllables, syllables, 1] {
        let n = number / place;
        word.extend([letter(&CONSONANTS, n / VOWELS.len()), letter(&VOWELS, n)]);
    }
    word
}

/// The characters byte-level tokenizers write bytes as: printable ones as they are, the
/// rest from U+0100 on.
fn byte_names() -> impl Iterator<Item = String> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256u32;
    (0..=255u8).map(move |byte| {
        let code = if printable(byte) {
            u32::from(byte)
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).map(String::from).unwrap_or_default()
    })
}

fn write_tokenizer(model: &Model, dir: &Path) -> Result<(), PackError> {
    let specials = model.specials();
    let words = (0..specials - BYTES).map(word);
    let vocabulary: Map<String, Value> =
        byte_names().chain(words).enumerate().map(|(id, name)| (name, json!(id))).collect();
    let added: Vec<Value> = SPECIAL_NAMES
        .iter()
        .enumerate()
        .map(|(n, name)| {
            json!({
                "id": specials + n, "content": name, "special": name.starts_with("<|"),
                "normalized": false, "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
        .collect();
    let Some(splitting) = super::splitting::splitting("gpt-2") else {
        return Err(PackError::Internal("no splitting for hollow models".into()));
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": splitting.pre_tokenizer,
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": true, "vocab": vocabulary, "merges": [],
        },
    });
    write_file(&dir.join("tokenizer.json"), tokenizer.to_string().as_bytes())?;
    let thinking = if model.family == Family::Qwen3 { NO_THINKING } else { "" };
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": false,
        "bos_token": null,
        "eos_token": "<|im_end|>",
        "clean_up_tokenization_spaces": false,
        "chat_template": format!("{CHATML}{thinking}{{%- endif %}}"),
    });
    write_json(&dir.join("tokenizer_config.json"), &config)?;
    let generation = json!({ "bos_token_id": specials, "eos_token_id": [specials + 2, specials] });
    write_json(&dir.join("generation_config.json"), &generation)
}
