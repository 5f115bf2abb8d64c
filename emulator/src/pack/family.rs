//! The model families that can be packed, and their shapes.

use super::PackError;
use super::gguf::Gguf;
use crate::engine::container::{LayerSpec, PostSpec, RopeKind};

/// Rows of a prefill group.
pub const CHUNK: usize = 128;
/// Prefill groups with history, at most.
const GROUPS: usize = 8;
/// Context unless asked otherwise, in tokens.
const CONTEXT: usize = 2048;

/// A GGUF architecture this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
}

impl Family {
    /// Its name in GGUF files and in ours.
    pub fn name(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    fn of(gguf: &Gguf) -> Result<Self, PackError> {
        match gguf.text("general.architecture")? {
            Some("llama") => Ok(Family::Llama),
            Some("qwen2") => Ok(Family::Qwen2),
            Some("qwen3") => Ok(Family::Qwen3),
            Some(other) => Err(gguf.unsupported(format!(
                "architecture {other:?}; use a model of architecture llama, qwen2 or qwen3"
            ))),
            None => Err(gguf.damaged("key general.architecture is missing")),
        }
    }
}

/// Everything about a model but its weights and vocabulary.
pub struct Shape {
    pub family: Family,
    pub layers: usize,
    pub layer: LayerSpec,
    pub post: PostSpec,
}

/// The histories of the prefill groups for a cache of `capacity` rows: 0, then steps of
/// whole chunks, the last so long that prefill can fill the cache.
pub fn histories(capacity: usize) -> Vec<usize> {
    let chunks = capacity.saturating_sub(1) / CHUNK;
    let step = chunks.div_ceil(GROUPS).max(1);
    let mut histories: Vec<usize> = (0..chunks).step_by(step).map(|n| n * CHUNK).collect();
    histories.push(chunks * CHUNK);
    histories
}

impl Shape {
    /// Reads the shape from a GGUF file.
    ///
    /// # Errors
    /// When the file lacks something or needs what engines cannot do.
    pub fn read(gguf: &Gguf, context: Option<usize>) -> Result<Self, PackError> {
        let family = Family::of(gguf)?;
        let key = |name: &str| format!("{}.{name}", family.name());
        let need = |name: &str| {
            gguf.number(&key(name))?
                .filter(|&n| n > 0)
                .ok_or_else(|| gguf.damaged(format!("key {} is missing", key(name))))
        };
        if gguf.number(&key("expert_count"))?.is_some_and(|n| n > 0) {
            return Err(gguf.unsupported("mixtures of experts; use a dense model"));
        }
        let (hidden, heads) = (need("embedding_length")?, need("attention.head_count")?);
        let head_dim = match gguf.number(&key("attention.key_length"))? {
            Some(n) => n,
            None => hidden / heads,
        };
        if gguf.number(&key("attention.value_length"))?.is_some_and(|n| n != head_dim) {
            return Err(gguf.unsupported("keys and values of different lengths"));
        }
        let trained = need("context_length")?;
        let capacity = context.unwrap_or_else(|| trained.min(CONTEXT));
        if capacity > trained {
            return Err(gguf.unsupported(format!(
                "a context of {capacity}; the model was made for {trained}: ask for at most that"
            )));
        }
        let embedding = gguf.weights("token_embd.weight")?;
        if embedding.inputs != hidden {
            return Err(gguf.damaged("tensor token_embd.weight does not have the model's width"));
        }
        let rms_eps = gguf
            .float(&key("attention.layer_norm_rms_epsilon"))?
            .ok_or_else(|| gguf.damaged("the epsilon of the norms is missing"))?;
        let default_base = if family == Family::Llama { 1e4 } else { 1e6 };
        let layer = LayerSpec {
            hidden,
            heads,
            kv_heads: gguf.number(&key("attention.head_count_kv"))?.unwrap_or(heads),
            head_dim,
            ffn: need("feed_forward_length")?,
            rms_eps,
            rope_kind: if family == Family::Llama { RopeKind::Interleaved } else { RopeKind::Neox },
            rope_base: gguf.float(&key("rope.freq_base"))?.unwrap_or(default_base),
            rope_dims: gguf.number(&key("rope.dimension_count"))?.unwrap_or(head_dim),
            rope_scale: rope_scale(gguf, family)?,
            capacity,
            chunk: CHUNK,
            histories: histories(capacity),
        };
        layer.check().map_err(|e| gguf.unsupported(e))?;
        let post = PostSpec { hidden, vocabulary: embedding.outputs, rms_eps };
        Ok(Self { family, layers: need("block_count")?, layer, post })
    }
}

fn rope_scale(gguf: &Gguf, family: Family) -> Result<f32, PackError> {
    let key = |name: &str| format!("{}.rope.{name}", family.name());
    let factor = match gguf.float(&key("scaling.factor"))? {
        Some(factor) => Some(factor),
        None => gguf.float(&key("scale_linear"))?,
    };
    match gguf.text(&key("scaling.type"))? {
        Some("none") => Ok(1.0),
        None | Some("linear") => Ok(factor.filter(|&f| f > 0.0).unwrap_or(1.0)),
        Some(other) => {
            Err(gguf.unsupported(format!("rope scaling {other:?}; use the model without extended context")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_reach_the_whole_cache_in_few_groups() {
        assert_eq!(histories(2048), [0, 256, 512, 768, 1024, 1280, 1536, 1792, 1920]);
        assert_eq!(histories(2047), histories(2048));
        assert_eq!(histories(128), [0]);
        assert_eq!(histories(129), [0, 128]);
        for capacity in 1..9000 {
            let groups = histories(capacity);
            let last = *groups.last().unwrap();
            assert!(groups.len() <= 9 && groups.is_sorted_by(|a, b| a < b) && groups[0] == 0);
            assert!(last < capacity.max(1) && last + CHUNK >= capacity, "{capacity}: {groups:?}");
        }
    }
}
