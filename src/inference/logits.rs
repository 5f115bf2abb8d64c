//! What the card gave for each token of a vocabulary, looked at once: whether it can be, and where
//! the likeliest are. Loops over whole blocks have no branches: the compiler makes vector instructions
//! of them.

use half::bf16;

use crate::fault::Result;

/// Logits whose highest is remembered.
pub const BLOCK: usize = 64;

/// The key of −∞; a NaN below zero is lower still.
pub const LOWEST: i16 = !HIGHEST;
/// The key of +∞; a NaN above zero is higher still.
pub const HIGHEST: i16 = 0x7f80;
/// That of 65536, which no real head's logits reach.
const LIMIT: i16 = 0x4780;

/// Orders logits as their values are ordered, save that −0 comes right below +0. Signed: every
/// processor has an instruction for the larger of several signed ones.
pub const fn key(logit: bf16) -> i16 {
    let bits = logit.to_bits().cast_signed();
    bits ^ ((bits >> 15) & 0x7fff)
}

/// The lowest and the highest key.
#[inline(always)]
pub fn extremes(logits: &[bf16]) -> (i16, i16) {
    logits.iter().fold((HIGHEST, LOWEST), |(low, high), &logit| (low.min(key(logit)), high.max(key(logit))))
}

/// Whether a head may give logits between these keys.
fn are_possible((lowest, highest): (i16, i16)) -> bool {
    lowest > !LIMIT && highest < LIMIT
}

/// The first of these that no head would give.
pub fn impossible(logits: &[bf16]) -> Option<usize> {
    logits.iter().position(|&logit| !are_possible((key(logit), key(logit))))
}

/// Logits as the card gave them.
pub struct Logits {
    values: Vec<bf16>,
    /// The highest key of each whole block.
    peaks: Vec<i16>,
    lowest: i16,
    highest: i16,
}

impl From<Vec<bf16>> for Logits {
    fn from(values: Vec<bf16>) -> Self {
        let mut logits = Self { values, peaks: Vec::new(), lowest: HIGHEST, highest: LOWEST };
        logits.look();
        logits
    }
}

impl Logits {
    /// Has them filled in anew.
    ///
    /// # Errors
    /// What `fill` says.
    pub fn fill(&mut self, fill: impl FnOnce(&mut [bf16]) -> Result<()>) -> Result<()> {
        fill(&mut self.values)?;
        self.look();
        Ok(())
    }

    /// All of them.
    pub fn values(&self) -> &[bf16] {
        &self.values
    }

    /// Whether a head may have given these: none is NaN, infinite or absurdly large.
    pub fn are_possible(&self) -> bool {
        are_possible((self.lowest, self.highest))
    }

    /// The first `count`: engines may have more than the vocabulary.
    pub fn first(&self, count: usize) -> Option<Known<'_>> {
        let values = self.values.get(..count)?;
        let peaks = self.peaks.get(..count / BLOCK)?;
        Some(Known { values, peaks, lowest: self.lowest })
    }

    fn look(&mut self) {
        let (blocks, rest) = self.values.as_chunks::<BLOCK>();
        let (mut lowest, mut highest) = extremes(rest);
        self.peaks.clear();
        self.peaks.extend(blocks.iter().map(|block| {
            let (low, high) = extremes(block);
            lowest = lowest.min(low);
            highest = highest.max(high);
            high
        }));
        (self.lowest, self.highest) = (lowest, highest);
    }
}

/// Logits of a vocabulary, and what is known of them.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub values: &'a [bf16],
    /// The highest key of each whole block.
    pub peaks: &'a [i16],
    /// No key is lower.
    pub lowest: i16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn impossible_logits_are_recognised() {
        let possible = |values: &[f32]| {
            let values: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
            let found = impossible(&values);
            let known = Logits::from(values).are_possible();
            assert_eq!(known, found.is_none());
            (known, found)
        };
        for value in [0.0, -0.0, -40.25, 65280.0, -65280.0] {
            assert!(possible(&[value]).0, "{value}");
            assert!(possible(&[1.0, value]).0, "{value}");
        }
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65536.0, -65536.0, -1e30] {
            assert!(!possible(&[value]).0, "{value}");
            for at in [0, 70, 127, 130] {
                let mut values = vec![1.0; 131];
                values[at] = value;
                assert_eq!(possible(&values), (false, Some(at)), "{value}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_known_is_what_counting_finds(
            bits in proptest::collection::vec(any::<u16>(), 0..400),
            cut in 0usize..400,
        ) {
            let values: Vec<bf16> = bits.iter().copied().map(bf16::from_bits).collect();
            let logits = Logits::from(values.clone());
            prop_assert_eq!(logits.lowest, values.iter().copied().map(key).fold(HIGHEST, i16::min));
            prop_assert_eq!(logits.highest, values.iter().copied().map(key).fold(LOWEST, i16::max));
            let Some(known) = logits.first(cut) else {
                prop_assert!(cut > values.len());
                return Ok(());
            };
            prop_assert_eq!(known.peaks.len(), cut / BLOCK);
            for (peak, block) in known.peaks.iter().zip(values.chunks(BLOCK)) {
                prop_assert_eq!(*peak, block.iter().copied().map(key).fold(LOWEST, i16::max));
            }
        }
    }
}
