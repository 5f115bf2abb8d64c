//! Packed models against an independent engine reading the same GGUF file, and against
//! themselves: how the rows of a text are grouped must not change a bit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod tiny;

use std::fs::File;
use std::path::Path;

use axcl_rt::chain::Chain;
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
use tiny::{Family, Tiny, all, noise};

/// Token ids to read.
fn prompt(len: usize) -> Vec<u32> {
    noise(len, 77).map(|v| ((v + 1.0) * 127.0) as u32).collect()
}

fn reference_logits(tiny: &Tiny, gguf: &Path, tokens: &[u32]) -> Vec<f32> {
    let mut file = File::open(gguf).unwrap();
    let content = Content::read(&mut file).unwrap();
    let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = match tiny.family {
        Family::Llama => quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)
            .and_then(|mut model| model.forward(&input, 0)),
        Family::Qwen2 => quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)
            .and_then(|mut model| model.forward(&input, 0)),
        Family::Qwen3 => quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)
            .and_then(|mut model| model.forward(&input, 0)),
    };
    logits.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_family_agrees_with_an_independent_engine() {
    for tiny in all() {
        let dir = tempfile::tempdir().unwrap();
        tiny.make(dir.path());
        let mut chain = Chain::open(&dir.path().join("model")).unwrap();
        for len in [1, 7, 150] {
            chain.rewind(0);
            let ours = chain.prefill(&prompt(len)).unwrap();
            let theirs = reference_logits(&tiny, &dir.path().join("tiny.gguf"), &prompt(len));
            assert_eq!(ours.len(), theirs.len());
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let cosine = dot(&ours, &theirs) / (dot(&ours, &ours) * dot(&theirs, &theirs)).sqrt();
            let size = (dot(&theirs, &theirs) / theirs.len() as f64).sqrt();
            let worst = ours.iter().zip(&theirs).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
            eprintln!(
                "{} {:?} {len}: cosine {cosine:.6}, worst {:.4}",
                tiny.name(),
                tiny.matrices,
                worst / size
            );
            // Each layer rounds its input, output, keys and values to 8 bits of mantissa and
            // its activations to 8 bits per block: a few parts in a thousand each. A wrong pairing
            // of rotated elements or a missing bias leaves a cosine well below 0.99.
            assert!(cosine > 0.9995, "{tiny:?} {len}: cosine {cosine}");
            assert!(worst < 0.10 * size, "{tiny:?} {len}: off by {worst} at a size of {size}");
        }
    }
}

#[test]
fn prefill_in_chunks_equals_token_by_token_to_the_bit() {
    for tiny in all() {
        let dir = tempfile::tempdir().unwrap();
        tiny.make(dir.path());
        let mut chain = Chain::open(&dir.path().join("model")).unwrap();
        let tokens = prompt(520);
        let mut steps = Vec::new();
        for &token in &tokens {
            steps.push(chain.decode(token).unwrap());
        }
        for parts in [&[1, 126, 2, 391][..], &[128, 128, 264], &[127, 393], &[200, 56, 1, 100, 163], &[520]] {
            chain.rewind(0);
            let mut at = 0;
            for &part in parts {
                let logits = chain.prefill(&tokens[at..at + part]).unwrap();
                at += part;
                assert_eq!(logits, steps[at - 1], "{tiny:?}: {parts:?} at {at}");
                // A decoded token after a chunk, then the same again by the next chunk.
                if at < tokens.len() {
                    assert_eq!(
                        chain.decode(tokens[at]).unwrap(),
                        steps[at],
                        "{tiny:?}: {parts:?} after {at}"
                    );
                    chain.rewind(at);
                }
            }
        }
    }
}

#[test]
fn a_hollow_model_groups_rows_as_it_likes_too_and_notices_a_wrong_past() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("hollow");
    axcl_rt::pack::pack_hollow("qwen2.5-0.5b", &model, &|_| ()).unwrap();
    let mut chain = Chain::open(&model).unwrap();
    let tokens = prompt(200);
    let steps: Vec<_> = tokens.iter().map(|&token| chain.decode(token).unwrap()).collect();
    chain.rewind(0);
    assert_eq!(chain.prefill(&tokens[..130]).unwrap(), steps[129]);
    assert_eq!(chain.prefill(&tokens[130..]).unwrap(), steps[199]);
    assert!(steps[199].iter().all(|logit| logit.is_finite()));
    assert_ne!(steps[198], steps[199]);
    chain.rewind(0);
    chain.prefill(&[9]).unwrap();
    assert_ne!(chain.prefill(&tokens[1..]).unwrap(), steps[199], "the first token must matter");
}
