//! Grouped-query attention over the visible columns, in their logical order: cache rows
//! first, then the rows of this call. What one row computes depends on its visible columns
//! alone, so a position gives the same bits in every shape group.

#[cfg(target_arch = "x86_64")]
use super::lanes::Avx2;
use super::lanes::{LANES, Lanes, Portable};
use super::rows::{exp_row, widen};

/// Query heads computed together, sharing the loads of a key/value head.
const TOGETHER: usize = 4;

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

/// Whether a mask entry, a bf16, shows its column: it is above about −30 000.
pub fn visible(bits: [u8; 2]) -> bool {
    const LIMIT: u16 = 0x46ea;
    let bits = u16::from_le_bytes(bits);
    bits & 0x8000 == 0 || bits & 0x7fff < LIMIT
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
        /// Columns looked at together: most masks are invisible from some point on.
        const RUN: usize = 32;
        self.index.clear();
        self.bias.clear();
        self.history = history;
        for (run, columns) in mask.chunks(2 * RUN).enumerate() {
            let columns = columns.as_chunks::<2>().0;
            if !columns.iter().fold(false, |any, bits| any | visible(*bits)) {
                continue;
            }
            for (i, bits) in columns.iter().enumerate().filter(|(_, bits)| visible(**bits)) {
                self.index.push((run * RUN + i) as u32);
                self.bias.push(widen(u16::from_le_bytes(*bits)));
            }
        }
    }

    /// The head's part of a visible row, in eights.
    // Columns follow from the mask; a row the tensors do not have panics.
    #[allow(clippy::indexing_slicing)]
    #[inline(always)]
    fn row<'a>(&self, head: &Head, cache: &'a [u16], new: &'a [u16], column: u32) -> &'a [[u16; LANES]] {
        let column = column as usize;
        let (rows, row) = if column < self.history { (cache, column) } else { (new, column - self.history) };
        rows[row * head.stride + head.start..][..head.size].as_chunks().0
    }
}

/// Room for one thread's scores.
#[derive(Default)]
pub struct Scores(Vec<f32>);

/// Attention of `G` query heads; false when anything visible was not finite.
///
/// # Safety
/// The processor has what `L` needs.
// `g` runs below `G`, the length of what it indexes, `i` below the number of columns, as
// long as each row of scores, and `k`, `first` and `second` below the eights of a head.
#[allow(clippy::indexing_slicing)]
#[inline(always)]
unsafe fn attend_lanes<L: Lanes, const G: usize>(
    queries: &[f32],
    head: &Head,
    columns: &Columns,
    scores: &mut Scores,
    to: &mut [f32],
) -> bool {
    let (count, size) = (columns.index.len(), head.size);
    assert!(
        queries.len() == G * size && to.len() == G * size && size.is_multiple_of(LANES),
        "wrong query heads"
    );
    if count == 0 {
        to.fill(0.0);
        return true;
    }
    if scores.0.len() < count * G {
        scores.0.resize((count * G).next_power_of_two(), 0.0);
    }
    let mut parts = scores.0.chunks_exact_mut(count);
    let scores: [&mut [f32]; G] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let eights = size / LANES;
    let queries: [&[[f32; LANES]]; G] =
        std::array::from_fn(|g| &queries[g * size..(g + 1) * size].as_chunks().0[..eights]);
    let scale = 1.0 / (size as f32).sqrt();
    let mut top = [f32::NEG_INFINITY; G];
    for (i, (&column, bias)) in columns.index.iter().zip(&columns.bias).enumerate() {
        let keys = &columns.row(head, head.cache_k, head.new_k, column)[..eights];
        // SAFETY: the caller promises what `L` needs.
        unsafe {
            let mut sums = [L::splat(0.0); G];
            for k in 0..eights {
                let keys = L::load_bf16(&keys[k]);
                for g in 0..G {
                    sums[g] = sums[g].plus(L::load(&queries[g][k]), keys);
                }
            }
            for g in 0..G {
                let score = sums[g].total() * scale + bias;
                scores[g][i] = score;
                top[g] = if score > top[g] { score } else { top[g] };
            }
        }
    }
    let mut fine = true;
    let mut inverse = [0f32; G];
    for g in 0..G {
        let sum = exp_row(scores[g], top[g]);
        fine &= sum.is_finite();
        inverse[g] = 1.0 / sum;
    }
    let (to, _) = to.as_chunks_mut::<LANES>();
    for first in (0..eights).step_by(2) {
        let second = (first + 1).min(eights - 1);
        // SAFETY: the caller promises what `L` needs.
        unsafe {
            let mut sums = [[L::splat(0.0); 2]; G];
            for (i, &column) in columns.index.iter().enumerate() {
                let values = columns.row(head, head.cache_v, head.new_v, column);
                let (low, high) = (L::load_bf16(&values[first]), L::load_bf16(&values[second]));
                for g in 0..G {
                    let weight = L::splat(scores[g][i]);
                    sums[g] = [sums[g][0].plus(weight, low), sums[g][1].plus(weight, high)];
                }
            }
            for g in 0..G {
                for (eight, sum) in [first, second].into_iter().zip(sums[g]) {
                    to[g * eights + eight] = sum.values().map(|value| value * inverse[g]);
                }
            }
        }
    }
    fine && to.as_flattened().iter().fold(0.0, |bad, value| bad + value * 0.0) == 0.0
}

fn attend_together<const G: usize>(
    queries: &[f32],
    head: &Head,
    columns: &Columns,
    scores: &mut Scores,
    to: &mut [f32],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn fast<const G: usize>(
            queries: &[f32],
            head: &Head,
            columns: &Columns,
            scores: &mut Scores,
            to: &mut [f32],
        ) -> bool {
            // SAFETY: the function has the features.
            unsafe { attend_lanes::<Avx2, G>(queries, head, columns, scores, to) }
        }
        if super::rows::wide() {
            // SAFETY: the processor has the features, as just checked.
            return unsafe { fast::<G>(queries, head, columns, scores, to) };
        }
    }
    const FUSED: bool = cfg!(target_arch = "aarch64");
    // SAFETY: this needs nothing of the processor.
    unsafe { attend_lanes::<Portable<FUSED>, G>(queries, head, columns, scores, to) }
}

/// Attention of the query heads in `queries`, which share one key/value head, into `to`.
/// False when anything visible was not finite.
pub fn attend(queries: &[f32], head: &Head, columns: &Columns, scores: &mut Scores, to: &mut [f32]) -> bool {
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

/// Whether the cache holds NaN, in a visible row or a hidden one: a masked softmax still
/// multiplies hidden rows, so the card answers NaN. Some rows stand for all.
pub(super) fn poisoned(cache_k: &[u16], cache_v: &[u16], history: usize, width: usize) -> bool {
    const STRIDE: usize = 32;
    let nan = |cache: &[u16], row: usize| cache.get(row * width).is_some_and(|bits| bits & 0x7fff > 0x7f80);
    (0..history).step_by(STRIDE).any(|row| nan(cache_k, row) || nan(cache_v, row))
}

#[cfg(test)]
mod tests {
    use super::super::rows::narrow;
    use super::*;

    fn values(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
    }

    #[test]
    fn attention_is_the_softmax_weighted_mean_however_heads_are_grouped() {
        let (size, kv_heads, history, rows) = (24, 2, 40, 3);
        let stride = size * kv_heads;
        let bits = |len, seed| values(len, seed).into_iter().map(narrow).collect::<Vec<u16>>();
        let (cache_k, cache_v) = (bits(history * stride, 1), bits(history * stride, 2));
        let (new_k, new_v) = (bits(rows * stride, 3), bits(rows * stride, 4));
        let head = Head {
            cache_k: &cache_k,
            cache_v: &cache_v,
            new_k: &new_k,
            new_v: &new_v,
            stride,
            start: size,
            size,
        };
        // Visible: cache rows 0…19 but for row 7, the first two new rows; a bias on row 3.
        let visible = |c: usize| c < 20 && c != 7 || (history..history + 2).contains(&c);
        let bias = |c: usize| if c == 3 { -0.5 } else { 0.0 };
        let mask: Vec<u8> = (0..history + rows)
            .flat_map(|c| narrow(if visible(c) { bias(c) } else { -65536.0 }).to_le_bytes())
            .collect();
        let mut columns = Columns::default();
        columns.read(&mask, history);
        assert_eq!(columns.index.len(), 21);
        let queries = values(7 * size, 5);
        let mut all = vec![0.0; 7 * size];
        assert!(attend(&queries, &head, &columns, &mut Scores::default(), &mut all));
        for (g, (query, got)) in queries.chunks(size).zip(all.chunks(size)).enumerate() {
            let mut alone = vec![0.0; size];
            attend(query, &head, &columns, &mut Scores::default(), &mut alone);
            assert_eq!(alone, got, "head {g} alone");
            let row = |c: usize, cache: &[u16], new: &[u16]| -> Vec<f64> {
                let (from, at) = if c < history { (cache, c) } else { (new, c - history) };
                from[at * stride + size..][..size].iter().map(|&b| f64::from(widen(b))).collect()
            };
            let weights: Vec<(usize, f64)> = (0..history + rows)
                .filter(|&c| visible(c))
                .map(|c| {
                    let dot: f64 =
                        row(c, &cache_k, &new_k).iter().zip(query).map(|(k, q)| k * f64::from(*q)).sum();
                    (c, (dot / (size as f64).sqrt() + f64::from(bias(c))).exp())
                })
                .collect();
            let sum: f64 = weights.iter().map(|w| w.1).sum();
            for (i, got) in got.iter().enumerate() {
                let wanted: f64 = weights.iter().map(|(c, w)| w * row(*c, &cache_v, &new_v)[i]).sum();
                assert!((f64::from(*got) - wanted / sum).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_visible_nan_is_noticed() {
        let nan = vec![0x7fc0u16; 8];
        let zero = vec![0u16; 8];
        let mut columns = Columns::default();
        columns.read(&[0, 0], 0);
        for (new_k, new_v) in [(&nan, &zero), (&zero, &nan)] {
            let head = Head { cache_k: &[], cache_v: &[], new_k, new_v, stride: 8, start: 0, size: 8 };
            assert!(!attend(&[1.0; 8], &head, &columns, &mut Scores::default(), &mut [0.0; 8]));
        }
    }
}
