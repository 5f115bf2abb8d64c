//! What `axmodel-pack` writes, and what it refuses.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod tiny;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use axcl_rt::pack::{pack_gguf, pack_hollow};
use candle_core::quantized::gguf_file::{self, Value};
use serde_json::Value as Json;
use tiny::all;
use tokenizers::Tokenizer;

fn quiet(_: &str) {}

fn json(path: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn check_manifest(model: &Path) {
    let manifest = json(&model.join("manifest.json"));
    assert_eq!(manifest["version"], 1);
    let listed: BTreeMap<String, Json> = serde_json::from_value(manifest["files"].clone()).unwrap();
    let mut present: Vec<String> = std::fs::read_dir(model)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "manifest.json")
        .collect();
    present.sort();
    assert_eq!(listed.keys().cloned().collect::<Vec<_>>(), present);
    for (name, entry) in listed {
        let bytes = std::fs::read(model.join(&name)).unwrap();
        assert_eq!(entry["bytes"], bytes.len(), "{name}");
        assert_eq!(entry["crc32"], format!("{:08x}", crc32fast::hash(&bytes)), "{name}");
    }
}

#[test]
fn a_directory_has_the_vendors_files_and_a_true_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = all()[2];
    tiny.make(dir.path());
    let model = dir.path().join("model");
    check_manifest(&model);
    let config = json(&model.join("config.json"));
    assert_eq!(config["model_name"], "tiny");
    assert_eq!(config["template_filename_axmodel"], "qwen2_p128_l%d_together.axmodel");
    assert_eq!(config["axmodel_num"], 2);
    for layer in 0..2 {
        assert!(model.join(format!("qwen2_p128_l{layer}_together.axmodel")).is_file());
    }
    assert!(model.join(config["filename_post_axmodel"].as_str().unwrap()).is_file());
    let embeddings = model.join(config["filename_tokens_embed"].as_str().unwrap());
    let size = embeddings.metadata().unwrap().len();
    assert_eq!(size, 2 * (tiny::VOCABULARY * tiny.hidden) as u64);
    assert_eq!(json(&model.join("generation_config.json"))["eos_token_id"], serde_json::json!([261]));
    let tokenizer = Tokenizer::from_file(model.join("tokenizer.json")).unwrap();
    let encoding = tokenizer.encode("the thé<|im_end|>", false).unwrap();
    assert_eq!(encoding.get_ids(), [258u32, 257, 0xc3, 0xa9, 261]);
    assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), "the thé<|im_end|>");
}

#[test]
fn packing_again_replaces_the_model_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (gguf, model) = (dir.path().join("tiny.gguf"), dir.path().join("model"));
    all()[0].write(&gguf);
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("precious.txt"), "mine").unwrap();
    let error = pack_gguf(&gguf, &model, None, None, &quiet).unwrap_err().to_string();
    assert!(error.contains("no model directory"), "{error}");
    std::fs::remove_file(model.join("precious.txt")).unwrap();
    for context in [200, 400] {
        pack_gguf(&gguf, &model, None, Some(context), &quiet).unwrap();
        check_manifest(&model);
    }
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn what_cannot_be_packed_is_named_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (gguf, model) = (dir.path().join("tiny.gguf"), dir.path().join("model"));
    let refused = |context| pack_gguf(&gguf, &model, None, context, &quiet).unwrap_err().to_string();
    assert!(refused(None).contains("cannot be read"));
    std::fs::write(&gguf, "version https://git-lfs.github.com/spec/v1").unwrap();
    assert!(refused(None).contains("not a GGUF file"));
    all()[0].write(&gguf);
    assert!(refused(Some(5000)).contains("made for 1024"));
    let whole = std::fs::read(&gguf).unwrap();
    std::fs::write(&gguf, &whole[..whole.len() - 4000]).unwrap();
    let error = refused(None);
    assert!(error.contains("truncated") && error.contains("tiny.gguf"), "{error}");
    let architecture = Value::String("mamba".into());
    let metadata = [("general.architecture", &architecture)];
    gguf_file::write(&mut File::create(&gguf).unwrap(), &metadata, &[]).unwrap();
    let error = refused(None);
    assert!(error.contains("mamba") && error.contains("llama, qwen2 or qwen3"), "{error}");
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["tiny.gguf"]);
}

#[test]
fn a_hollow_model_reads_and_writes_text_and_takes_no_room() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("hollow");
    pack_hollow("qwen3-4b", &model, &quiet).unwrap();
    let (mut size, mut room) = (0, 0);
    for entry in std::fs::read_dir(&model).unwrap() {
        let metadata = entry.unwrap().metadata().unwrap();
        size += metadata.len();
        room += metadata.blocks() * 512;
    }
    assert!(size > 5_600_000_000 && room < 20_000_000, "{size} {room}");
    let manifest = json(&model.join("manifest.json"));
    assert_eq!(manifest["files"]["qwen3_p128_l0_together.axmodel"]["bytes"], 125_435_994);
    let tokenizer = Tokenizer::from_file(model.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.get_vocab_size(true), 151_669);
    let text = "<|im_start|>user\nGrüße, 12!<|im_end|>\n";
    let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    let words = [256u32, 70_000, 151_642];
    let text = tokenizer.decode(&words, false).unwrap();
    assert!(text.chars().all(|c| c == ' ' || c.is_ascii_lowercase()), "{text}");
    assert_eq!(tokenizer.encode(text, false).unwrap().get_ids(), words);
}

#[test]
fn the_tiny_hollow_model_is_small_throughout() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("tiny");
    pack_hollow("tiny", &model, &quiet).unwrap();
    let size: u64 =
        std::fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size < 16 << 20, "{size}");
    let tokenizer = Tokenizer::from_file(model.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.token_to_id("<|endoftext|>"), Some(4096 - 293));
    let text = "<|im_start|>user\nHi<|im_end|>";
    let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
    assert!(ids.iter().all(|id| *id < 4096), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
}

#[test]
fn sentencepiece_vocabularies_become_merges_with_byte_fallback() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = dir.path().join("tiny.gguf");
    let mut pieces: Vec<(String, f32, i32)> =
        [("<unk>", 2), ("<s>", 3), ("</s>", 3)].map(|(p, kind)| (p.into(), 0.0, kind)).into();
    pieces.extend((0..=255u8).map(|b| (format!("<0x{b:02X}>"), 0.0, 6)));
    let words = ["▁t", "he", "▁the", "▁", "t", "h", "e", "n"];
    pieces.extend((1u8..).zip(words).map(|(n, p)| (p.into(), -f32::from(n), 1)));
    let vocabulary = pieces.len();
    assert_eq!(vocabulary, 267);
    let tiny = tiny::Tiny { vocabulary, ..all()[0] };
    let list = |of: &dyn Fn(&(String, f32, i32)) -> Value| Value::Array(pieces.iter().map(of).collect());
    tiny.write_with(
        &gguf,
        vec![
            ("model", Value::String("llama".into())),
            ("tokens", list(&|p| Value::String(p.0.clone()))),
            ("scores", list(&|p| Value::F32(p.1))),
            ("token_type", list(&|p| Value::I32(p.2))),
            ("bos_token_id", Value::U32(1)),
            ("eos_token_id", Value::U32(2)),
            ("unknown_token_id", Value::U32(0)),
            ("add_bos_token", Value::Bool(true)),
        ],
    );
    let model = dir.path().join("model");
    pack_gguf(&gguf, &model, None, None, &quiet).unwrap();
    let tokenizer = Tokenizer::from_file(model.join("tokenizer.json")).unwrap();
    let encoding = tokenizer.encode("then é", true).unwrap();
    let names = ["<s>", "▁the", "n", "▁", "<0xC3>", "<0xA9>"];
    assert_eq!(encoding.get_tokens(), names);
    assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), "then é");
}
