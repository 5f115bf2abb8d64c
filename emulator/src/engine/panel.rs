//! Dot products of quantised weights with quantised activations, eight outputs at once.
//!
//! Weights lie in *panels* of 8 outputs × 32 inputs, so that one vector holds four inputs
//! of each of eight outputs and sums need no final fold. Within a panel products are
//! summed in integers, exactly; panels are added in f32 in the order of the inputs. So an
//! output's bits depend on its weights and its row alone, whatever is computed beside it.
//!
//! Two kinds: *nibbles* (4 bits, scale and offset: exactly Q4_0 and Q4_1, and Q4_K but for
//! the rounding of its scales) and *bytes* (8 bits and scale: exactly Q8_0).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;

use half::f16;

use super::rows::{fma, versions};

/// Outputs per panel.
pub const OUTPUTS: usize = 8;
/// Inputs per panel, and per block of activations.
pub const INPUTS: usize = 32;

/// 8 × f16 scale, 8 × f16 offset, then 4 × 32 bytes: byte 4·c+j of vector v holds inputs
/// 4·v+j (low nibble) and 16+4·v+j (high) of output c. Weight = scale · nibble + offset.
pub type Nibbles = [u8; 160];

/// 8 × f16 scale, then 8 × 32 signed bytes: byte 4·c+j of vector v is input 4·v+j of
/// output c. Weight = scale · byte.
pub type Bytes = [u8; 272];

/// A block of 32 activations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Block {
    /// Value = scale · quant, quants within ±127.
    pub quants: [i8; INPUTS],
    pub scale: f32,
    /// The block's sum: scale · Σ quants.
    pub sum: f32,
}

#[inline(always)]
fn quantise_body<const FUSED: bool>(from: &[f32], to: &mut [Block]) {
    const TO_NEAREST: f32 = 12_582_912.0;
    for (from, to) in from.as_chunks::<INPUTS>().0.iter().zip(to) {
        let mut top = [0f32; 8];
        for chunk in from.as_chunks::<8>().0 {
            for (top, x) in top.iter_mut().zip(chunk) {
                let x = x.abs();
                *top = if x > *top { x } else { *top };
            }
        }
        let top = top.into_iter().fold(0f32, f32::max);
        let inverse = if top > 0.0 { 127.0 / top } else { 0.0 };
        let mut sum = 0i32;
        for (quant, x) in to.quants.iter_mut().zip(from) {
            *quant = (x * inverse + TO_NEAREST).to_bits() as i8;
            sum += i32::from(*quant);
        }
        to.scale = top / 127.0;
        to.sum = to.scale * sum as f32;
    }
}
versions! {
    /// Quantises whole blocks.
    pub fn quantise(from: &[f32], to: &mut [Block]) = quantise_body
}

/// Which kernels to use; anything but `Best` is for tests and comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    Best,
    Portable,
}

macro_rules! kernel {
    ($name:ident, $panel:ty, $fast:ident, $portable:ident) => {
        /// Eight outputs for each of `R` rows; `weights` and every row have one entry per
        /// panel of inputs.
        pub fn $name<const R: usize>(
            weights: &[$panel],
            rows: [&[Block]; R],
            kernel: Kernel,
        ) -> [[f32; OUTPUTS]; R] {
            #[cfg(target_arch = "x86_64")]
            if super::rows::wide() {
                if kernel == Kernel::Best {
                    // SAFETY: the processor has the features, as just checked.
                    return unsafe { avx2::$fast(weights, rows) };
                }
                return $portable::<true, R>(weights, rows);
            }
            #[cfg(target_arch = "aarch64")]
            if kernel == Kernel::Best && std::arch::is_aarch64_feature_detected!("dotprod") {
                if std::arch::is_aarch64_feature_detected!("i8mm") {
                    // SAFETY: the processor has the features, as just checked.
                    return unsafe { neon::matrix::$fast(weights, rows) };
                }
                // SAFETY: as above.
                return unsafe { neon::dot::$fast(weights, rows) };
            }
            let _ = kernel;
            $portable::<{ cfg!(target_arch = "aarch64") }, R>(weights, rows)
        }
    };
}
kernel!(dot_nibbles, Nibbles, nibbles, portable_nibbles);
kernel!(dot_bytes, Bytes, bytes, portable_bytes);

fn eight_halves(bytes: &[[u8; 2]; OUTPUTS]) -> [f32; OUTPUTS] {
    bytes.map(|b| f16::from_le_bytes(b).to_f32())
}

/// Splits the scales (and offsets) off a panel.
fn split<const N: usize>(panel: &[u8]) -> ([[f32; OUTPUTS]; N], &[[u8; INPUTS]]) {
    let (halves, quants) = panel.split_at(N * 16);
    let mut scales = [[0f32; OUTPUTS]; N];
    for (scale, halves) in scales.iter_mut().zip(halves.as_chunks::<2>().0.as_chunks::<OUTPUTS>().0) {
        *scale = eight_halves(halves);
    }
    (scales, quants.as_chunks::<INPUTS>().0)
}

fn portable_nibbles<const FUSED: bool, const R: usize>(
    weights: &[Nibbles],
    rows: [&[Block]; R],
) -> [[f32; OUTPUTS]; R] {
    rows.map(|row| {
        let mut result = [0f32; OUTPUTS];
        for (panel, block) in weights.iter().zip(row) {
            let ([scale, offset], vectors) = split::<2>(panel);
            let (low, high) = block.quants.split_at(INPUTS / 2);
            // At most 8 products of 15 · 127 each per sum: 16 bits hold them.
            let mut sums = [[0i16; 4]; OUTPUTS];
            for ((vector, low), high) in
                vectors.iter().zip(low.as_chunks::<4>().0).zip(high.as_chunks::<4>().0)
            {
                for (sums, weights) in sums.iter_mut().zip(vector.as_chunks::<4>().0) {
                    for (((sum, w), low), high) in sums.iter_mut().zip(weights).zip(low).zip(high) {
                        *sum += i16::from(w & 15) * i16::from(*low) + i16::from(w >> 4) * i16::from(*high);
                    }
                }
            }
            for (((result, sums), scale), offset) in result.iter_mut().zip(sums).zip(scale).zip(offset) {
                let sum: i32 = sums.into_iter().map(i32::from).sum();
                *result = fma::<FUSED>(sum as f32, scale * block.scale, *result);
                *result = fma::<FUSED>(offset, block.sum, *result);
            }
        }
        result
    })
}

fn portable_bytes<const FUSED: bool, const R: usize>(
    weights: &[Bytes],
    rows: [&[Block]; R],
) -> [[f32; OUTPUTS]; R] {
    rows.map(|row| {
        let mut result = [0f32; OUTPUTS];
        for (panel, block) in weights.iter().zip(row) {
            let ([scale], vectors) = split::<1>(panel);
            let mut sums = [[0i32; 4]; OUTPUTS];
            for (vector, quants) in vectors.iter().zip(block.quants.as_chunks::<4>().0) {
                for (sums, weights) in sums.iter_mut().zip(vector.as_chunks::<4>().0) {
                    for ((sum, w), q) in sums.iter_mut().zip(weights).zip(quants) {
                        *sum += i32::from(*w as i8) * i32::from(*q);
                    }
                }
            }
            for ((result, sums), scale) in result.iter_mut().zip(sums).zip(scale) {
                let sum: i32 = sums.into_iter().sum();
                *result = fma::<FUSED>(sum as f32, scale * block.scale, *result);
            }
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u32) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            (state >> 9) ^ (state << 3)
        }
    }

    fn panels<const N: usize>(count: usize, halves: usize, seed: u32) -> Vec<[u8; N]> {
        let mut next = noise(seed);
        let mut panel = || {
            let mut panel = [0u8; N];
            panel.fill_with(|| next() as u8);
            for half in panel.as_chunks_mut::<2>().0.iter_mut().take(halves) {
                *half = f16::from_f32((next() % 2000) as f32 / 1000.0 - 1.0).to_le_bytes();
            }
            panel
        };
        (0..count).map(|_| panel()).collect()
    }

    fn activations(count: usize, seed: u32) -> (Vec<f32>, Vec<Block>) {
        let mut next = noise(seed);
        let values: Vec<f32> = (0..count * INPUTS).map(|_| (next() % 4001) as f32 / 1000.0 - 2.0).collect();
        let mut blocks = vec![Block::default(); count];
        quantise(&values, &mut blocks);
        (values, blocks)
    }

    #[test]
    fn quantised_blocks_stand_for_their_values() {
        let (values, blocks) = activations(5, 3);
        for (values, block) in values.chunks(INPUTS).zip(&blocks) {
            let top = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (value, quant) in values.iter().zip(block.quants) {
                assert!((value - f32::from(quant) * block.scale).abs() <= top / 253.0);
            }
            let sum: i32 = block.quants.iter().map(|&q| i32::from(q)).sum();
            assert_eq!(block.sum, sum as f32 * block.scale);
        }
    }

    #[test]
    fn kernels_agree_with_the_plain_sum_and_to_the_bit_with_each_other() {
        for blocks in [1, 2, 18, 48] {
            let rows: Vec<_> = (0..4).map(|r| activations(blocks, 100 + r).1).collect();
            let rows4 = [&rows[0][..], &rows[1][..], &rows[2][..], &rows[3][..]];
            let n = panels::<160>(blocks, 16, 7);
            let b = panels::<272>(blocks, 8, 9);
            let fast = (dot_nibbles(&n, rows4, Kernel::Best), dot_bytes(&b, rows4, Kernel::Best));
            assert_eq!(fast.0, dot_nibbles(&n, rows4, Kernel::Portable));
            assert_eq!(fast.1, dot_bytes(&b, rows4, Kernel::Portable));
            let rows3 = [rows4[0], rows4[1], rows4[2]];
            assert_eq!(fast.0[..3], dot_nibbles(&n, rows3, Kernel::Best));
            assert_eq!(fast.1[..3], dot_bytes(&b, rows3, Kernel::Best));
            for r in 0..4 {
                assert_eq!(fast.0[r], dot_nibbles(&n, [rows4[r]], Kernel::Best)[0]);
                assert_eq!(fast.1[r], dot_bytes(&b, [rows4[r]], Kernel::Best)[0]);
                for c in 0..OUTPUTS {
                    let (mut exact_n, mut exact_b, mut size) = (0f64, 0f64, 0f64);
                    for (i, block) in rows[r].iter().enumerate() {
                        let half = |panel: &[u8], at: usize| {
                            f64::from(f16::from_le_bytes([panel[at], panel[at + 1]]).to_f32())
                        };
                        for (k, &quant) in block.quants.iter().enumerate() {
                            let x = f64::from(quant) * f64::from(block.scale);
                            let byte = n[i][32 + (k % 16) / 4 * 32 + c * 4 + k % 4];
                            let nibble = if k < 16 { byte & 15 } else { byte >> 4 };
                            exact_n += x * (half(&n[i], 2 * c) * f64::from(nibble) + half(&n[i], 16 + 2 * c));
                            let byte = b[i][16 + k / 4 * 32 + c * 4 + k % 4] as i8;
                            exact_b += x * half(&b[i], 2 * c) * f64::from(byte);
                            size += x.abs() * 128.0;
                        }
                    }
                    assert!((exact_n - f64::from(fast.0[r][c])).abs() < size * 1e-6);
                    assert!((exact_b - f64::from(fast.1[r][c])).abs() < size * 1e-6);
                }
            }
        }
    }
}
