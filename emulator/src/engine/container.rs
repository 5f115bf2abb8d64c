//! The engine file: a GGUF container whose metadata, under `axemu.`, says what to compute
//! and whose tensors are the weights. `docs/model-directory.md` describes it.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};

use super::Source;
use super::matrix::Matrix;

/// Version of the engine file format.
const VERSION: u32 = 1;

/// How rotary position embedding pairs the elements of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeKind {
    /// Element 2i with 2i+1, as llama GGUF files are permuted for.
    Interleaved,
    /// Element i with i + half.
    Neox,
}

/// Shape and constants of a decoder layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub rms_eps: f32,
    pub rope_kind: RopeKind,
    pub rope_base: f32,
    /// Elements of a head that are rotated.
    pub rope_dims: usize,
    /// Positions are divided by this (linear scaling).
    pub rope_scale: f32,
    /// Rows of the K/V cache.
    pub capacity: usize,
    /// Rows of a prefill group.
    pub chunk: usize,
    /// Cache rows each prefill group sees, ascending, the first 0.
    pub histories: Vec<usize>,
}

/// Shape and constants of the post engine.
#[derive(Clone, Debug, PartialEq)]
pub struct PostSpec {
    pub hidden: usize,
    pub vocabulary: usize,
    pub rms_eps: f32,
}

/// What an engine file computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    Layer(LayerSpec),
    Post(PostSpec),
}

/// An engine file's metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub spec: Spec,
    /// No weights: outputs are made up.
    pub hollow: bool,
    /// Bytes one run streams from card memory.
    pub weight_bytes: u64,
}

fn number(n: usize) -> Value {
    Value::U32(u32::try_from(n).unwrap_or(u32::MAX))
}

impl Header {
    /// The metadata to write.
    pub fn metadata(&self) -> Vec<(String, Value)> {
        let mut entries = vec![
            ("version", Value::U32(VERSION)),
            ("hollow", Value::Bool(self.hollow)),
            ("weight_bytes", Value::U64(self.weight_bytes)),
        ];
        match &self.spec {
            Spec::Layer(layer) => entries.extend([
                ("kind", Value::String("layer".into())),
                ("hidden", number(layer.hidden)),
                ("heads", number(layer.heads)),
                ("kv_heads", number(layer.kv_heads)),
                ("head_dim", number(layer.head_dim)),
                ("ffn", number(layer.ffn)),
                ("rms_eps", Value::F32(layer.rms_eps)),
                (
                    "rope.kind",
                    Value::String(
                        match layer.rope_kind {
                            RopeKind::Interleaved => "interleaved",
                            RopeKind::Neox => "neox",
                        }
                        .into(),
                    ),
                ),
                ("rope.base", Value::F32(layer.rope_base)),
                ("rope.dims", number(layer.rope_dims)),
                ("rope.scale", Value::F32(layer.rope_scale)),
                ("capacity", number(layer.capacity)),
                ("chunk", number(layer.chunk)),
                ("histories", Value::Array(layer.histories.iter().copied().map(number).collect())),
            ]),
            Spec::Post(post) => entries.extend([
                ("kind", Value::String("post".into())),
                ("hidden", number(post.hidden)),
                ("vocabulary", number(post.vocabulary)),
                ("rms_eps", Value::F32(post.rms_eps)),
            ]),
        }
        entries.into_iter().map(|(key, value)| (format!("axemu.{key}"), value)).collect()
    }
}

/// Typed access to the metadata.
struct Keys<'a>(&'a HashMap<String, Value>);

impl Keys<'_> {
    fn get(&self, key: &str) -> Result<&Value, String> {
        self.0.get(&format!("axemu.{key}")).ok_or_else(|| format!("key axemu.{key} is missing"))
    }

    fn typed<T>(&self, key: &str, read: impl Fn(&Value) -> candle_core::Result<T>) -> Result<T, String> {
        read(self.get(key)?).map_err(|_| format!("key axemu.{key} has the wrong type"))
    }

    fn size(&self, key: &str) -> Result<usize, String> {
        match self.typed(key, |v| v.to_u32())? {
            0 => Err(format!("key axemu.{key} is zero")),
            n => Ok(n as usize),
        }
    }

    fn float(&self, key: &str) -> Result<f32, String> {
        self.typed(key, |v| v.to_f32())
    }

    fn text(&self, key: &str) -> Result<String, String> {
        self.typed(key, |v| v.to_string().cloned())
    }

    fn layer(&self) -> Result<LayerSpec, String> {
        let histories = self.typed("histories", |v| v.to_vec().cloned())?;
        let histories = histories
            .iter()
            .map(|v| v.to_u32().map(|n| n as usize))
            .collect::<candle_core::Result<Vec<_>>>()
            .map_err(|_| "key axemu.histories has the wrong type")?;
        let layer = LayerSpec {
            hidden: self.size("hidden")?,
            heads: self.size("heads")?,
            kv_heads: self.size("kv_heads")?,
            head_dim: self.size("head_dim")?,
            ffn: self.size("ffn")?,
            rms_eps: self.float("rms_eps")?,
            rope_kind: match self.text("rope.kind")?.as_str() {
                "interleaved" => RopeKind::Interleaved,
                "neox" => RopeKind::Neox,
                other => return Err(format!("axemu.rope.kind {other:?} is unknown")),
            },
            rope_base: self.float("rope.base")?,
            rope_dims: self.size("rope.dims")?,
            rope_scale: self.float("rope.scale")?,
            capacity: self.size("capacity")?,
            chunk: self.size("chunk")?,
            histories,
        };
        layer.check()?;
        Ok(layer)
    }
}

impl LayerSpec {
    /// Whether engines can compute this shape.
    pub fn check(&self) -> Result<(), String> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads do not share {} K/V heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(8) || !self.rope_dims.is_multiple_of(2) {
            return Err(format!("heads of {} elements are not supported", self.head_dim));
        }
        if self.rope_dims > self.head_dim || !self.rope_scale.is_normal() || !self.rope_base.is_normal() {
            return Err("impossible rope constants".into());
        }
        if self.histories.iter().any(|&rows| rows > self.capacity) {
            return Err("a prefill group sees more rows than the cache has".into());
        }
        Ok(())
    }

    /// Elements of all queries of a row.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of a row of keys, or of values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// An opened engine file.
pub struct Container {
    pub header: Header,
    source: Source,
    tensors: HashMap<String, (GgmlDType, Vec<usize>, Range<usize>)>,
}

impl Container {
    /// Reads the header of an engine file.
    ///
    /// # Errors
    /// When it is not one, or not of this version.
    pub fn open(source: Source) -> Result<Self, String> {
        let content = Content::read(&mut Cursor::new(source.bytes()))
            .map_err(|e| format!("not an engine file: {e}"))?;
        let keys = Keys(&content.metadata);
        let version = keys.typed("version", |v| v.to_u32())?;
        if version != VERSION {
            return Err(format!(
                "engine file version {version}; this runtime knows {VERSION}: pack the model again"
            ));
        }
        let spec = match keys.text("kind")?.as_str() {
            "layer" => Spec::Layer(keys.layer()?),
            "post" => Spec::Post(PostSpec {
                hidden: keys.size("hidden")?,
                vocabulary: keys.size("vocabulary")?,
                rms_eps: keys.float("rms_eps")?,
            }),
            other => return Err(format!("axemu.kind {other:?} is unknown")),
        };
        let header = Header {
            spec,
            hollow: keys.typed("hollow", |v| v.to_bool())?,
            weight_bytes: keys.typed("weight_bytes", |v| v.to_u64())?,
        };
        let mut tensors = HashMap::new();
        for (name, info) in &content.tensor_infos {
            let (count, block) = (info.shape.elem_count(), info.ggml_dtype.block_size());
            let bytes = count / block * info.ggml_dtype.type_size();
            let place = usize::try_from(content.tensor_data_offset + info.offset)
                .ok()
                .and_then(|start| Some(start..start.checked_add(bytes)?))
                .filter(|place| place.end <= source.bytes().len())
                .ok_or_else(|| format!("the file ends before its tensor {name}: it is truncated"))?;
            tensors.insert(name.clone(), (info.ggml_dtype, info.shape.dims().to_vec(), place));
        }
        Ok(Self { header, source, tensors })
    }

    /// A matrix of `outputs` × `inputs`.
    pub fn matrix(&self, name: &str, outputs: usize, inputs: usize) -> Result<Matrix, String> {
        let (data_type, dims, place) =
            self.tensors.get(name).ok_or_else(|| format!("tensor {name} is missing"))?;
        if dims.as_slice() != [outputs.next_multiple_of(super::panel::OUTPUTS), inputs] {
            return Err(format!("tensor {name} has shape {dims:?} instead of {outputs} × {inputs}"));
        }
        Matrix::new(self.source.clone(), place.clone(), *data_type, outputs, inputs)
            .map_err(|e| format!("tensor {name}: {e}"))
    }

    /// A vector of `len` f32, if the file has it.
    pub fn optional_vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, String> {
        let Some((data_type, dims, place)) = self.tensors.get(name) else { return Ok(None) };
        if *data_type != GgmlDType::F32 || dims.as_slice() != [len] {
            return Err(format!("tensor {name} is not a vector of {len} F32"));
        }
        let bytes = self.source.bytes().get(place.clone()).unwrap_or_default();
        Ok(Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
    }

    /// A vector of `len` f32.
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, String> {
        self.optional_vector(name, len)?.ok_or_else(|| format!("tensor {name} is missing"))
    }
}
