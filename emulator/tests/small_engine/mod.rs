//! A decoder layer small enough for any test: an engine file as `axmodel-pack` writes them.

use std::fs::File;
use std::path::{Path, PathBuf};

use axcl_rt::engine::container::{Header, LayerSpec, RopeKind, Spec};
use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use half::f16;

const HIDDEN: usize = 64;
const KV: usize = 32;
const FFN: usize = 96;

fn tensor(data_type: GgmlDType, dims: Vec<usize>, bytes: Vec<u8>) -> QTensor {
    let storage = QStorage::from_data(bytes.into(), &Device::Cpu, data_type).unwrap();
    QTensor::new(storage, dims).unwrap()
}

fn vector(len: usize) -> QTensor {
    tensor(GgmlDType::F32, vec![len], 1f32.to_le_bytes().repeat(len))
}

/// Panels of 8 outputs by 32 inputs: 8 scales, then 256 small numbers that differ.
fn matrix(outputs: usize, inputs: usize) -> QTensor {
    let scales = f16::from_f32(0.001).to_le_bytes().repeat(8);
    let panel = |n: usize| {
        let quants = (0..256).map(move |i| ((i * 37 + n * 11) % 255) as u8);
        scales.iter().copied().chain(quants)
    };
    let bytes = (0..outputs / 8 * (inputs / 32)).flat_map(panel).collect();
    tensor(GgmlDType::Q8_0, vec![outputs, inputs], bytes)
}

/// Writes the engine into `dir`.
pub fn write(dir: &Path) -> PathBuf {
    let spec = LayerSpec {
        hidden: HIDDEN,
        heads: 2,
        kv_heads: 1,
        head_dim: KV,
        ffn: FFN,
        rms_eps: 1e-6,
        rope_kind: RopeKind::Neox,
        rope_base: 10_000.0,
        rope_dims: KV,
        rope_scale: 1.0,
        capacity: 63,
        chunk: 8,
        histories: vec![0, 8],
    };
    let header = Header { spec: Spec::Layer(spec), hollow: false, weight_bytes: 1 << 20 };
    let tensors = [
        ("attn_norm", vector(HIDDEN)),
        ("ffn_norm", vector(HIDDEN)),
        ("q", matrix(HIDDEN, HIDDEN)),
        ("k", matrix(KV, HIDDEN)),
        ("v", matrix(KV, HIDDEN)),
        ("o", matrix(HIDDEN, HIDDEN)),
        ("gate", matrix(FFN, HIDDEN)),
        ("up", matrix(FFN, HIDDEN)),
        ("down", matrix(HIDDEN, FFN)),
    ];
    let metadata = header.metadata();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let path = dir.join("l0.axmodel");
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    path
}
