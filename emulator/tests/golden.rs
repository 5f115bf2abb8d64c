//! The packed demo model against an independent engine on the same GGUF file: prompts,
//! greedy tokens and log-probabilities in `tests/golden/`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use axcl_rt::chain::Chain;
use serde_json::Value;
use tokenizers::Tokenizer;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn model() -> PathBuf {
    let dir = std::env::var_os("LLM8850_DEMO_MODEL")
        .map_or_else(|| workspace().join("build/models/smollm2-135m"), PathBuf::from);
    assert!(
        dir.join("manifest.json").is_file(),
        "{}: the demo model is not there; make it with `make model`, or name a packed \
         SmolLM2-135M directory in LLM8850_DEMO_MODEL",
        dir.display()
    );
    dir
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(workspace().join("tests/golden/smollm2-135m-greedy.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn log_probability(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - top).exp()).sum();
    f64::from(logits[token as usize] - top) - sum.ln()
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    best.0 as u32
}

#[test]
fn the_tokenizer_reads_prompts_as_the_reference_does() {
    let tokenizer = Tokenizer::from_file(model().join("tokenizer.json")).unwrap();
    for case in cases() {
        let prompt = case["prompt"].as_str().unwrap();
        let encoding = tokenizer.encode(prompt, false).unwrap();
        assert_eq!(encoding.get_ids(), ids(&case["prompt_token_ids"]), "{prompt}");
        let text = tokenizer.decode(&ids(&case["token_ids"]), false).unwrap();
        assert!(text.starts_with(case["text"].as_str().unwrap()), "{text}");
    }
}

#[test]
fn teacher_forced_the_model_agrees_with_the_reference() {
    let mut chain = Chain::open(&model()).unwrap();
    let (mut agreeing, mut positions) = (0, 0);
    let (mut difference, mut compared) = (0.0, 0);
    for case in cases() {
        chain.rewind(0);
        let mut logits = chain.prefill(&ids(&case["prompt_token_ids"])).unwrap();
        let tokens = ids(&case["token_ids"]);
        for (token, tops) in tokens.iter().zip(case["top_logprobs"].as_array().unwrap()) {
            positions += 1;
            agreeing += usize::from(likeliest(&logits) == *token);
            let reference = tops.as_array().into_iter().flatten().find(|top| top[0] == *token);
            if let Some(reference) = reference.and_then(|top| top[1].as_f64()) {
                difference += (log_probability(&logits, *token) - reference).abs();
                compared += 1;
            }
            logits = chain.decode(*token).unwrap();
        }
    }
    let (agreement, difference) = (agreeing as f64 / positions as f64, difference / compared as f64);
    eprintln!("top-1 agreement {agreement:.4}, mean |Δ log-prob| {difference:.4} over {positions} tokens");
    assert!(positions > 250 && compared > 250);
    assert!(agreement >= 0.97, "top-1 agreement {agreement}");
    assert!(difference <= 0.05, "mean |Δ log-prob| {difference}");
}
