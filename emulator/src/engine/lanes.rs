//! Eight f32 side by side: one AVX2 register, or an array for any processor. Both compute
//! the same in the same order; with FMA, to the same bits.

use super::rows::{fma, total, widen};

/// Number of lanes.
pub const LANES: usize = 8;

/// Operations on eight lanes.
///
/// # Safety
/// Of all methods: the processor has what the implementation needs.
pub trait Lanes: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: &[f32; LANES]) -> Self;
    unsafe fn load_bf16(from: &[u16; LANES]) -> Self;
    unsafe fn values(self) -> [f32; LANES];
    /// self + a·b.
    unsafe fn plus(self, a: Self, b: Self) -> Self;
    /// The sum of all lanes.
    unsafe fn total(self) -> f32;
}

/// For any processor.
#[derive(Clone, Copy)]
pub struct Portable<const FUSED: bool>([f32; LANES]);

impl<const FUSED: bool> Lanes for Portable<FUSED> {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    unsafe fn load_bf16(from: &[u16; LANES]) -> Self {
        Self(from.map(widen))
    }

    #[inline(always)]
    unsafe fn values(self) -> [f32; LANES] {
        self.0
    }

    #[inline(always)]
    unsafe fn plus(self, a: Self, b: Self) -> Self {
        let mut result = self.0;
        for ((to, a), b) in result.iter_mut().zip(a.0).zip(b.0) {
            *to = fma::<FUSED>(a, b, *to);
        }
        Self(result)
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        total(self.0)
    }
}

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use super::{LANES, Lanes};

    /// For processors with AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256);

    // Arrays become registers by transmutation and not by the load instructions' functions,
    // which are slow in builds with assertions.
    impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller promises the features.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: both are eight floats.
            Self(unsafe { transmute::<[f32; LANES], __m256>(*from) })
        }

        #[inline(always)]
        unsafe fn load_bf16(from: &[u16; LANES]) -> Self {
            // SAFETY: both are 16 bytes; the caller promises the features.
            unsafe {
                let bits = _mm256_cvtepu16_epi32(transmute::<[u16; LANES], __m128i>(*from));
                Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)))
            }
        }

        #[inline(always)]
        unsafe fn values(self) -> [f32; LANES] {
            // SAFETY: both are eight floats.
            unsafe { transmute::<__m256, [f32; LANES]>(self.0) }
        }

        #[inline(always)]
        unsafe fn plus(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller promises the features.
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn total(self) -> f32 {
            // SAFETY: the caller promises the features.
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
    }
}
