//! Which conversations the card keeps, and where the next one goes. Pure.
//!
//! A *prefix slot* is one set of K and V caches with the tokens that are in them. A prompt that goes on where a
//! slot ends is computed there. Any other gets the slot that is missed least, and what it has in common with the
//! best of the others, the system prompt mostly, is copied there on the card.

use std::cmp::Reverse;

use crate::chat::TokenId;

/// So many tokens are as soon computed as copied.
const WORTH_COPYING: usize = 16;
/// For so many prompts longer a conversation is kept that went on at least once: questions without a past come and go.
const GRACE: u64 = 8;

#[derive(Debug, Default)]
struct Slot {
    /// Their K and V rows are in the caches.
    tokens: Vec<TokenId>,
    /// So many of them any prompt has that goes on with this conversation.
    settled: usize,
    /// Counts prompts: the last one here. 0 for none that anybody goes on with.
    used: u64,
    continued: bool,
}

impl Slot {
    /// The slot where this is least is missed least.
    fn worth(&self) -> u64 {
        self.used + if self.continued && self.used > 0 { GRACE } else { 0 }
    }
}

/// What is in which slot.
#[derive(Debug)]
pub struct Prefixes {
    slots: Vec<Slot>,
    current: usize,
    prompts: u64,
}

/// Where a prompt is to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub slot: usize,
    /// How many of its tokens need not be computed.
    pub reused: usize,
    /// The slot these must be copied from.
    pub from: Option<usize>,
    /// Whether it goes on with what is in its slot.
    continues: bool,
}

/// What a prompt is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be answered. Of its tokens the last `cue` may be others when the conversation goes on.
    Answer { cue: usize },
    /// To be there when a prompt comes that begins so.
    Ahead,
}

impl Prefixes {
    /// One slot, empty.
    pub fn new() -> Self {
        Self { slots: vec![Slot::default()], current: 0, prompts: 0 }
    }

    /// One slot more.
    pub fn add(&mut self) {
        self.slots.push(Slot::default());
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Gives up all slots but the current one, which is the first then.
    pub fn keep_current(&mut self) {
        self.slots.swap(0, self.current);
        self.slots.truncate(1);
        self.current = 0;
    }

    /// What is in the current slot.
    pub fn tokens(&self) -> &[TokenId] {
        self.slots.get(self.current).map_or(&[], |slot| &slot.tokens)
    }

    /// More is in the current slot.
    pub fn extend(&mut self, tokens: &[TokenId]) {
        if let Some(slot) = self.slots.get_mut(self.current) {
            slot.tokens.extend_from_slice(tokens);
        }
    }

    /// The current slot's tokens are these from now on; returns the former ones.
    pub fn replace(&mut self, tokens: Vec<TokenId>) -> Vec<TokenId> {
        self.slots
            .get_mut(self.current)
            .map_or_else(Vec::new, |slot| std::mem::replace(&mut slot.tokens, tokens))
    }

    /// Where `prompt` goes.
    pub fn choose(&self, prompt: &[TokenId]) -> Choice {
        let common = self.slots.iter().enumerate().map(|(n, slot)| (common(&slot.tokens, prompt), slot, n));
        let best = common.max_by_key(|&(common, slot, n)| (common, slot.used, Reverse(n)));
        let least = self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.worth()).map(|(n, _)| n);
        let (Some((common, slot, best)), Some(least)) = (best, least) else {
            return Choice { slot: 0, reused: 0, from: None, continues: false };
        };
        let continues = common >= slot.settled;
        // At least one token is computed: its logits are wanted.
        let reused = common.min(prompt.len().saturating_sub(1));
        if continues || best == least {
            return Choice { slot: best, reused, from: None, continues };
        }
        let copied = reused >= WORTH_COPYING;
        Choice {
            slot: least,
            reused: if copied { reused } else { 0 },
            from: copied.then_some(best),
            continues,
        }
    }

    /// The chosen slot is the current one, with what of it stays as it is.
    pub fn begin(&mut self, choice: Choice, purpose: Purpose) {
        // After a cut nobody comes back to what was before.
        if let Some(slot) = self.slots.get_mut(self.current)
            && purpose == Purpose::Ahead
            && !choice.continues
        {
            slot.used = 0;
        }
        self.current = choice.slot;
        if let Some(slot) = self.slots.get_mut(choice.slot) {
            slot.tokens.truncate(if choice.from.is_some() { 0 } else { choice.reused });
        }
    }

    /// What was to be copied is there: the rest of `prompt` follows.
    pub fn begun(&mut self, choice: Choice, prompt: &[TokenId], purpose: Purpose) {
        self.prompts += 1;
        let (used, copied) = (self.prompts, prompt.get(..choice.reused).unwrap_or_default());
        let Some(slot) = self.slots.get_mut(choice.slot) else { return };
        if choice.from.is_some() {
            slot.tokens.extend_from_slice(copied);
        }
        match purpose {
            Purpose::Answer { cue } => {
                slot.continued = choice.continues && slot.used > 0;
                slot.settled = prompt.len().saturating_sub(cue);
            }
            // It is the same conversation, and its client may have the answer in other words.
            Purpose::Ahead if choice.continues => {}
            // The same, after a cut.
            Purpose::Ahead => (slot.continued, slot.settled) = (true, prompt.len()),
        }
        slot.used = used;
    }
}

/// How many tokens both begin with.
fn common(tokens: &[TokenId], prompt: &[TokenId]) -> usize {
    tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(slots: usize) -> Prefixes {
        let mut prefixes = Prefixes::new();
        (1..slots).for_each(|_| prefixes.add());
        prefixes
    }

    /// Answers `prompt` with `answer`; how many tokens were there already, and where.
    fn turn(prefixes: &mut Prefixes, prompt: &[TokenId], answer: &[TokenId]) -> Choice {
        let choice = prefixes.choose(prompt);
        prefixes.begin(choice, Purpose::Answer { cue: 5 });
        prefixes.begun(choice, prompt, Purpose::Answer { cue: 5 });
        assert_eq!(prefixes.tokens(), &prompt[..choice.reused]);
        prefixes.extend(&prompt[choice.reused..]);
        prefixes.extend(answer);
        choice
    }

    const SYSTEM: std::ops::Range<TokenId> = 0..50;

    /// A conversation of `turns` questions of 20 tokens, answered with 30 each; ends with a question.
    fn talk(who: TokenId, turns: TokenId) -> Vec<TokenId> {
        let first = 1000 * who;
        SYSTEM.chain(first..first + 50 * turns - 30).collect()
    }

    fn answer(who: TokenId, turns: TokenId) -> Vec<TokenId> {
        let end = 1000 * who + 50 * turns;
        (end - 30..end).collect()
    }

    fn ask(prefixes: &mut Prefixes, who: TokenId, turns: TokenId) -> Choice {
        turn(prefixes, &talk(who, turns), &answer(who, turns))
    }

    #[test]
    fn a_conversation_stays_where_it_is() {
        let mut prefixes = with(3);
        let first = ask(&mut prefixes, 1, 1);
        assert_eq!((first.slot, first.reused, first.from), (0, 0, None));
        let second = ask(&mut prefixes, 1, 2);
        assert_eq!((second.slot, second.reused, second.from), (0, 50 + 50, None));
        // Asked the same again, or answered in other words meanwhile.
        let again = ask(&mut prefixes, 1, 2);
        assert_eq!((again.slot, again.reused), (0, 119));
        let mut other = talk(1, 2);
        other.truncate(115);
        other.extend(7000..7100);
        assert_eq!(turn(&mut prefixes, &other, &[]).reused, 115);
        assert_eq!(prefixes.current, 0);
    }

    #[test]
    fn conversations_in_turns_stay_warm_and_share_their_beginning() {
        let mut prefixes = with(3);
        ask(&mut prefixes, 1, 1);
        for who in [2, 3] {
            let choice = ask(&mut prefixes, who, 1);
            assert_eq!((choice.reused, choice.from.is_some()), (50, true), "{who}");
        }
        for turns in 2..15 {
            for who in [1, 3, 2] {
                let choice = ask(&mut prefixes, who, turns);
                assert_eq!((choice.reused, choice.from), (50 * turns as usize, None), "{who} {turns}");
            }
        }
    }

    #[test]
    fn questions_without_a_past_leave_a_conversation_alone_for_long() {
        let mut prefixes = with(2);
        ask(&mut prefixes, 1, 1);
        ask(&mut prefixes, 1, 2);
        for who in 2..8 {
            ask(&mut prefixes, who, 1);
        }
        assert_eq!(ask(&mut prefixes, 1, 3).reused, 150);
        // Not for ever.
        for who in 2..20 {
            ask(&mut prefixes, who, 1);
        }
        assert_eq!(ask(&mut prefixes, 1, 4).reused, 50);
    }

    #[test]
    fn questions_that_differ_in_a_word_are_two_conversations() {
        let mut prefixes = with(2);
        ask(&mut prefixes, 1, 1);
        let mut other = talk(1, 1);
        let at = other.len() - 6;
        other[at] = 7777;
        assert_eq!(turn(&mut prefixes, &other, &[]).slot, 1);
        assert_eq!(ask(&mut prefixes, 1, 2).reused, 100);
    }

    fn ahead(prefixes: &mut Prefixes, prefix: &[TokenId]) -> Choice {
        let choice = prefixes.choose(prefix);
        prefixes.begin(choice, Purpose::Ahead);
        prefixes.begun(choice, prefix, Purpose::Ahead);
        prefixes.extend(&prefix[choice.reused..]);
        choice
    }

    #[test]
    fn what_is_ahead_of_a_conversation_may_come_otherwise() {
        let mut prefixes = with(2);
        ask(&mut prefixes, 1, 1);
        // The answer in its template's form, which no client has to keep.
        let prefix: Vec<TokenId> = talk(1, 1).into_iter().chain(8000..8040).collect();
        assert_eq!(
            ahead(&mut prefixes, &prefix),
            Choice { slot: 0, reused: 70, from: None, continues: true }
        );
        let mut next = prefix.clone();
        next.truncate(100);
        next.extend(8500..8520);
        assert_eq!((prefixes.choose(&next).slot, prefixes.choose(&next).reused), (0, 100));
        // After a cut only the beginning is the same: the other slot is as good.
        let cut: Vec<TokenId> = SYSTEM.chain(9000..9100).collect();
        assert_eq!(ahead(&mut prefixes, &cut).slot, 1);
        let next: Vec<TokenId> = cut.into_iter().chain(9500..9520).collect();
        assert_eq!((prefixes.choose(&next).slot, prefixes.choose(&next).reused), (1, 150));
        // Nobody misses what was before the cut.
        assert_eq!(ask(&mut prefixes, 2, 1).slot, 0);
    }

    #[test]
    fn one_slot_serves_all() {
        let mut prefixes = with(1);
        for who in [1, 2, 1] {
            let choice = ask(&mut prefixes, who, 1);
            assert_eq!((choice.slot, choice.from), (0, None));
        }
        assert_eq!(ask(&mut prefixes, 2, 1).reused, 50);
    }

    #[test]
    fn at_least_one_token_is_computed() {
        let reused = |tokens: &[TokenId], prompt: &[TokenId]| {
            let mut prefixes = with(1);
            prefixes.replace(tokens.to_vec());
            prefixes.choose(prompt).reused
        };
        assert_eq!(reused(&[1, 2, 3], &[1, 2, 3]), 2);
        assert_eq!(reused(&[1, 2, 3], &[1, 2, 4, 5]), 2);
        assert_eq!(reused(&[1, 2, 3, 4], &[1, 2]), 1);
        assert_eq!((reused(&[], &[1]), reused(&[1], &[])), (0, 0));
    }

    #[test]
    fn what_is_short_is_not_copied() {
        let mut prefixes = with(2);
        turn(&mut prefixes, &(0..60).collect::<Vec<_>>(), &[]);
        let other: Vec<TokenId> = (0..15).chain(100..200).collect();
        let choice = turn(&mut prefixes, &other, &[]);
        assert_eq!((choice.slot, choice.reused, choice.from), (1, 0, None));
    }

    #[test]
    fn the_current_slot_is_kept_when_the_others_go() {
        let mut prefixes = with(3);
        ask(&mut prefixes, 1, 1);
        ask(&mut prefixes, 2, 1);
        prefixes.keep_current();
        assert_eq!(prefixes.len(), 1);
        assert_eq!(ask(&mut prefixes, 2, 2).reused, 100);
        prefixes.add();
        let set_aside = prefixes.replace(Vec::new());
        assert_eq!(set_aside.len(), 150);
        prefixes.replace(set_aside);
        assert_eq!(ask(&mut prefixes, 2, 3).reused, 150);
    }

    proptest! {
        #[test]
        fn what_is_reused_is_there(
            slots in 1usize..5,
            prompts in proptest::collection::vec((proptest::collection::vec(0u32..3, 1..60), 0usize..30), 1..60),
        ) {
            let mut prefixes = with(slots);
            // What a card would hold.
            let mut caches: Vec<Vec<TokenId>> = vec![Vec::new(); slots];
            for (prompt, answer) in prompts {
                let choice = prefixes.choose(&prompt);
                if let Some(from) = choice.from {
                    prop_assert_ne!(from, choice.slot);
                    caches[choice.slot] = caches[from][..choice.reused].to_vec();
                }
                prop_assert_eq!(&caches[choice.slot][..choice.reused], &prompt[..choice.reused]);
                prop_assert!(choice.reused < prompt.len());
                let answer = vec![9; answer];
                turn(&mut prefixes, &prompt, &answer);
                caches[choice.slot] = [prompt, answer].concat();
                prop_assert_eq!(prefixes.tokens(), &caches[choice.slot][..]);
            }
        }
    }
}
