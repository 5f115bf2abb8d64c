//! Engines without weights: the shapes of a model, made-up values.
//!
//! Values are a hash of the row's input, its position and the key row before it. So they
//! are the same in every shape group, and wrong masks, positions or caches change all that
//! follows, as they would with a real model.

use super::attention::poisoned;
use super::attention::visible;
use super::container::{LayerSpec, PostSpec};
use super::rows::{halves, spoil};
use super::shapes::{Group, check, layer_groups, layer_info, post_info};
use super::{Engine, EngineInfo};

/// Vocabulary before the first made-up word, see `pack::hollow`.
const BYTES: usize = 256;
/// Vocabulary that is certainly no word, at the end: special tokens and unused rows.
const RESERVED: usize = 512;
/// Mixing constants of splitmix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash of whole words of eight bytes; what is left over does not count.
fn hash(bytes: &[u8]) -> u64 {
    let step =
        |hash: u64, word: &[u8; 8]| (hash ^ u64::from_le_bytes(*word)).wrapping_mul(GOLDEN).rotate_left(29);
    mix(bytes.as_chunks().0.iter().fold(GOLDEN, step))
}

/// Fills `to` with bf16 between 0.25 and 0.5 of either sign.
fn fill(seed: u64, to: &mut [u8]) {
    let mut state = seed;
    for word in to.chunks_mut(8) {
        state = state.wrapping_add(GOLDEN);
        let bits = (mix(state) & 0x807f_807f_807f_807f) | 0x3e80_3e80_3e80_3e80;
        word.iter_mut().zip(bits.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}

/// Fills `to` with bf16 logits between 0.125 and 2 of either sign. The higher, the rarer: at the top few are
/// alike, as in a real model.
fn fill_logits(seed: u64, to: &mut [u8]) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(GOLDEN);
        mix(state)
    };
    for word in to.chunks_mut(8) {
        let size = next() & next() & next() & 0x01ff_01ff_01ff_01ff;
        let bits = (next() & 0x8000_8000_8000_8000) | (size + 0x3e00_3e00_3e00_3e00);
        word.iter_mut().zip(bits.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}

/// A decoder layer without weights.
pub struct HollowLayer {
    spec: LayerSpec,
    info: EngineInfo,
    groups: Vec<Group>,
    weight_bytes: u64,
}

impl HollowLayer {
    /// A layer of this shape.
    pub fn new(spec: &LayerSpec, weight_bytes: u64) -> Self {
        Self { info: layer_info(spec), groups: layer_groups(spec), spec: spec.clone(), weight_bytes }
    }
}

/// The last column before `own` that the mask row shows.
fn before(mask: &[u8], own: usize) -> Option<usize> {
    let columns = mask.as_chunks::<2>().0.get(..own)?;
    columns.iter().rposition(|bits| visible(*bits))
}

impl Engine for HollowLayer {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&self, group: usize, inputs: &[&[u8]], outputs: &mut [Vec<u8>]) -> Result<(), String> {
        check(&self.info, group, inputs, outputs)?;
        let (Some(group), [cache_k, cache_v, indices, input, mask], [out_k, out_v, output]) =
            (self.groups.get(group), inputs, outputs)
        else {
            return Err("wrong number of tensors".into());
        };
        let (width, hidden) = (2 * self.spec.kv_width(), 2 * self.spec.hidden);
        if poisoned(halves(cache_k)?, halves(cache_v)?, group.history, self.spec.kv_width()) {
            for bytes in [out_k, out_v, output] {
                spoil(bytes);
            }
            return Ok(());
        }
        let columns = group.history + group.rows;
        let rows = input.chunks_exact(hidden).zip(indices.as_chunks::<4>().0).enumerate();
        for (row, (input, index)) in rows {
            let mask = mask.get(2 * row * columns..2 * (row + 1) * columns).unwrap_or_default();
            let previous = before(mask, group.history + row).and_then(|column| {
                match column.checked_sub(group.history) {
                    None => cache_k.get(column * width..(column + 1) * width),
                    Some(row) => out_k.get(row * width..(row + 1) * width),
                }
            });
            let previous = hash(previous.and_then(|row| row.get(..32)).unwrap_or_default());
            let position = u64::from(u32::from_le_bytes(*index));
            let seed = mix(hash(input) ^ previous.rotate_left(17) ^ position.wrapping_mul(GOLDEN));
            for (salt, to, size) in
                [(1, &mut *out_k, width), (2, &mut *out_v, width), (3, &mut *output, hidden)]
            {
                fill(mix(seed ^ salt), to.get_mut(row * size..(row + 1) * size).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

/// A post engine without weights.
pub struct HollowPost {
    info: EngineInfo,
    /// Tokens that are made-up words: the likely ones.
    words: u64,
    weight_bytes: u64,
}

impl HollowPost {
    /// A post engine of this shape.
    pub fn new(spec: &PostSpec, weight_bytes: u64) -> Self {
        let words = spec.vocabulary.saturating_sub(BYTES + RESERVED).max(1) as u64;
        Self { info: post_info(spec), words, weight_bytes }
    }
}

impl Engine for HollowPost {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&self, group: usize, inputs: &[&[u8]], outputs: &mut [Vec<u8>]) -> Result<(), String> {
        check(&self.info, group, inputs, outputs)?;
        let ([input], [output]) = (inputs, outputs) else {
            return Err("wrong number of tensors".into());
        };
        let nan = |bits: &[u8; 2]| u16::from_le_bytes(*bits) & 0x7fff > 0x7f80;
        if input.as_chunks().0.iter().any(nan) {
            spoil(output);
            return Ok(());
        }
        let seed = hash(input);
        fill_logits(seed, output);
        // A few words stand out; nothing else is ever likely, the end of an answer included.
        for (rank, logit) in [18.0f32, 17.5, 17.0, 16.0, 15.0].into_iter().enumerate() {
            let word = mix(seed.wrapping_add(rank as u64)) % self.words;
            if let Some(to) = output.as_chunks_mut::<2>().0.get_mut(BYTES + word as usize) {
                *to = super::rows::narrow(logit).to_le_bytes();
            }
        }
        Ok(())
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}
