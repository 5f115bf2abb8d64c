//! aarch64: four products a lane with the dot product instructions (Raspberry Pi 5), eight with those
//! for matrices (i8mm), where the processor has them.
//!
//! The instructions are written out: the compiler's functions for them are not stable yet. No closures
//! within the loops: what iterators make of them does not know the processor's features.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Block, Bytes, Nibbles, OUTPUTS};

/// 16 bytes as a register.
#[inline]
#[target_feature(enable = "neon")]
fn vector(from: &[u8; 16]) -> int8x16_t {
    // SAFETY: both are 16 bytes.
    unsafe { std::mem::transmute::<[u8; 16], int8x16_t>(*from) }
}

/// A row's first 16 activations, and its others.
#[inline]
#[target_feature(enable = "neon")]
fn activations(block: &Block) -> [int8x16_t; 2] {
    // SAFETY: both are 32 bytes.
    unsafe { std::mem::transmute::<[i8; super::INPUTS], [int8x16_t; 2]>(block.quants) }
}

/// Eight f16 as f32.
#[inline]
#[target_feature(enable = "neon")]
fn halves(from: &[u8; 16]) -> [float32x4_t; 2] {
    let from = vector(from);
    let (first, second): (float32x4_t, float32x4_t);
    // SAFETY: reads one register and writes two; every aarch64 processor has the instructions.
    unsafe {
        asm!(
            "fcvtl {first:v}.4s, {from:v}.4h",
            "fcvtl2 {second:v}.4s, {from:v}.8h",
            first = out(vreg) first, second = lateout(vreg) second, from = in(vreg) from,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [first, second]
}

/// The low four bits of each byte.
#[inline]
#[target_feature(enable = "neon")]
fn low(packed: int8x16_t) -> int8x16_t {
    vandq_s8(packed, vdupq_n_s8(15))
}

/// The high four.
#[inline]
#[target_feature(enable = "neon")]
fn high(packed: int8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s8(packed)))
}

/// Adds to each lane four products with the `AT`-th four activations.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_four<const AT: usize>(sums: &mut int32x4_t, weights: int8x16_t, activations: int8x16_t) {
    // SAFETY: registers only; the processor has the instruction.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {weights:v}.16b, {activations:v}.4b[{at}]",
            sums = inout(vreg) *sums, weights = in(vreg) weights, activations = in(vreg) activations, at = const AT,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Adds, for two outputs and two rows, eight products each: both rows of the first output, both of the second.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn add_two_by_two(sums: &mut int32x4_t, outputs: int8x16_t, rows: int8x16_t) {
    // SAFETY: registers only; the processor has the instruction.
    unsafe {
        asm!(
            "smmla {sums:v}.4s, {outputs:v}.16b, {rows:v}.16b",
            sums = inout(vreg) *sums, outputs = in(vreg) outputs, rows = in(vreg) rows,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Of two times four inputs of four outputs, the eight of outputs 0 and 1, and of 2 and 3.
#[inline]
#[target_feature(enable = "neon")]
fn eights(early: int8x16_t, late: int8x16_t) -> [int8x16_t; 2] {
    let (early, late) = (vreinterpretq_s32_s8(early), vreinterpretq_s32_s8(late));
    [vreinterpretq_s8_s32(vzip1q_s32(early, late)), vreinterpretq_s8_s32(vzip2q_s32(early, late))]
}

/// The first eight activations of two rows, and the last eight.
#[inline]
#[target_feature(enable = "neon")]
fn both(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
    [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))]
}

/// Adds a panel's sums.
#[inline]
#[target_feature(enable = "neon")]
fn add(to: &mut [float32x4_t; 2], sums: [int32x4_t; 2], scale: [float32x4_t; 2], block: &Block) {
    to[0] = vfmaq_f32(to[0], vcvtq_f32_s32(sums[0]), vmulq_n_f32(scale[0], block.scale));
    to[1] = vfmaq_f32(to[1], vcvtq_f32_s32(sums[1]), vmulq_n_f32(scale[1], block.scale));
}

/// Adds what a panel's offset makes of its activations.
#[inline]
#[target_feature(enable = "neon")]
fn shift(to: &mut [float32x4_t; 2], offset: [float32x4_t; 2], block: &Block) {
    to[0] = vfmaq_n_f32(to[0], offset[0], block.sum);
    to[1] = vfmaq_n_f32(to[1], offset[1], block.sum);
}

/// Registers as results.
#[inline]
#[target_feature(enable = "neon")]
fn stored<const R: usize>(result: [[float32x4_t; 2]; R]) -> [[f32; OUTPUTS]; R] {
    // SAFETY: both are eight floats.
    result.map(|lanes| unsafe { std::mem::transmute::<[float32x4_t; 2], [f32; OUTPUTS]>(lanes) })
}

// In both kinds `r` runs below `R`, the length of what it indexes, and every row has as many blocks as there
// are panels, as checked first; parts of a panel are numbered by constants.

/// Row by row.
#[allow(clippy::indexing_slicing)]
pub mod dot {
    use super::*;

    #[target_feature(enable = "neon,dotprod")]
    pub fn nibbles<const R: usize>(weights: &[Nibbles], rows: [&[Block]; R]) -> [[f32; OUTPUTS]; R] {
        let rows = rows.map(|row| &row[..weights.len()]);
        let mut result = [[vdupq_n_f32(0.0); 2]; R];
        for (i, panel) in weights.iter().enumerate() {
            let parts = panel.as_chunks().0;
            let mut sums = [[vdupq_n_s32(0); 2]; R];
            macro_rules! quarter {
                ($v:literal) => {
                    let (a, b) = (vector(&parts[2 + 2 * $v]), vector(&parts[3 + 2 * $v]));
                    for r in 0..R {
                        let [early, late] = activations(&rows[r][i]);
                        add_four::<$v>(&mut sums[r][0], low(a), early);
                        add_four::<$v>(&mut sums[r][1], low(b), early);
                        add_four::<$v>(&mut sums[r][0], high(a), late);
                        add_four::<$v>(&mut sums[r][1], high(b), late);
                    }
                };
            }
            quarter!(0);
            quarter!(1);
            quarter!(2);
            quarter!(3);
            let (scale, offset) = (halves(&parts[0]), halves(&parts[1]));
            for r in 0..R {
                add(&mut result[r], sums[r], scale, &rows[r][i]);
                shift(&mut result[r], offset, &rows[r][i]);
            }
        }
        stored(result)
    }

    #[target_feature(enable = "neon,dotprod")]
    pub fn bytes<const R: usize>(weights: &[Bytes], rows: [&[Block]; R]) -> [[f32; OUTPUTS]; R] {
        let rows = rows.map(|row| &row[..weights.len()]);
        let mut result = [[vdupq_n_f32(0.0); 2]; R];
        for (i, panel) in weights.iter().enumerate() {
            let parts = panel.as_chunks().0;
            let mut sums = [[vdupq_n_s32(0); 2]; R];
            macro_rules! quarter {
                ($v:literal) => {
                    let (a, b) = (vector(&parts[1 + 2 * $v]), vector(&parts[2 + 2 * $v]));
                    let (c, d) = (vector(&parts[9 + 2 * $v]), vector(&parts[10 + 2 * $v]));
                    for r in 0..R {
                        let [early, late] = activations(&rows[r][i]);
                        add_four::<$v>(&mut sums[r][0], a, early);
                        add_four::<$v>(&mut sums[r][1], b, early);
                        add_four::<$v>(&mut sums[r][0], c, late);
                        add_four::<$v>(&mut sums[r][1], d, late);
                    }
                };
            }
            quarter!(0);
            quarter!(1);
            quarter!(2);
            quarter!(3);
            let scale = halves(&parts[0]);
            for r in 0..R {
                add(&mut result[r], sums[r], scale, &rows[r][i]);
            }
        }
        stored(result)
    }
}

/// Two rows at a time; an odd number of them row by row.
#[allow(clippy::indexing_slicing)]
pub mod matrix {
    use super::*;

    /// Adds eight inputs of eight outputs, `early` four and `late` four, for each pair of rows.
    macro_rules! add_eight {
        ($corners:ident, $rows:ident, $i:ident, $early:expr, $late:expr, $half:literal, $part:literal) => {
            let ([ab, cd], [ef, gh]) = (eights($early[0], $late[0]), eights($early[1], $late[1]));
            for p in 0..R / 2 {
                let (one, two) = (activations(&$rows[2 * p][$i]), activations(&$rows[2 * p + 1][$i]));
                let pair = both(one[$half], two[$half])[$part];
                add_two_by_two(&mut $corners[p][0], ab, pair);
                add_two_by_two(&mut $corners[p][1], cd, pair);
                add_two_by_two(&mut $corners[p][2], ef, pair);
                add_two_by_two(&mut $corners[p][3], gh, pair);
            }
        };
    }

    /// The sums of row `r`.
    macro_rules! sums {
        ($corners:ident, $r:ident) => {{
            let [ab, cd, ef, gh] = $corners[$r / 2];
            match $r % 2 {
                0 => [vuzp1q_s32(ab, cd), vuzp1q_s32(ef, gh)],
                _ => [vuzp2q_s32(ab, cd), vuzp2q_s32(ef, gh)],
            }
        }};
    }

    #[target_feature(enable = "neon,dotprod,i8mm")]
    pub fn nibbles<const R: usize>(weights: &[Nibbles], rows: [&[Block]; R]) -> [[f32; OUTPUTS]; R] {
        if R % 2 == 1 {
            return dot::nibbles(weights, rows);
        }
        let rows = rows.map(|row| &row[..weights.len()]);
        let mut result = [[vdupq_n_f32(0.0); 2]; R];
        for (i, panel) in weights.iter().enumerate() {
            let parts = panel.as_chunks().0;
            // One for each pair: only the first `R` / 2 are used.
            let mut corners = [[vdupq_n_s32(0); 4]; R];
            macro_rules! half {
                ($v:literal) => {
                    let early = [vector(&parts[2 + 4 * $v]), vector(&parts[3 + 4 * $v])];
                    let late = [vector(&parts[4 + 4 * $v]), vector(&parts[5 + 4 * $v])];
                    let lows = ([low(early[0]), low(early[1])], [low(late[0]), low(late[1])]);
                    let highs = ([high(early[0]), high(early[1])], [high(late[0]), high(late[1])]);
                    add_eight!(corners, rows, i, lows.0, lows.1, 0, $v);
                    add_eight!(corners, rows, i, highs.0, highs.1, 1, $v);
                };
            }
            half!(0);
            half!(1);
            let (scale, offset) = (halves(&parts[0]), halves(&parts[1]));
            for r in 0..R {
                add(&mut result[r], sums!(corners, r), scale, &rows[r][i]);
                shift(&mut result[r], offset, &rows[r][i]);
            }
        }
        stored(result)
    }

    #[target_feature(enable = "neon,dotprod,i8mm")]
    pub fn bytes<const R: usize>(weights: &[Bytes], rows: [&[Block]; R]) -> [[f32; OUTPUTS]; R] {
        if R % 2 == 1 {
            return dot::bytes(weights, rows);
        }
        let rows = rows.map(|row| &row[..weights.len()]);
        let mut result = [[vdupq_n_f32(0.0); 2]; R];
        for (i, panel) in weights.iter().enumerate() {
            let parts = panel.as_chunks().0;
            let mut corners = [[vdupq_n_s32(0); 4]; R];
            macro_rules! quarter {
                ($at:literal, $half:literal, $part:literal) => {
                    let early = [vector(&parts[$at]), vector(&parts[$at + 1])];
                    let late = [vector(&parts[$at + 2]), vector(&parts[$at + 3])];
                    add_eight!(corners, rows, i, early, late, $half, $part);
                };
            }
            quarter!(1, 0, 0);
            quarter!(5, 0, 1);
            quarter!(9, 1, 0);
            quarter!(13, 1, 1);
            let scale = halves(&parts[0]);
            for r in 0..R {
                add(&mut result[r], sums!(corners, r), scale, &rows[r][i]);
            }
        }
        stored(result)
    }
}
