//! The demo model's text side against an independent engine's reference
//! (`tests/golden/smollm2-135m-greedy.json`): same prompt, same tokens, same text.

// The exemption for tests does not reach the functions they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use half::bf16;
use llm8850::chat::{Finish, Input, Limits, Message, Request, Role, Sampling, Think, TokenId, Tools};
use llm8850::inference::{Step, prepare};
use llm8850::model::ModelDir;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    prompt: String,
    prompt_token_ids: Vec<TokenId>,
    token_ids: Vec<TokenId>,
    text: String,
    stop_type: String,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/smollm2-135m-greedy.json")).unwrap()
}

/// The packed demo model: `LLM8850_DEMO_MODEL`, or where `make run` puts it.
fn demo_model() -> ModelDir {
    let place = std::env::var_os("LLM8850_DEMO_MODEL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("build/models/smollm2-135m"),
        PathBuf::from,
    );
    ModelDir::open(&place, None).unwrap_or_else(|e| {
        panic!("the demo model is needed: run `make model`, or set LLM8850_DEMO_MODEL to its directory.\n{e}")
    })
}

fn greedy(messages: Vec<Message>, max_tokens: Option<u32>) -> Request {
    Request {
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        limits: Limits { max_tokens, ..Limits::default() },
        ..Request::new(Input::Chat(messages))
    }
}

#[test]
fn prompts_are_rendered_and_tokenized_as_the_reference_does() {
    let model = demo_model();
    for case in golden().cases {
        assert_eq!(
            model.text().render(&case.messages, &Tools::default(), Think::Default).unwrap(),
            case.prompt
        );
        let ready =
            prepare(model.text(), &Sampling::default(), &greedy(case.messages, None), 8192, &[]).unwrap();
        assert_eq!(ready.prompt, case.prompt_token_ids);
    }
}

#[test]
fn the_references_tokens_give_the_references_text() {
    let model = demo_model();
    for case in golden().cases {
        let limit = u32::try_from(case.token_ids.len()).unwrap();
        let request = greedy(case.messages, Some(limit));
        let mut ready = prepare(model.text(), &Sampling::default(), &request, 8192, &[]).unwrap();
        let mut text = String::new();
        let mut finish = None;
        for &wanted in &case.token_ids {
            // One token far above all others, as if the model had no doubt.
            let mut logits = vec![bf16::ZERO; model.files().vocabulary()];
            logits[wanted as usize] = bf16::from_f32(30.0);
            match ready.generation.next(&logits.into()).unwrap() {
                Step::Token(token) => {
                    assert_eq!(token.id, wanted);
                    text.push_str(&token.delta.content);
                }
                Step::Last(token, done) => {
                    text.push_str(&token.delta.content);
                    text.push_str(&done.tail.content);
                    finish = Some(done.finish);
                }
                Step::Done(done) => {
                    text.push_str(&done.tail.content);
                    finish = Some(done.finish);
                }
            }
        }
        assert_eq!(text, case.text);
        assert_eq!(finish, Some(if case.stop_type == "eos" { Finish::Stop } else { Finish::Length }));
    }
}

#[test]
fn sixty_long_turns_are_trimmed_quickly_and_stay_within_the_context() {
    let model = demo_model();
    let mut messages = vec![Message::text(Role::System, "You are a helpful guide in a museum.")];
    for n in 0..120 {
        let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
        messages.push(Message::text(
            role,
            format!("Turn {n}: {}", "the painting shows a harbour at dawn ".repeat(12)),
        ));
    }
    messages.push(Message::text(Role::User, "And who painted it?"));
    let ready = prepare(model.text(), &Sampling::default(), &greedy(messages, Some(100)), 2048, &[]).unwrap();
    assert!(ready.prompt.len() <= 1948);
    assert!(ready.dropped_messages > 80);
}

/// The demo model's vocabulary in the vendor's text form, kind 1 (ranks) or 3 (merge rules).
fn vendor_text(tokenizer: &serde_json::Value, kind: u32) -> String {
    let mut tokens: Vec<(u64, String)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, id)| (id.as_u64().unwrap(), name.clone()))
        .collect();
    tokens.sort();
    let special: Vec<u64> =
        tokenizer["added_tokens"].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect();
    let ids: Vec<String> = special.iter().chain(&[2]).map(u64::to_string).collect();
    let mut text = format!("430 {kind}\n{} 1 0\n{} \n", special.len(), ids.join(" "));
    if kind == 3 {
        let merges = tokenizer["model"]["merges"].as_array().unwrap();
        text += &format!("{} {}\n", tokens.len(), merges.len());
        for (_, name) in &tokens {
            text += &format!("{name}\n");
        }
        for pair in merges {
            text += &format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        }
        return text;
    }
    text += &format!("{}\n", tokens.len());
    // GPT-2's alphabet: the printable bytes stand for themselves, the others follow from 256.
    let printable = |b: &u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256u32..;
    let bytes: std::collections::HashMap<char, u8> = (0..=255u8)
        .map(|b| {
            let code = if printable(&b) { u32::from(b) } else { others.next().unwrap() };
            (char::from_u32(code).unwrap(), b)
        })
        .collect();
    for (id, name) in &tokens {
        let raw: Vec<u8> = if special.contains(id) {
            name.as_bytes().to_vec()
        } else {
            name.chars().map(|c| bytes[&c]).collect()
        };
        text += &format!("{}\n", BASE64_STANDARD.encode(raw));
    }
    text
}

#[test]
fn the_vendors_vocabulary_text_gives_the_same_tokens() {
    let model = demo_model();
    let read = |name: &str| std::fs::read_to_string(model.files().path().join(name)).unwrap();
    let tokenizer: serde_json::Value = serde_json::from_str(&read("tokenizer.json")).unwrap();
    for kind in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&read("config.json")).unwrap();
        config["tokenizer_type"] = "SmolLM2".into();
        config["url_tokenizer_model"] = "smollm2_tokenizer.txt".into();
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        std::fs::write(dir.path().join("smollm2_tokenizer.txt"), vendor_text(&tokenizer, kind)).unwrap();
        let files = (0..model.files().layers()).map(|i| model.files().layer_file(i));
        for file in files.chain([model.files().post_file(), model.files().embeddings_file()]) {
            std::os::unix::fs::symlink(&file, dir.path().join(file.file_name().unwrap())).unwrap();
        }
        let vendor = ModelDir::open(dir.path(), None).unwrap();
        assert_eq!(vendor.text().ends(), model.text().ends());
        let samples = golden().cases.into_iter().flat_map(|case| [case.prompt, case.text]);
        let odd =
            "  naïve 日本語 🙂\t\tfn main() {\r\n    x += 12345;\n}\n\n\n don't WE'LL <|im_end|>".to_owned();
        for text in samples.chain([odd]) {
            let wanted = model.text().encode(&text, false).unwrap();
            assert_eq!(vendor.text().encode(&text, false).unwrap(), wanted, "kind {kind}: {text:?}");
        }
        // Without a template of its own such a package speaks ChatML.
        let list = [Message::text(Role::System, "S"), Message::text(Role::User, "a")];
        assert_eq!(
            vendor.text().render(&list, &Tools::default(), Think::Default).unwrap(),
            model.text().render(&list, &Tools::default(), Think::Default).unwrap()
        );
    }
}

#[test]
fn the_demo_models_manifest_lists_and_matches_its_files() {
    let model = demo_model();
    let manifest = model.files().manifest().expect("axmodel-pack writes a manifest");
    let post = model.files().post_file();
    let post = post.file_name().and_then(|name| name.to_str()).unwrap();
    assert!(manifest.files().any(|name| name == post));
    for name in manifest.files() {
        manifest.check(model.files().path(), name).unwrap();
    }
    assert_eq!(model.files().embeddings().unwrap().row(49_151).unwrap().len(), 2 * model.files().hidden());
}
