//! x86-64 with AVX2: pairs of products in 16 bits, one register for four inputs of eight outputs.

use std::arch::x86_64::*;

use super::{Block, Bytes, Nibbles, OUTPUTS};

/// Four activations, for every output; `at` is one of eight constants.
#[allow(clippy::indexing_slicing)]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn four(block: &Block, at: usize) -> __m256i {
    _mm256_set1_epi32(i32::from_ne_bytes(block.quants.as_chunks().0[at].map(|q: i8| q as u8)))
}

/// Eight f16 as f32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn halves(from: &[u8]) -> __m256 {
    let bytes: [u8; 16] = *from.as_chunks().0.first().unwrap_or(&[0; 16]);
    // SAFETY: both are 16 bytes.
    _mm256_cvtph_ps(unsafe { std::mem::transmute::<[u8; 16], __m128i>(bytes) })
}

/// 32 bytes as a register.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn vector(from: &[u8; 32]) -> __m256i {
    // SAFETY: both are 32 bytes.
    unsafe { std::mem::transmute::<[u8; 32], __m256i>(*from) }
}

/// Registers as results.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn stored<const R: usize>(result: [__m256; R]) -> [[f32; OUTPUTS]; R] {
    // SAFETY: both are eight floats.
    result.map(|lanes| unsafe { std::mem::transmute::<__m256, [f32; OUTPUTS]>(lanes) })
}

// `r` runs below `R`, the length of what it indexes, and every row has as many blocks as
// there are panels, as checked first; quarters of a panel are numbered by constants.
#[allow(clippy::indexing_slicing)]
#[target_feature(enable = "avx2,fma,f16c")]
pub fn nibbles<const R: usize>(weights: &[Nibbles], rows: [&[Block]; R]) -> [[f32; OUTPUTS]; R] {
    let (ones, mask) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    let rows = rows.map(|row| &row[..weights.len()]);
    let mut result = [_mm256_setzero_ps(); R];
    for (i, panel) in weights.iter().enumerate() {
        let (halved, quants) = panel.split_at(32);
        let quants = quants.as_chunks().0;
        let mut sums = [_mm256_setzero_si256(); R];
        macro_rules! quarter {
            ($v:literal) => {
                let packed = vector(&quants[$v]);
                let low = _mm256_and_si256(packed, mask);
                let high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
                for r in 0..R {
                    let block = &rows[r][i];
                    let low = _mm256_maddubs_epi16(low, four(block, $v));
                    let high = _mm256_maddubs_epi16(high, four(block, 4 + $v));
                    sums[r] = _mm256_add_epi16(sums[r], _mm256_add_epi16(low, high));
                }
            };
        }
        quarter!(0);
        quarter!(1);
        quarter!(2);
        quarter!(3);
        let (scale, offset) = halved.split_at(16);
        let (scale, offset) = (halves(scale), halves(offset));
        for r in 0..R {
            let block = &rows[r][i];
            let sum = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[r], ones));
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(block.scale));
            result[r] = _mm256_fmadd_ps(sum, scale, result[r]);
            result[r] = _mm256_fmadd_ps(offset, _mm256_set1_ps(block.sum), result[r]);
        }
    }
    stored(result)
}

// As above.
#[allow(clippy::indexing_slicing)]
#[target_feature(enable = "avx2,fma,f16c")]
pub fn bytes<const R: usize>(weights: &[Bytes], rows: [&[Block]; R]) -> [[f32; OUTPUTS]; R] {
    let ones = _mm256_set1_epi16(1);
    let rows = rows.map(|row| &row[..weights.len()]);
    let mut result = [_mm256_setzero_ps(); R];
    for (i, panel) in weights.iter().enumerate() {
        let (scale, quants) = panel.split_at(16);
        let quants = quants.as_chunks().0;
        let mut sums = [_mm256_setzero_si256(); R];
        macro_rules! eighth {
            ($v:literal) => {
                let signed = vector(&quants[$v]);
                let size = _mm256_abs_epi8(signed);
                for r in 0..R {
                    let quants = _mm256_sign_epi8(four(&rows[r][i], $v), signed);
                    let pairs = _mm256_maddubs_epi16(size, quants);
                    sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(pairs, ones));
                }
            };
        }
        eighth!(0);
        eighth!(1);
        eighth!(2);
        eighth!(3);
        eighth!(4);
        eighth!(5);
        eighth!(6);
        eighth!(7);
        let scale = halves(scale);
        for r in 0..R {
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(rows[r][i].scale));
            result[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r]), scale, result[r]);
        }
    }
    stored(result)
}
