//! One layer in every group, on one, two and five threads.

use std::fs::File;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use half::bf16;

use super::container::{Container, Header, LayerSpec, RopeKind, Spec};
use super::crew::Crew;
use super::layer::LayerEngine;
use super::{Engine, Source};
use crate::pack::engine_file::{Tensors, write};
use crate::pack::gguf::Weights;
use crate::pack::weights::pack;

const MASKED: f32 = -65536.0;

fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn bf16_bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect()
}

fn spec() -> LayerSpec {
    LayerSpec {
        hidden: 96,
        heads: 6,
        kv_heads: 2,
        head_dim: 32,
        ffn: 160,
        rms_eps: 1e-6,
        rope_kind: RopeKind::Neox,
        rope_base: 1e4,
        rope_dims: 32,
        rope_scale: 1.0,
        capacity: 300,
        chunk: 16,
        histories: vec![0, 64, 128],
    }
}

fn engine(dir: &tempfile::TempDir) -> LayerEngine {
    let spec = spec();
    let mut tensors = Tensors::default();
    let (q, kv) = (spec.q_width(), spec.kv_width());
    for (seed, (name, outputs, inputs)) in (1..).zip([
        ("q", q, 96),
        ("k", kv, 96),
        ("v", kv, 96),
        ("o", 96, q),
        ("gate", 160, 96),
        ("up", 160, 96),
        ("down", 96, 160),
    ]) {
        let bytes: Vec<u8> =
            noise(outputs * inputs, seed).iter().flat_map(|v| (v * 0.2).to_le_bytes()).collect();
        let weights = Weights { data_type: GgmlDType::F32, outputs, inputs, bytes: &bytes };
        tensors.matrix(name, &pack(weights).unwrap()).unwrap();
    }
    for (name, len) in [("attn_norm", 96), ("ffn_norm", 96), ("qkv_bias", q + 2 * kv), ("q_norm", 32)] {
        tensors.vector(name, &noise(len, 50)).unwrap();
    }
    let path = dir.path().join("layer.axmodel");
    let header = Header { spec: Spec::Layer(spec.clone()), hollow: false, weight_bytes: tensors.bytes() };
    write(&path, &header, &tensors).unwrap();
    // SAFETY: nobody writes the file any more.
    let map = unsafe { memmap2::Mmap::map(&File::open(path).unwrap()) }.unwrap();
    let container = Container::open(Source::File(Arc::new(map))).unwrap();
    assert_eq!(container.header, header);
    LayerEngine::new(&container, &spec).unwrap()
}

/// The cache before a call: `filled` rows of noise, zeros after.
fn cache(rows: usize, filled: usize, seed: u32) -> Vec<u8> {
    let width = spec().kv_width();
    let mut values = noise(filled * width, seed);
    values.resize(rows * width, 0.0);
    bf16_bytes(values)
}

/// Runs `rows` rows after `filled` cached ones and returns the three outputs.
fn run(
    engine: &LayerEngine,
    group: usize,
    filled: usize,
    input: &[u8],
    caches: &[Vec<u8>; 2],
) -> Vec<Vec<u8>> {
    let info = engine.info();
    let dims = &info.inputs[4].dims[group];
    let (rows, columns) = (dims[1] as usize, dims[2] as usize);
    let history = columns - rows;
    let mask = bf16_bytes((0..rows).flat_map(|row| {
        (0..columns).map(move |c| {
            let visible = if c < history { c < filled } else { c - history <= row };
            if visible { 0.0 } else { MASKED }
        })
    }));
    let indices: Vec<u8> = (0..rows).flat_map(|r| ((filled + r) as u32).to_le_bytes()).collect();
    let part = |n: usize| &caches[n][..info.inputs[n].bytes(group).unwrap()];
    let mut outputs: Vec<Vec<u8>> =
        info.outputs.iter().map(|tensor| vec![0xff; tensor.bytes(group).unwrap()]).collect();
    engine.run(group, &[part(0), part(1), &indices, input, &mask], &mut outputs).unwrap();
    outputs
}

#[test]
fn a_row_has_the_same_bits_in_every_group_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir);
    let spec = spec();
    let (width, row_bytes) = (spec.kv_width() * 2, spec.hidden * 2);
    for (group, filled) in [(1, 0), (2, 1), (2, 37), (2, 64), (3, 65), (3, 128)] {
        let input = bf16_bytes(noise(16 * spec.hidden, 9));
        let mut caches = [cache(spec.capacity, filled, 7), cache(spec.capacity, filled, 8)];
        engine.crew = Crew::Fresh(1);
        let chunk = run(&engine, group, filled, &input, &caches);
        for crew in [Crew::Fresh(2), Crew::Fresh(5), Crew::Pool] {
            engine.crew = crew;
            assert_eq!(run(&engine, group, filled, &input, &caches), chunk, "{crew:?}");
        }
        for row in 0..16 {
            engine.crew = Crew::Fresh(1 + row % 3);
            let one = run(&engine, 0, filled + row, &input[row * row_bytes..(row + 1) * row_bytes], &caches);
            for (one, (chunk, size)) in one.iter().zip(chunk.iter().zip([width, width, row_bytes])) {
                assert_eq!(one, &chunk[row * size..(row + 1) * size], "group {group} row {row}");
            }
            for (cache, new) in caches.iter_mut().zip(&one) {
                cache[(filled + row) * width..][..width].copy_from_slice(new);
            }
        }
    }
}

#[test]
fn what_the_mask_hides_does_not_matter_unless_it_is_nan() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir);
    let spec = spec();
    let input = bf16_bytes(noise(spec.hidden, 9));
    let zeroed = [cache(spec.capacity, 40, 7), cache(spec.capacity, 40, 8)];
    let wanted = run(&engine, 0, 40, &input, &zeroed);
    let width = spec.kv_width() * 2;
    let mut dirty = zeroed.clone();
    dirty[0][40 * width..].fill(0x41);
    dirty[1][40 * width..].fill(0xc1);
    assert_eq!(run(&engine, 0, 40, &input, &dirty), wanted);
    dirty[1][40 * width..].fill(0xff);
    for output in run(&engine, 0, 40, &input, &dirty) {
        assert!(output.chunks(2).all(|b| bf16::from_le_bytes([b[0], b[1]]).is_nan()));
    }
    let nan = bf16_bytes(vec![f32::NAN; spec.hidden]);
    for output in run(&engine, 0, 40, &nan, &zeroed) {
        assert!(output.chunks(2).all(|b| bf16::from_le_bytes([b[0], b[1]]).is_nan()));
    }
    // Seen by the last head alone.
    let mut last = zeroed.clone();
    last[1][39 * width + width - 2..40 * width].fill(0xff);
    let [_, _, output] = run(&engine, 0, 40, &input, &last).try_into().unwrap();
    assert!(output.chunks(2).all(|b| bf16::from_le_bytes([b[0], b[1]]).is_nan()));
}

#[test]
fn calls_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir);
    let error = engine.run(9, &[], &mut []).unwrap_err();
    assert!(error.contains("no shape group 9"), "{error}");
    let mut outputs: Vec<Vec<u8>> =
        engine.info().outputs.iter().map(|tensor| vec![0; tensor.bytes(0).unwrap()]).collect();
    let error = engine.run(0, &[&[], &[], &[], &[], &[]], &mut outputs).unwrap_err();
    assert!(error.contains("K_cache"), "{error}");
}
