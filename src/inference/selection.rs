//! The likeliest tokens, found without reading all logits again.
//!
//! Of each block the highest logit is known. The n-th highest of these is a floor that at least n tokens
//! reach, so only the few blocks that reach it are looked at. Loops over whole blocks have no
//! branches: the compiler makes vector instructions of them.

use half::bf16;
use llguidance::toktrie::SimpleVob;

use super::logits::{BLOCK, HIGHEST, Known, LOWEST, extremes, key};
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

/// Of a block, how many logits one word of a mask of tokens speaks of.
const WORD: usize = 32;
/// A vector's worth of them.
const HALF: usize = WORD / 2;

/// Of a token that is not allowed.
const NONE: i16 = i16::MIN;

/// Finds the likeliest of a vocabulary; to be kept from token to token.
#[derive(Default)]
pub struct Selection {
    /// The highest key of each block among the tokens allowed.
    maxima: Vec<i16>,
    ranked: Vec<i16>,
    found: Vec<(TokenId, f32)>,
}

impl Selection {
    /// All tokens `allowed` with a logit above −∞ and at least as high as that of the `n`-th
    /// likeliest of them; perhaps more. Ascending.
    ///
    /// # Errors
    /// [`Fault::CardOutput`] for NaN, +∞, or where no token has a finite logit.
    pub fn likeliest(
        &mut self,
        logits: Known<'_>,
        allowed: Option<&SimpleVob>,
        n: usize,
    ) -> Result<&[(TokenId, f32)]> {
        let allowed = allowed.map(SimpleVob::as_slice);
        let highest = self.rank(logits, allowed);
        check(logits.lowest, highest)?;
        let floor = self.floor(n);
        self.found.clear();
        let blocks = logits.values.chunks(BLOCK).zip((0..).step_by(BLOCK)).zip(&self.maxima);
        for ((block, first), _) in blocks.filter(|&(_, &highest)| highest >= floor) {
            let (parts, rest) = block.as_chunks::<HALF>();
            for (part, first) in parts.iter().zip((first..).step_by(HALF)) {
                gather(&mut self.found, part, first, floor);
            }
            gather(&mut self.found, rest, first + block.len() - rest.len(), floor);
        }
        if let Some(words) = allowed {
            self.found.retain(|&(token, _)| is_allowed(words, token));
        }
        Ok(&self.found)
    }

    /// Fills in the maxima; the highest key of all tokens.
    fn rank(&mut self, logits: Known<'_>, allowed: Option<&[u32]>) -> i16 {
        let (blocks, rest) = logits.values.as_chunks::<BLOCK>();
        let last = (!rest.is_empty()).then(|| (rest, extremes(rest).1));
        let blocks =
            blocks.iter().map(<[bf16; BLOCK]>::as_slice).zip(logits.peaks.iter().copied()).chain(last);
        let mut words = allowed.map(|words| words.chunks(BLOCK / WORD));
        let mut highest = LOWEST;
        self.maxima.clear();
        self.maxima.extend(blocks.map(|(block, peak)| {
            highest = highest.max(peak);
            let words = words.as_mut().map(|words| words.next().unwrap_or_default());
            words.map_or(peak, |words| highest_of(block, words, peak))
        }));
        highest
    }

    /// A key that `n` tokens reach, or the lowest that is above −∞.
    fn floor(&mut self, n: usize) -> i16 {
        self.ranked.clone_from(&self.maxima);
        let nth = match n.checked_sub(1).filter(|&at| at < self.ranked.len()) {
            Some(at) => *self.ranked.select_nth_unstable_by(at, |a, b| b.cmp(a)).1,
            None => NONE,
        };
        // Both zeros are the same value.
        let nth = if nth == 0 { -1 } else { nth };
        nth.max(LOWEST + 1)
    }
}

/// Adds the tokens that reach `floor`, the first of which is number `first`.
#[inline(always)]
fn gather(found: &mut Vec<(TokenId, f32)>, part: &[bf16], first: usize, floor: i16) {
    if extremes(part).1 < floor {
        return;
    }
    for (&logit, token) in part.iter().zip(first..) {
        if key(logit) >= floor
            && let Ok(token) = TokenId::try_from(token)
        {
            found.push((token, logit.to_f32()));
        }
    }
}

/// The highest key of the tokens allowed, of a block whose highest at all is `highest`.
fn highest_of(block: &[bf16], words: &[u32], highest: i16) -> i16 {
    if words.iter().all(|&word| word == 0) {
        return NONE;
    }
    if block.len() == BLOCK && words.len() == BLOCK / WORD && words.iter().all(|&word| word == u32::MAX) {
        return highest;
    }
    let mut halves = words.iter().flat_map(|&word| [(word & 0xffff) as u16, (word >> 16) as u16]);
    let (parts, rest) = block.as_chunks::<HALF>();
    let whole =
        parts.iter().zip(halves.by_ref()).fold(NONE, |high, (part, bits)| high.max(within(part, bits)));
    halves.next().map_or(whole, |bits| whole.max(within(rest, bits)))
}

/// The highest key of the tokens whose bit is set.
#[inline(always)]
fn within(part: &[bf16], bits: u16) -> i16 {
    let keys = part.iter().zip(BITS).map(|(&logit, bit)| if bits & bit == 0 { NONE } else { key(logit) });
    keys.fold(NONE, i16::max)
}

const BITS: [u16; HALF] = [
    0x0001, 0x0002, 0x0004, 0x0008, 0x0010, 0x0020, 0x0040, 0x0080, 0x0100, 0x0200, 0x0400, 0x0800, 0x1000,
    0x2000, 0x4000, 0x8000,
];

/// Whether a mask of tokens has this one.
pub fn is_allowed(words: &[u32], token: TokenId) -> bool {
    let place = usize::try_from(token).unwrap_or(usize::MAX);
    words.get(place / WORD).is_some_and(|word| word >> (place % WORD) & 1 == 1)
}

fn check(lowest: i16, highest: i16) -> Result<()> {
    let wrong = |what: &str| Err(Failure::new(Fault::CardOutput, format!("logits: {what}")));
    match (lowest, highest) {
        (..LOWEST, _) => wrong("not a number"),
        (_, highest) if highest > HIGHEST => wrong("not a number"),
        (_, HIGHEST) => wrong("infinite"),
        (_, LOWEST) => wrong("no token is possible"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Logits;
    use proptest::prelude::*;

    fn logits(values: &[f32]) -> Logits {
        values.iter().map(|&value| bf16::from_f32(value)).collect::<Vec<_>>().into()
    }

    fn known(logits: &Logits) -> Known<'_> {
        logits.first(logits.values().len()).unwrap()
    }

    #[test]
    fn impossible_logits_are_a_fault_of_the_card() {
        let fault = |values: &[f32]| {
            Selection::default()
                .likeliest(known(&logits(values)), None, 1)
                .map(<[_]>::to_vec)
                .map_err(|f| f.fault)
        };
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            assert_eq!(fault(&[1.0, bad]), Err(Fault::CardOutput));
            assert_eq!(
                fault(&[vec![1.0; 100], vec![bad; 1], vec![0.0; 99]].concat()),
                Err(Fault::CardOutput)
            );
        }
        assert_eq!(fault(&[f32::NEG_INFINITY]), Err(Fault::CardOutput));
        assert_eq!(fault(&[]), Err(Fault::CardOutput));
        assert_eq!(fault(&[f32::NEG_INFINITY, -2.0]), Ok(vec![(1, -2.0)]));
    }

    #[test]
    fn zeros_are_equal_whatever_their_sign() {
        let mut values = vec![-1.0; 3 * BLOCK];
        values[5] = -0.0;
        values[BLOCK + 1] = 0.0;
        let found = Selection::default().likeliest(known(&logits(&values)), None, 1).unwrap().to_vec();
        assert_eq!(found, [(5, 0.0), (65, 0.0)]);
    }

    proptest! {
        #[test]
        fn nothing_likelier_is_missing(
            values in proptest::collection::vec((-40i16..40).prop_map(|v| match v {
                -40 => f32::NEG_INFINITY,
                v => f32::from(v) / 4.0,
            }), 1..700),
            words in proptest::option::of(proptest::collection::vec(
                proptest::sample::select(&[0, u32::MAX, 0x8000_0001, 0x1234_5678][..]), 0..24)),
            n in 0usize..40,
        ) {
            prop_assume!(values.iter().any(|v| v.is_finite()));
            let allowed = words.map(|words| {
                let mut allowed = SimpleVob::alloc(words.len() * WORD);
                let tokens = 0..TokenId::try_from(words.len() * WORD).unwrap();
                tokens.filter(|&t| is_allowed(&words, t)).for_each(|t| allowed.allow_token(t));
                allowed
            });
            let mut selection = Selection::default();
            let logits = logits(&values);
            let found = selection.likeliest(known(&logits), allowed.as_ref(), n).unwrap();
            let mut all: Vec<(TokenId, f32)> = (0..).zip(values.iter().copied()).collect();
            all.retain(|&(token, value)| value.is_finite() && allowed.as_ref().is_none_or(|a| {
                (token as usize) < a.len() && a.is_allowed(token)
            }));
            prop_assert!(found.is_sorted_by_key(|&(token, _)| token));
            prop_assert!(found.iter().all(|pair| all.contains(pair)));
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            let least = n.checked_sub(1).and_then(|at| all.get(at)).map_or(f32::MIN, |&(_, value)| value);
            let wanted = if n == 0 { 0 } else { all.iter().filter(|&&(_, value)| value >= least).count() };
            prop_assert!(found.iter().filter(|&&(_, value)| value >= least).count() >= wanted);
        }
    }
}
