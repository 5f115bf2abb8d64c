//! Arithmetic on rows, compiled twice on x86-64: for AVX2 with FMA and for any processor.
//! Sums run over eight lanes in a fixed order, so a row's result never depends on who
//! computes it or on what is computed next to it.

use super::container::RopeKind;
use super::lanes::LANES;

/// Whether the AVX2 versions run here.
#[cfg(target_arch = "x86_64")]
pub fn wide() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}

/// Defines `$name` as the inlined `$body::<FUSED>`, in the best version for this processor.
macro_rules! versions {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                fn fast($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                if $crate::engine::rows::wide() {
                    // SAFETY: the processor has the features, as just checked.
                    return unsafe { fast($($arg),*) };
                }
                $body::<false>($($arg),*)
            }
            #[cfg(not(target_arch = "x86_64"))]
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
pub(crate) use versions;

/// a·b + c, in one rounding where the processor can.
#[inline(always)]
pub fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The lanes' sum.
#[inline(always)]
pub fn total([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// bf16 → f32.
#[inline(always)]
pub fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// f32 → bf16, to nearest even.
#[inline(always)]
pub fn narrow(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if value.is_nan() { 0x7fc0 } else { rounded as u16 }
}

/// eˣ for −86 ≤ x ≤ 86, the bound's value outside.
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    const TO_NEAREST: f32 = 12_582_912.0;
    let x = if x < -86.0 { -86.0 } else { x };
    let x = if x > 86.0 { 86.0 } else { x };
    let shifted = fma::<FUSED>(x, std::f32::consts::LOG2_E, TO_NEAREST);
    let n = shifted - TO_NEAREST;
    let r = fma::<FUSED>(n, -0.693_359_4, x);
    let r = fma::<FUSED>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_2e-4;
    p = fma::<FUSED>(p, r, 1.398_199_9e-3);
    p = fma::<FUSED>(p, r, 8.333_452e-3);
    p = fma::<FUSED>(p, r, 4.166_579_6e-2);
    p = fma::<FUSED>(p, r, 1.666_666_5e-1);
    p = fma::<FUSED>(p, r, 0.5);
    p = fma::<FUSED>(p, r * r, r) + 1.0;
    // The low bits of `shifted` are n: adding them to the exponent multiplies by 2ⁿ.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[inline(always)]
fn widen_row_body<const FUSED: bool>(from: &[u8], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from.as_chunks::<2>().0) {
        *to = widen(u16::from_le_bytes(*from));
    }
}
versions! {
    /// bf16 bytes → f32.
    pub fn widen_row(from: &[u8], to: &mut [f32]) = widen_row_body
}

#[inline(always)]
fn sum_into_bf16_body<const FUSED: bool>(a: &[f32], b: &[f32], to: &mut [u8]) {
    for ((to, a), b) in to.as_chunks_mut::<2>().0.iter_mut().zip(a).zip(b) {
        *to = narrow(a + b).to_le_bytes();
    }
}
versions! {
    /// bf16 bytes of a + b.
    pub fn sum_into_bf16(a: &[f32], b: &[f32], to: &mut [u8]) = sum_into_bf16_body
}

#[inline(always)]
fn narrow_row_body<const FUSED: bool>(from: &[f32], to: &mut [u8]) {
    for (to, from) in to.as_chunks_mut::<2>().0.iter_mut().zip(from) {
        *to = narrow(*from).to_le_bytes();
    }
}
versions! {
    /// f32 → bf16 bytes.
    pub fn narrow_row(from: &[f32], to: &mut [u8]) = narrow_row_body
}

#[inline(always)]
fn add_body<const FUSED: bool>(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
versions! {
    /// to += from.
    pub fn add(to: &mut [f32], from: &[f32]) = add_body
}

/// What RMSNorm multiplies a row with.
#[inline(always)]
fn rms_scale<const FUSED: bool>(row: &[f32], eps: f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = fma::<FUSED>(*x, *x, *lane);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = fma::<FUSED>(*x, *x, *lane);
    }
    1.0 / (total(lanes) / row.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn rms_norm_body<const FUSED: bool>(from: &[f32], weight: &[f32], eps: f32, to: &mut [f32]) -> f32 {
    let scale = rms_scale::<FUSED>(from, eps);
    for ((to, x), w) in to.iter_mut().zip(from).zip(weight) {
        *to = x * scale * w;
    }
    scale
}
versions! {
    /// RMSNorm; returns the scale, which is finite exactly when the row is usable.
    pub fn rms_norm(from: &[f32], weight: &[f32], eps: f32, to: &mut [f32]) -> f32 = rms_norm_body
}

#[inline(always)]
fn rms_norm_here_body<const FUSED: bool>(row: &mut [f32], weight: &[f32], eps: f32) {
    let scale = rms_scale::<FUSED>(row, eps);
    for (x, w) in row.iter_mut().zip(weight) {
        *x = *x * scale * w;
    }
}
versions! {
    /// RMSNorm in place.
    pub fn rms_norm_here(row: &mut [f32], weight: &[f32], eps: f32) = rms_norm_here_body
}

#[inline(always)]
fn exp_row_body<const FUSED: bool>(scores: &mut [f32], top: f32) -> f32 {
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    let (mut sums, mut bad) = ([0f32; LANES], [0f32; LANES]);
    for chunk in chunks {
        for ((score, sum), bad) in chunk.iter_mut().zip(&mut sums).zip(&mut bad) {
            *bad += *score * 0.0;
            *score = exp::<FUSED>(*score - top);
            *sum += *score;
        }
    }
    for ((score, sum), bad) in rest.iter_mut().zip(&mut sums).zip(&mut bad) {
        *bad += *score * 0.0;
        *score = exp::<FUSED>(*score - top);
        *sum += *score;
    }
    total(sums) + total(bad)
}
versions! {
    /// Replaces each score by e^(score − top) and returns the sum, NaN when a score is not
    /// finite.
    pub fn exp_row(scores: &mut [f32], top: f32) -> f32 = exp_row_body
}

#[inline(always)]
fn swiglu_body<const FUSED: bool>(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp::<FUSED>(-*gate)) * up;
    }
}
versions! {
    /// gate = silu(gate) · up.
    pub fn swiglu(gate: &mut [f32], up: &[f32]) = swiglu_body
}

/// Rotates the pairs of a head; `angles` are cosines, then sines.
pub fn rotate(values: &mut [f32], angles: &[f32], kind: RopeKind) {
    let (cos, sin) = angles.split_at(angles.len() / 2);
    let angles = cos.iter().zip(sin);
    let turn = |a: &mut f32, b: &mut f32, (cos, sin): (&f32, &f32)| {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    };
    match kind {
        RopeKind::Interleaved => {
            for ([a, b], angle) in values.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                turn(a, b, angle);
            }
        }
        RopeKind::Neox => {
            let (first, second) = values.split_at_mut(cos.len().min(values.len()));
            for ((a, b), angle) in first.iter_mut().zip(second).zip(angles) {
                turn(a, b, angle);
            }
        }
    }
}

/// bf16 elements of a card buffer.
pub fn halves(bytes: &[u8]) -> Result<&[u16], String> {
    // SAFETY: any two bytes are a valid u16, and bf16 tensors are little endian as the host is.
    match unsafe { bytes.align_to::<u16>() } {
        ([], halves, []) => Ok(halves),
        _ => Err("a bf16 tensor does not start at an even address".into()),
    }
}

/// Fills a bf16 tensor with NaN.
pub fn spoil(bytes: &mut [u8]) {
    bytes.as_chunks_mut::<2>().0.fill(0x7fc0u16.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_and_ends_gently() {
        for i in -8600..=8600 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            for got in [exp::<false>(x), exp::<true>(x)] {
                assert!((f64::from(got) / exact - 1.0).abs() < 3e-7, "{x}: {got} {exact}");
            }
        }
        assert!(exp::<true>(-1e30) < 1e-37);
        assert!(exp::<true>(1e30) > 1e37);
    }

    #[test]
    fn narrowing_agrees_with_the_half_crate() {
        for i in (0..u32::MAX - 70_001).step_by(70_001) {
            let x = f32::from_bits(i);
            let (a, b) = (half::bf16::from_bits(narrow(x)), half::bf16::from_f32(x));
            assert!(a.is_nan() && b.is_nan() || a.to_bits() == b.to_bits(), "{x}");
        }
    }

    #[test]
    fn norm_matches_its_definition_and_shows_bad_rows() {
        let x: Vec<f32> = (0..19).map(|i| i as f32 * 0.3 - 2.0).collect();
        let w: Vec<f32> = (0..19).map(|i| 1.0 + i as f32 * 0.1).collect();
        let mut y = vec![0.0; 19];
        assert!(rms_norm(&x, &w, 1e-5, &mut y).is_finite());
        let mean = x.iter().map(|v| f64::from(v * v)).sum::<f64>() / 19.0;
        for ((y, x), w) in y.iter().zip(&x).zip(&w) {
            assert!((f64::from(*y) - f64::from(x * w) / (mean + 1e-5).sqrt()).abs() < 1e-5);
        }
        assert!(!rms_norm(&[f32::NAN; 8], &w, 1e-5, &mut y).is_finite());
    }
}
