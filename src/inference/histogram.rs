//! Logits counted by value. A bf16 has only 65536 values, so counting replaces sorting.

use std::ops::RangeInclusive;

use half::bf16;

use crate::chat::{TokenChoice, TokenId, TokenLogprobs};
use crate::fault::{Failure, Fault, Result};
use crate::model::Pieces;

/// The order key of −∞: what is below is a NaN.
const LOWEST: u16 = 0x007f;
/// The order key of +∞: what is above is a NaN.
const HIGHEST: u16 = 0xff80;

/// Counts that are looked at together; divides 65536.
const BLOCK: usize = 64;

/// Ascending with the number; −0 and +0 are one.
fn key(logit: bf16) -> u16 {
    match logit.to_bits() {
        0x8000 => 0x8000,
        bits if bits & 0x8000 != 0 => !bits,
        bits => bits | 0x8000,
    }
}

fn value(key: u16) -> f32 {
    let bits = if key & 0x8000 != 0 { key & 0x7fff } else { !key };
    bf16::from_bits(bits).to_f32()
}

/// How many tokens have each logit.
pub struct Histogram {
    /// Its length is that of the keys, so the compiler knows every key is inside.
    counts: Box<[u32; 1 << 16]>,
}

impl Histogram {
    /// An empty one; to be kept from token to token.
    pub fn new() -> Self {
        Self { counts: Box::new([0; 1 << 16]) }
    }

    /// Counts logits.
    pub fn count(&mut self, logits: &[bf16]) {
        self.counts.fill(0);
        for &logit in logits {
            if let Some(count) = self.counts.get_mut(usize::from(key(logit))) {
                *count += 1;
            }
        }
    }

    /// Counts the logits of a whole vocabulary as the card gave them.
    ///
    /// # Errors
    /// [`Fault::CardOutput`] for NaN, +∞, or where no token has a finite logit.
    pub fn fill(&mut self, logits: &[bf16]) -> Result<()> {
        self.count(logits);
        let wrong = |what: &str| Err(Failure::new(Fault::CardOutput, format!("logits: {what}")));
        let has = |mut keys: RangeInclusive<u16>| keys.any(|key| self.with(key) != 0);
        if has(0..=LOWEST - 1) || has(HIGHEST + 1..=u16::MAX) {
            return wrong("not a number");
        }
        if self.with(HIGHEST) != 0 {
            return wrong("infinite");
        }
        if self.values().next().is_none() {
            return wrong("no token is possible");
        }
        Ok(())
    }

    fn with(&self, key: u16) -> u32 {
        self.counts.get(usize::from(key)).copied().unwrap_or(0)
    }

    /// Takes one token with this logit out.
    pub fn remove(&mut self, logit: bf16) {
        if let Some(count) = self.counts.get_mut(usize::from(key(logit))) {
            *count = count.saturating_sub(1);
        }
    }

    /// The finite values that occur, highest first, with how many tokens have them.
    pub fn values(&self) -> impl Iterator<Item = (f32, u32)> + '_ {
        // Most of the table is empty: whole blocks of it are passed over.
        let occupied = |block: &&[u32]| block.iter().fold(0, |any, count| any | count) != 0;
        let blocks = self.counts.chunks(BLOCK).enumerate().rev().filter(move |(_, block)| occupied(block));
        blocks
            .flat_map(|(n, block)| {
                block.iter().enumerate().rev().map(move |(i, &count)| (n * BLOCK + i, count))
            })
            .filter(|&(_, count)| count > 0)
            .filter_map(|(key, count)| Some((u16::try_from(key).ok()?, count)))
            .filter(|&(key, _)| key > LOWEST && key < HIGHEST)
            .map(|(key, count)| (value(key), count))
    }
}

/// The natural-log probabilities of the chosen token and of the `top` likeliest, over the
/// unaltered logits. `histogram` must hold exactly these logits.
pub fn logprobs(
    histogram: &Histogram,
    logits: &[bf16],
    chosen: TokenId,
    top: u8,
    pieces: &Pieces,
) -> TokenLogprobs {
    let max = histogram.values().next().map_or(0.0, |(value, _)| f64::from(value));
    let sum: f64 = histogram.values().map(|(v, count)| f64::from(count) * (f64::from(v) - max).exp()).sum();
    let log_sum = max + sum.ln();
    #[allow(clippy::cast_possible_truncation)]
    let choice = |id: TokenId, logit: bf16| TokenChoice {
        id,
        bytes: pieces.bytes(id).to_vec(),
        logprob: (logit.to_f64() - log_sum) as f32,
    };
    let wanted = usize::from(top);
    let mut found: u32 = 0;
    let cut = histogram.values().find(|&(_, count)| {
        found = found.saturating_add(count);
        found >= u32::from(top)
    });
    let cut = cut.map_or(f32::NEG_INFINITY, |(value, _)| value);
    let mut likeliest: Vec<(TokenId, bf16)> = if wanted == 0 {
        Vec::new()
    } else {
        (0..).zip(logits.iter().copied()).filter(|(_, logit)| logit.to_f32() >= cut).collect()
    };
    likeliest.sort_by(|a, b| key(b.1).cmp(&key(a.1)).then(a.0.cmp(&b.0)));
    let own = usize::try_from(chosen).ok().and_then(|i| logits.get(i)).copied().unwrap_or(bf16::NEG_INFINITY);
    TokenLogprobs {
        chosen: choice(chosen, own),
        top: likeliest.into_iter().take(wanted).map(|(id, logit)| choice(id, logit)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: &[f32]) -> Result<Vec<(f32, u32)>> {
        let logits: Vec<bf16> = values.iter().map(|&v| bf16::from_f32(v)).collect();
        let mut histogram = Histogram::new();
        histogram.fill(&logits)?;
        Ok(histogram.values().collect())
    }

    #[test]
    fn every_number_survives_its_key_in_order() {
        let mut last = None;
        for k in LOWEST..=HIGHEST {
            let v = value(k);
            assert!(!v.is_nan());
            if k != 0x7fff {
                // 0x7fff would be −0, which is counted as +0.
                assert_eq!(key(bf16::from_f32(v)), k);
            }
            assert!(last.is_none_or(|l| v >= l));
            last = Some(v);
        }
    }

    #[test]
    fn values_come_highest_first_and_zeros_are_one() {
        let values = filled(&[0.0, -1.5, 3.0, -0.0, 3.0, f32::NEG_INFINITY]).unwrap();
        assert_eq!(values, [(3.0, 2), (0.0, 2), (-1.5, 1)]);
    }

    #[test]
    fn impossible_logits_are_a_fault_of_the_card() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            assert_eq!(filled(&[1.0, bad]).unwrap_err().fault, Fault::CardOutput);
        }
        assert_eq!(filled(&[f32::NEG_INFINITY]).unwrap_err().fault, Fault::CardOutput);
        assert_eq!(filled(&[]).unwrap_err().fault, Fault::CardOutput);
    }
}
