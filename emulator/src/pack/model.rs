//! Writes the weights of a model: layer engines, post engine, embeddings.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::engine_file::{Tensors, write};
use super::family::Shape;
use super::gguf::{Gguf, Weights};
use super::weights::{Packed, bf16_row, pack, vector};
use super::{Names, PackError, Progress};
use crate::engine::container::{Header, Spec};

/// Writes every engine and the embeddings of `gguf` into `dir`.
pub fn write_weights(
    gguf: &Gguf,
    shape: &Shape,
    names: &Names,
    dir: &Path,
    progress: Progress,
) -> Result<(), PackError> {
    for layer in 0..shape.layers {
        progress(&format!("layer {} of {}", layer + 1, shape.layers));
        let tensors = layer_tensors(gguf, shape, layer)?;
        save(&dir.join(names.layer(layer)), Spec::Layer(shape.layer.clone()), &tensors)?;
    }
    progress("post engine");
    save(&dir.join(names.post()), Spec::Post(shape.post.clone()), &post_tensors(gguf, shape)?)?;
    progress("embeddings");
    write_embeddings(gguf, &dir.join(Names::EMBEDDINGS))
}

fn save(path: &Path, spec: Spec, tensors: &Tensors) -> Result<(), PackError> {
    write(path, &Header { spec, hollow: false, weight_bytes: tensors.bytes() }, tensors)
}

fn shaped<'a>(gguf: &'a Gguf, name: &str, outputs: usize, inputs: usize) -> Result<Weights<'a>, PackError> {
    let weights = gguf.weights(name)?;
    if (weights.outputs, weights.inputs) != (outputs, inputs) {
        return Err(gguf.damaged(format!(
            "tensor {name} is {} × {} instead of {outputs} × {inputs}",
            weights.outputs, weights.inputs
        )));
    }
    Ok(weights)
}

fn matrix(gguf: &Gguf, name: &str, outputs: usize, inputs: usize) -> Result<Packed, PackError> {
    pack(shaped(gguf, name, outputs, inputs)?)
        .ok_or_else(|| gguf.unsupported(format!("tensor {name}: rows of {inputs}, not a multiple of 32")))
}

fn layer_tensors(gguf: &Gguf, shape: &Shape, index: usize) -> Result<Tensors, PackError> {
    let spec = &shape.layer;
    let (hidden, q, kv, ffn) = (spec.hidden, spec.q_width(), spec.kv_width(), spec.ffn);
    let name = |part: &str| format!("blk.{index}.{part}");
    let mut tensors = Tensors::default();
    for (ours, theirs, outputs, inputs) in [
        ("q", "attn_q.weight", q, hidden),
        ("k", "attn_k.weight", kv, hidden),
        ("v", "attn_v.weight", kv, hidden),
        ("o", "attn_output.weight", hidden, q),
        ("gate", "ffn_gate.weight", ffn, hidden),
        ("up", "ffn_up.weight", ffn, hidden),
        ("down", "ffn_down.weight", hidden, ffn),
    ] {
        tensors.matrix(ours, &matrix(gguf, &name(theirs), outputs, inputs)?)?;
    }
    for (ours, theirs) in [("attn_norm", "attn_norm.weight"), ("ffn_norm", "ffn_norm.weight")] {
        tensors.vector(ours, &vector(shaped(gguf, &name(theirs), 1, hidden)?))?;
    }
    for (ours, theirs) in [("q_norm", "attn_q_norm.weight"), ("k_norm", "attn_k_norm.weight")] {
        if gguf.find(&name(theirs))?.is_some() {
            tensors.vector(ours, &vector(shaped(gguf, &name(theirs), 1, spec.head_dim)?))?;
        }
    }
    let mut bias = Vec::new();
    for (theirs, width) in [("attn_q.bias", q), ("attn_k.bias", kv), ("attn_v.bias", kv)] {
        if gguf.find(&name(theirs))?.is_some() {
            bias.extend(vector(shaped(gguf, &name(theirs), 1, width)?));
        }
    }
    if bias.len() == q + 2 * kv {
        tensors.vector("qkv_bias", &bias)?;
    } else if !bias.is_empty() {
        return Err(gguf.damaged(format!("layer {index} has biases for some of queries, keys and values")));
    }
    for theirs in ["attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"] {
        if gguf.find(&name(theirs))?.is_some() {
            return Err(gguf.unsupported(format!("tensor {}", name(theirs))));
        }
    }
    if gguf.find("rope_freqs.weight")?.is_some() {
        tensors.vector("rope_factors", &vector(shaped(gguf, "rope_freqs.weight", 1, spec.rope_dims / 2)?))?;
    }
    Ok(tensors)
}

fn post_tensors(gguf: &Gguf, shape: &Shape) -> Result<Tensors, PackError> {
    let spec = &shape.post;
    // Without a head of its own the model uses its embeddings.
    let head = if gguf.find("output.weight")?.is_some() { "output.weight" } else { "token_embd.weight" };
    let mut tensors = Tensors::default();
    tensors.vector("norm", &vector(shaped(gguf, "output_norm.weight", 1, spec.hidden)?))?;
    tensors.matrix("head", &matrix(gguf, head, spec.vocabulary, spec.hidden)?)?;
    Ok(tensors)
}

fn write_embeddings(gguf: &Gguf, path: &Path) -> Result<(), PackError> {
    let failed = |e| PackError::Write { path: path.into(), source: e };
    let weights = gguf.weights("token_embd.weight")?;
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    for row in 0..weights.outputs {
        file.write_all(&bf16_row(weights, row)).map_err(failed)?;
    }
    file.into_inner().map_err(|e| failed(e.into_error())).map(drop)
}
