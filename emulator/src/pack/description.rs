//! `config.json` and `post_config.json`, with the vendor's keys.

use std::path::Path;

use serde_json::{Value, json};

use super::family::Family;
use super::gguf::Gguf;
use super::{Names, PackError, write_file};

/// What `config.json` says.
pub struct Outline<'a> {
    pub name: &'a str,
    /// The vendor's name for the kind of tokenizer.
    pub tokenizer_type: &'static str,
    pub layers: usize,
    pub vocabulary: usize,
    pub hidden: usize,
    pub adds_bos: bool,
}

/// The vendor's name for the tokenizer of a GGUF file.
pub fn tokenizer_type(gguf: &Gguf, family: Family) -> Result<&'static str, PackError> {
    Ok(match (family, gguf.text("tokenizer.ggml.pre")?) {
        (Family::Qwen3, _) => "Qwen3",
        (Family::Qwen2, _) => "Qwen2_5",
        (Family::Llama, Some("smollm")) => "SmolLM2",
        (Family::Llama, Some("llama-bpe")) => "Llama3",
        (Family::Llama, _) => "Llama",
    })
}

/// Writes both files into `dir`.
pub fn write_description(outline: &Outline, names: &Names, dir: &Path) -> Result<(), PackError> {
    let config = json!({
        "model_name": outline.name,
        "tokenizer_type": outline.tokenizer_type,
        "url_tokenizer_model": "tokenizer.json",
        "template_filename_axmodel": names.layer_template(),
        "axmodel_num": outline.layers,
        "filename_post_axmodel": names.post(),
        "filename_tokens_embed": Names::EMBEDDINGS,
        "tokens_embed_num": outline.vocabulary,
        "tokens_embed_size": outline.hidden,
        "post_config_path": "post_config.json",
        "bos": outline.adds_bos,
        "eos": false,
        "use_mmap_load_embed": true,
        "devices": [0],
    });
    let sampling = json!({
        "enable_temperature": true,
        "temperature": 0.9,
        "enable_repetition_penalty": false,
        "repetition_penalty": 1.0,
        "penalty_window": 20,
        "enable_top_p_sampling": true,
        "top_p": 0.95,
        "enable_top_k_sampling": false,
        "top_k": 40,
    });
    write_json(&dir.join("config.json"), &config)?;
    write_json(&dir.join("post_config.json"), &sampling)
}

/// Writes indented JSON.
pub fn write_json(path: &Path, value: &Value) -> Result<(), PackError> {
    write_file(path, format!("{value:#}\n").as_bytes())
}
