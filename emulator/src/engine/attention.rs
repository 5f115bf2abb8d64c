//! Grouped-query attention over the visible columns, in their logical order: cache rows
//! first, then the rows of this call. What one row computes depends on its visible columns
//! alone, so a position gives the same bits in every shape group.

use super::rows::{LANES, exp, fma, total, versions, widen};

/// Values summed up at a time.
const WIDE: usize = 2 * LANES;
/// Query heads computed together, sharing the loads of a key/value head.
pub const TOGETHER: usize = 4;

/// Keys and values of one key/value head, as bf16 bits.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub cache_k: &'a [u16],
    pub cache_v: &'a [u16],
    pub new_k: &'a [u16],
    pub new_v: &'a [u16],
    /// Elements of a row, over all heads.
    pub stride: usize,
    /// Where this head starts in a row.
    pub start: usize,
    /// Elements of the head, a multiple of 8.
    pub size: usize,
}

/// The columns a row may look at.
#[derive(Default)]
pub struct Columns {
    /// Row in the cache, or beyond its end (`history`) row of this call.
    index: Vec<u32>,
    bias: Vec<f32>,
    history: usize,
}

impl Columns {
    /// Reads a mask row of `history` cache columns and then the columns of this call;
    /// below about −30 000 a column is invisible.
    pub fn read(&mut self, mask: &[u8], history: usize) {
        /// bf16 −30 000, in bits without the sign.
        const INVISIBLE: u16 = 0x46ea;
        self.index.clear();
        self.bias.clear();
        self.history = history;
        for (column, bits) in (0u32..).zip(mask.as_chunks::<2>().0) {
            let bits = u16::from_le_bytes(*bits);
            if bits & 0x8000 == 0 || bits & 0x7fff < INVISIBLE {
                self.index.push(column);
                self.bias.push(widen(bits));
            }
        }
    }

    /// Splits a column into row and whether it is of this call.
    #[inline(always)]
    fn row(&self, column: u32) -> (usize, bool) {
        let column = column as usize;
        if column < self.history { (column, false) } else { (column - self.history, true) }
    }
}

/// Room for one thread's scores.
#[derive(Default)]
pub struct Scores(Vec<f32>);

// Indices are rows below the lengths the caller has checked against the tensors' sizes; an
// error there panics rather than reads elsewhere.
#[allow(clippy::indexing_slicing)]
#[inline(always)]
fn attend_body<const G: usize, const FUSED: bool>(
    queries: &[f32],
    head: Head,
    columns: &Columns,
    scores: &mut Scores,
    to: &mut [f32],
) -> bool {
    let count = columns.index.len();
    let size = head.size;
    if count == 0 {
        to.fill(0.0);
        return true;
    }
    scores.0.resize(scores.0.len().max(count * G), 0.0);
    let mut parts = scores.0.chunks_exact_mut(count);
    let scores: [&mut [f32]; G] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let queries: [&[f32]; G] = std::array::from_fn(|g| &queries[g * size..(g + 1) * size]);
    let scale = 1.0 / (size as f32).sqrt();
    let mut top = [f32::NEG_INFINITY; G];
    for (i, (&column, &bias)) in columns.index.iter().zip(&columns.bias).enumerate() {
        let (row, new) = columns.row(column);
        let keys = if new { head.new_k } else { head.cache_k };
        let keys = &keys[row * head.stride + head.start..][..size];
        let mut lanes = [[0f32; LANES]; G];
        for (k, keys) in keys.as_chunks::<LANES>().0.iter().enumerate() {
            let keys = keys.map(widen);
            for g in 0..G {
                let query = &queries[g][k * LANES..][..LANES];
                for l in 0..LANES {
                    lanes[g][l] = fma::<FUSED>(query[l], keys[l], lanes[g][l]);
                }
            }
        }
        for g in 0..G {
            let score = fma::<FUSED>(total(lanes[g]), scale, bias);
            scores[g][i] = score;
            top[g] = if score > top[g] { score } else { top[g] };
        }
    }
    let mut spoilt = 0f32;
    let mut inverse = [0f32; G];
    for g in 0..G {
        let (chunks, rest) = scores[g].as_chunks_mut::<LANES>();
        let (mut lanes, mut bad) = ([0f32; LANES], [0f32; LANES]);
        for chunk in chunks {
            for l in 0..LANES {
                bad[l] = fma::<FUSED>(chunk[l], 0.0, bad[l]);
                chunk[l] = exp::<FUSED>(chunk[l] - top[g]);
                lanes[l] += chunk[l];
            }
        }
        for (l, score) in rest.iter_mut().enumerate() {
            bad[l] = fma::<FUSED>(*score, 0.0, bad[l]);
            *score = exp::<FUSED>(*score - top[g]);
            lanes[l] += *score;
        }
        spoilt += total(bad);
        inverse[g] = 1.0 / total(lanes);
    }
    for start in (0..size).step_by(WIDE) {
        let width = (size - start).min(WIDE);
        let mut lanes = [[0f32; WIDE]; G];
        for (i, &column) in columns.index.iter().enumerate() {
            let (row, new) = columns.row(column);
            let values = if new { head.new_v } else { head.cache_v };
            let values = &values[row * head.stride + head.start + start..][..width];
            if let Ok(values) = <&[u16; WIDE]>::try_from(values) {
                let values = values.map(widen);
                for g in 0..G {
                    for l in 0..WIDE {
                        lanes[g][l] = fma::<FUSED>(scores[g][i], values[l], lanes[g][l]);
                    }
                }
            } else {
                for g in 0..G {
                    for (lane, value) in lanes[g].iter_mut().zip(values) {
                        *lane = fma::<FUSED>(scores[g][i], widen(*value), *lane);
                    }
                }
            }
        }
        for g in 0..G {
            for l in 0..width {
                let value = lanes[g][l] * inverse[g];
                spoilt += value * 0.0;
                to[g * size + start + l] = value;
            }
        }
    }
    spoilt == 0.0
}

versions! {
    fn attend_together[const G: usize](
        queries: &[f32], head: Head, columns: &Columns, scores: &mut Scores, to: &mut [f32],
    ) -> bool = attend_body
}

/// Attention of the query heads in `queries` (each as long as `to` has room for) over one
/// key/value head. False when anything visible was not finite.
pub fn attend(queries: &[f32], head: Head, columns: &Columns, scores: &mut Scores, to: &mut [f32]) -> bool {
    let together = TOGETHER * head.size;
    let mut fine = true;
    for (queries, to) in queries.chunks(together).zip(to.chunks_mut(together)) {
        fine &= match queries.len() / head.size {
            1 => attend_together::<1>(queries, head, columns, scores, to),
            2 => attend_together::<2>(queries, head, columns, scores, to),
            3 => attend_together::<3>(queries, head, columns, scores, to),
            _ => attend_together::<TOGETHER>(queries, head, columns, scores, to),
        };
    }
    fine
}
