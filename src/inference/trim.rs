//! Where a conversation that is too long is cut.
//!
//! Cuts depend only on what is before them, so as a conversation grows they stay where they
//! are and the next requests begin with the same tokens. Each lies at least a step (a quarter
//! of the context) behind the one before: after a cut there is room for many turns.

/// How many tokens a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Prompt and answer together.
    pub context: u32,
    /// Prompts up to here are read in chunks, longer ones from here on token by token: many times as slowly.
    pub quick: u32,
}

impl From<u32> for Window {
    fn from(context: u32) -> Self {
        Self { context, quick: context }
    }
}

/// What the rule needs to know of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Tokens, with what the template puts around them.
    pub tokens: u32,
    /// Whether a turn begins here: a message of the user.
    pub begins_turn: bool,
}

/// The places where a conversation (without its leading system messages) may be cut, least
/// first: how many of its oldest messages go. Begins with 0; ends with the place that leaves
/// only the newest turn.
pub fn cuts(sizes: &[Size], step: u32) -> Vec<usize> {
    let begins = |size: &Size| size.begins_turn;
    let newest = sizes.iter().rposition(begins).unwrap_or_else(|| sizes.len().saturating_sub(1));
    let has_turns = sizes.iter().any(begins);
    let mut cuts = vec![0];
    let (mut before, mut next) = (0u64, u64::from(step.max(1)));
    for (index, size) in sizes.iter().enumerate().take(newest) {
        if index > 0 && before >= next && (begins(size) || !has_turns) {
            cuts.push(index);
            next = before + u64::from(step.max(1));
        }
        before += u64::from(size.tokens);
    }
    if newest > 0 {
        cuts.push(newest);
    }
    cuts
}

/// Tokens that stay behind a cut.
pub fn remaining(sizes: &[Size], cut: usize) -> u64 {
    sizes.iter().skip(cut).map(|size| u64::from(size.tokens)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first cut that fits, as `prompt` chooses it.
    fn cut(sizes: &[Size], budget: u64, step: u32) -> usize {
        let places = cuts(sizes, step);
        let fits = |&&place: &&usize| remaining(sizes, place) <= budget;
        *places.iter().find(fits).unwrap_or(places.last().unwrap())
    }

    fn conversation(tokens: &[u32]) -> Vec<Size> {
        (0..).zip(tokens).map(|(i, &tokens)| Size { tokens, begins_turn: i % 2 == 0 }).collect()
    }

    #[test]
    fn a_short_conversation_stays_whole() {
        let sizes = conversation(&[10, 20, 10, 20, 10]);
        assert_eq!(cut(&sizes, 70, 25), 0);
        assert_eq!(cut(&sizes, 69, 25), 2);
        assert_eq!(cuts(&sizes, 25), [0, 2, 4]);
        assert_eq!(cuts(&sizes, 31), [0, 4]);
        assert_eq!(cuts(&conversation(&[5]), 25), [0]);
        assert_eq!(cuts(&[], 25), [0]);
    }

    proptest! {
        #[test]
        fn a_growing_conversation_is_cut_seldom_and_only_forwards(
            tokens in proptest::collection::vec(1u32..200, 1..120),
        ) {
            let (budget, step) = (1536u64, 512u32);
            let (mut last, mut moves) = (0, 0);
            for turns in 0..tokens.len().div_ceil(2) {
                let sizes = conversation(&tokens[..=turns * 2]);
                let place = cut(&sizes, budget, step);
                prop_assert!(place >= last, "moved back from {last} to {place}");
                prop_assert!(place < sizes.len(), "the newest message went");
                prop_assert!(sizes[place].begins_turn);
                prop_assert!(remaining(&sizes, place) <= budget);
                moves += u64::from(place != last);
                last = place;
            }
            let total: u64 = tokens.iter().map(|&t| u64::from(t)).sum();
            prop_assert!(moves <= total / u64::from(step) + 1, "{moves} moves for {total} tokens");
        }
    }
}
