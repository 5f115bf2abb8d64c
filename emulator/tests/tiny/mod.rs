//! Small random models as GGUF files, with everything a real file has.

use std::fs::File;
use std::path::Path;

use axcl_rt::pack::pack_gguf;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

/// A family's way of putting layers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Tiny {
    pub family: Family,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub layers: usize,
    pub matrices: GgmlDType,
    pub tied: bool,
    pub vocabulary: usize,
}

/// Tokens: the 256 bytes, a few joints, an end.
pub const VOCABULARY: usize = 264;

impl Tiny {
    pub fn name(&self) -> &'static str {
        match self.family {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    /// Writes the GGUF file and packs it beside; returns nothing but leaves `tiny.gguf` and
    /// `model/` in `dir`.
    pub fn make(&self, dir: &Path) {
        let gguf = dir.join("tiny.gguf");
        self.write(&gguf);
        pack_gguf(&gguf, &dir.join("model"), Some("tiny"), Some(640), &|_| ()).unwrap();
    }

    /// Writes the GGUF file with a byte-level tokenizer.
    pub fn write(&self, path: &Path) {
        self.write_with(path, byte_level());
    }

    /// Writes the GGUF file with the tokenizer keys given.
    pub fn write_with(&self, path: &Path, tokenizer: Vec<(&str, Value)>) {
        let mut tensors: Vec<(String, QTensor)> = Vec::new();
        let mut seed = 1;
        let mut add = |name: String, dims: &[usize], dtype: GgmlDType, mean: f32, spread: f32| {
            seed += 1;
            let values: Vec<f32> = noise(dims.iter().product(), seed).map(|v| mean + spread * v).collect();
            let tensor = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
            tensors.push((name, QTensor::quantize(&tensor, dtype).unwrap()));
        };
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        add("token_embd.weight".into(), &[self.vocabulary, self.hidden], GgmlDType::F16, 0.0, 1.0);
        add("output_norm.weight".into(), &[self.hidden], GgmlDType::F32, 1.0, 0.3);
        if !self.tied {
            add("output.weight".into(), &[self.vocabulary, self.hidden], GgmlDType::Q8_0, 0.0, 0.3);
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            for (part, outputs, inputs) in [
                ("attn_q.weight", q, self.hidden),
                ("attn_k.weight", kv, self.hidden),
                ("attn_v.weight", kv, self.hidden),
                ("attn_output.weight", self.hidden, q),
                ("ffn_gate.weight", self.ffn, self.hidden),
                ("ffn_up.weight", self.ffn, self.hidden),
                ("ffn_down.weight", self.hidden, self.ffn),
            ] {
                add(name(part), &[outputs, inputs], self.matrices, 0.0, 2.0 / (inputs as f32).sqrt());
            }
            add(name("attn_norm.weight"), &[self.hidden], GgmlDType::F32, 1.0, 0.3);
            add(name("ffn_norm.weight"), &[self.hidden], GgmlDType::F32, 1.0, 0.3);
            if self.family == Family::Qwen2 {
                add(name("attn_q.bias"), &[q], GgmlDType::F32, 0.0, 0.5);
                add(name("attn_k.bias"), &[kv], GgmlDType::F32, 0.0, 0.5);
                add(name("attn_v.bias"), &[kv], GgmlDType::F32, 0.0, 0.5);
            }
            if self.family == Family::Qwen3 {
                add(name("attn_q_norm.weight"), &[self.head_dim], GgmlDType::F32, 1.0, 0.3);
                add(name("attn_k_norm.weight"), &[self.head_dim], GgmlDType::F32, 1.0, 0.3);
            }
        }
        let mut metadata = self.metadata();
        metadata.extend(tokenizer.into_iter().map(|(k, v)| (format!("tokenizer.ggml.{k}"), v)));
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let number = |n: usize| Value::U32(n as u32);
        let text = |t: &str| Value::String(t.into());
        let mut entries = vec![("general.architecture".into(), text(self.name()))];
        for (key, value) in [
            ("block_count", number(self.layers)),
            ("context_length", number(1024)),
            ("embedding_length", number(self.hidden)),
            ("feed_forward_length", number(self.ffn)),
            ("attention.head_count", number(self.heads)),
            ("attention.head_count_kv", number(self.kv_heads)),
            ("attention.key_length", number(self.head_dim)),
            ("attention.value_length", number(self.head_dim)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("rope.freq_base", Value::F32(10_000.0)),
            ("rope.dimension_count", number(self.head_dim)),
        ] {
            entries.push((format!("{}.{key}", self.name()), value));
        }
        entries.push(("tokenizer.chat_template".into(), text("{{ messages[0].content }}")));
        entries
    }
}

fn byte_level() -> Vec<(&'static str, Value)> {
    let text = |t: &str| Value::String(t.into());
    let mut tokens: Vec<String> = byte_names();
    let mut kinds = vec![1; 256];
    let more = [("th", 1), ("Ġth", 1), ("the", 1), ("Ġa", 1), ("<|im_start|>", 3), ("<|im_end|>", 3)];
    for (token, kind) in more {
        tokens.push(token.into());
        kinds.push(kind);
    }
    vec![
        ("model", text("gpt2")),
        ("pre", text("qwen2")),
        ("tokens", Value::Array(tokens.into_iter().map(Value::String).collect())),
        ("token_type", Value::Array(kinds.into_iter().map(Value::I32).collect())),
        ("merges", Value::Array(["t h", "Ġ th", "th e", "Ġ a"].map(text).into())),
        ("eos_token_id", Value::U32(261)),
        ("add_bos_token", Value::Bool(false)),
    ]
}

/// Deterministic values in −1…1.
pub fn noise(len: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..len).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

fn byte_names() -> Vec<String> {
    let mut next = 255u32;
    (0..=255u8)
        .map(|byte| {
            let shown = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            next += u32::from(!shown);
            char::from_u32(if shown { u32::from(byte) } else { next }).unwrap().to_string()
        })
        .collect()
}

/// Models that between them use every feature.
pub fn all() -> [Tiny; 4] {
    let base = Tiny {
        family: Family::Llama,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 128,
        layers: 2,
        matrices: GgmlDType::Q8_0,
        tied: true,
        vocabulary: VOCABULARY,
    };
    [
        base,
        Tiny {
            matrices: GgmlDType::Q4_1,
            hidden: 192,
            heads: 6,
            kv_heads: 2,
            head_dim: 32,
            tied: false,
            ..base
        },
        Tiny { family: Family::Qwen2, matrices: GgmlDType::F16, tied: false, ..base },
        Tiny { family: Family::Qwen3, hidden: 256, head_dim: 64, ffn: 256, matrices: GgmlDType::Q4K, ..base },
    ]
}
