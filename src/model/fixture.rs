//! A tiny model package for tests: every byte is a token, and so are a few words.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::ModelDir;
use super::bpe::spell;
use super::vendor_vocabulary::{Family, added_token};

pub const START: u32 = 300;
pub const END: u32 = 301;
pub const THINK: u32 = 302;
pub const UNTHINK: u32 = 303;
pub const VOCABULARY: u32 = 320;

const WORDS: [&str; 6] = ["th", "the", " the", "in", "ing", "é"];
const MERGES: [(&str, &str); 5] = [("t", "h"), ("th", "e"), (" ", "the"), ("i", "n"), ("in", "g")];

/// The `tokenizer.json` of the package.
pub fn tokenizer_json() -> Value {
    let mut vocabulary = Map::new();
    for byte in 0..=255u8 {
        vocabulary.insert(spell(&[byte]), json!(byte));
    }
    for (id, word) in (256..).zip(WORDS) {
        vocabulary.insert(spell(word.as_bytes()), json!(id));
    }
    let mut merges: Vec<Value> =
        MERGES.iter().map(|(a, b)| json!([spell(a.as_bytes()), spell(b.as_bytes())])).collect();
    merges.push(json!([spell(&[0xc3]), spell(&[0xa9])]));
    // Ids between the words and the markers are unused.
    for id in 256 + WORDS.len()..300 {
        vocabulary.insert(format!("\u{2581}unused{id}"), json!(id));
    }
    let markers = [
        ("<|im_start|>", START, true),
        ("<|im_end|>", END, true),
        ("<think>", THINK, false),
        ("</think>", UNTHINK, false),
    ];
    let added = markers.map(|(text, id, special)| added_token(id, text, special)).to_vec();
    Family::Qwen.tokenizer_json(vocabulary, merges, added)
}

/// Writes a package of one layer and opens it.
pub fn package(dir: &Path, template: Option<&str>) -> ModelDir {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    write("tokenizer.json", tokenizer_json().to_string());
    let config = json!({
        "model_name": "tiny", "template_filename_axmodel": "tiny_l%d.axmodel", "axmodel_num": 1,
        "filename_post_axmodel": "tiny_post.axmodel", "filename_tokens_embed": "embed.bin",
        "tokens_embed_num": VOCABULARY, "tokens_embed_size": 2,
    });
    write("config.json", config.to_string());
    write("tokenizer_config.json", json!({"eos_token": "<|im_end|>", "chat_template": template}).to_string());
    write("tiny_l0.axmodel", "layer".to_owned());
    write("tiny_post.axmodel", "post".to_owned());
    std::fs::write(dir.join("embed.bin"), vec![0; 320 * 4]).unwrap();
    ModelDir::open(dir, None).unwrap()
}
