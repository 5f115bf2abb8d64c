//! Which conversations the card keeps, which ones the host keeps for it, and where the next prompt goes. Pure.
//!
//! A *prefix slot* is one set of K and V caches with the tokens that are in them. A prompt that goes on where a
//! slot ends is computed there. Any other gets the slot that is missed least, and what it has in common with the
//! best of the others, the system prompt mostly, is copied there on the card. A conversation that has to leave its
//! slot is [`saved`] in the host's memory, from where its rows come back sooner than they would be computed.

mod saved;
#[cfg(test)]
mod saved_tests;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::ops::Range;

use self::saved::Saved;
use crate::chat::TokenId;

/// So many tokens are as soon computed as copied.
const WORTH_COPYING: usize = 16;
/// For so many prompts longer a conversation is kept that went on at least once: questions without a past come and go.
const GRACE: u64 = 8;

/// What is known of a conversation whose K and V rows are in a slot or saved.
#[derive(Clone, Debug, Default)]
struct Conversation {
    /// Their rows are there.
    tokens: Vec<TokenId>,
    /// So many of them any prompt has that goes on with this conversation.
    settled: usize,
    /// Counts prompts: its last one. 0 for none that anybody goes on with.
    used: u64,
    continued: bool,
}

impl Conversation {
    /// The one where this is least is missed least.
    fn worth(&self) -> u64 {
        self.used + if self.continued && self.used > 0 { GRACE } else { 0 }
    }
}

#[derive(Debug, Default)]
struct Slot {
    talk: Conversation,
    /// The number of its saved copy.
    copy: Option<u64>,
}

/// What is in which slot, and what is saved, each with its rows `R`.
#[derive(Debug)]
pub struct Prefixes<R> {
    slots: Vec<Slot>,
    current: usize,
    prompts: u64,
    saved: Saved<R>,
    /// Tokens that are computed at once.
    chunk: usize,
}

/// Where a prompt is to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub slot: usize,
    /// How many of its tokens need not be computed.
    pub reused: usize,
    pub from: Source,
    /// Whether it goes on with the conversation these are of.
    continues: bool,
}

impl Choice {
    /// The number of the saved conversation it is taken from.
    pub fn needs(&self) -> Option<u64> {
        if let Source::Saved { number, .. } = self.from { Some(number) } else { None }
    }
}

/// Where the rows are that need not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In their place.
    Here,
    /// In another slot.
    Slot(usize),
    /// Saved under this number, but for the first `here`, which are in their place.
    Saved { number: u64, here: usize },
}

/// What a prompt is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be answered. Of its tokens the last `cue` may be others when the conversation goes on.
    Answer { cue: usize },
    /// To be there when a prompt comes that begins so.
    Ahead,
}

/// Which others may lose what is saved of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Those nobody has gone on with for long.
    OfStale,
    /// All but the one with this number.
    OfOthers(Option<u64>),
}

impl<R> Prefixes<R> {
    /// One slot, empty; so many tokens are computed at once.
    pub fn new(chunk: usize) -> Self {
        let slots = vec![Slot::default()];
        Self { slots, current: 0, prompts: 0, saved: Saved::new(), chunk: chunk.max(1) }
    }

    /// One slot more.
    pub fn add(&mut self) {
        self.slots.push(Slot::default());
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The current slot.
    pub fn current(&self) -> usize {
        self.current
    }

    /// Gives up all slots but the current one, which is the first then.
    pub fn keep_current(&mut self) {
        self.slots.swap(0, self.current);
        self.slots.truncate(1);
        self.current = 0;
    }

    /// What is in the current slot.
    pub fn tokens(&self) -> &[TokenId] {
        self.slots.get(self.current).map_or(&[], |slot| &slot.talk.tokens)
    }

    /// More is in the current slot.
    pub fn extend(&mut self, tokens: &[TokenId]) {
        if let Some(slot) = self.slots.get_mut(self.current) {
            slot.talk.tokens.extend_from_slice(tokens);
        }
    }

    /// The current slot's tokens are these from now on; returns the former ones.
    pub fn replace(&mut self, tokens: Vec<TokenId>) -> Vec<TokenId> {
        self.slots
            .get_mut(self.current)
            .map_or_else(Vec::new, |slot| std::mem::replace(&mut slot.talk.tokens, tokens))
    }

    /// Where `prompt` goes.
    pub fn choose(&self, prompt: &[TokenId]) -> Choice {
        let common =
            self.slots.iter().enumerate().map(|(n, slot)| (common(&slot.talk.tokens, prompt), &slot.talk, n));
        let best = common.max_by_key(|&(common, talk, n)| (common, talk.used, Reverse(n)));
        let (Some((common, talk, best)), Some(least)) = (best, self.least()) else {
            return Choice { slot: 0, reused: 0, from: Source::Here, continues: false };
        };
        // At least one token is computed: its logits are wanted.
        let most = prompt.len().saturating_sub(1);
        let runs = |reused: usize| (prompt.len() - reused.min(most)).div_ceil(self.chunk);
        if let Some(saved) = self.saved.best(prompt)
            && saved.common >= common + WORTH_COPYING
            && runs(saved.common) < runs(common)
        {
            let slot = self.slots.iter().position(|slot| slot.copy == Some(saved.number)).unwrap_or(least);
            return Choice {
                slot,
                reused: saved.common.min(most),
                from: Source::Saved { number: saved.number, here: self.in_common(slot, prompt) },
                continues: saved.continues,
            };
        }
        let continues = common >= talk.settled;
        let reused = common.min(most);
        if continues || best == least {
            return Choice { slot: best, reused, from: Source::Here, continues };
        }
        let copied = reused >= WORTH_COPYING;
        Choice {
            slot: least,
            reused: if copied { reused } else { 0 },
            from: if copied { Source::Slot(best) } else { Source::Here },
            continues,
        }
    }

    /// The slot whose conversation the prompt of this `choice` takes the place of, where somebody may come back to that.
    pub fn replaced(&self, choice: Choice, purpose: Purpose) -> Option<usize> {
        let slot = self.slots.get(choice.slot)?;
        let itself = match choice.from {
            Source::Here => choice.continues,
            Source::Slot(_) => false,
            Source::Saved { .. } => slot.copy == choice.needs(),
        };
        // After a cut nobody comes back to what was before.
        let cut = purpose == Purpose::Ahead && choice.slot == self.current;
        (!itself && !cut && slot.talk.used > 0).then_some(choice.slot)
    }

    /// The chosen slot is the current one, with what of it stays as it is.
    pub fn begin(&mut self, choice: Choice, purpose: Purpose) {
        if let Some(slot) = self.slots.get_mut(self.current)
            && purpose == Purpose::Ahead
            && !choice.continues
        {
            slot.talk.used = 0;
            if let Some(copy) = slot.copy.take_if(|&mut copy| choice.needs() != Some(copy)) {
                self.saved.forget(copy);
            }
        }
        self.current = choice.slot;
        let Some(slot) = self.slots.get_mut(choice.slot) else { return };
        match choice.from {
            Source::Here => {
                slot.talk.tokens.truncate(choice.reused);
                slot.copy = slot.copy.filter(|_| choice.continues);
            }
            Source::Slot(_) => (slot.talk.tokens, slot.copy) = (Vec::new(), None),
            Source::Saved { number, here } => {
                slot.talk.tokens.truncate(here.min(choice.reused));
                if slot.copy != Some(number)
                    && let Some(talk) = self.saved.talk(number)
                {
                    let tokens = std::mem::take(&mut slot.talk.tokens);
                    *slot = Slot { talk: Conversation { tokens, ..talk.clone() }, copy: Some(number) };
                }
            }
        }
    }

    /// What was to be copied is there: the rest of `prompt` follows.
    pub fn begun(&mut self, choice: Choice, prompt: &[TokenId], purpose: Purpose) {
        self.prompts += 1;
        let used = self.prompts;
        let Some(Slot { talk, .. }) = self.slots.get_mut(choice.slot) else { return };
        talk.tokens.extend_from_slice(prompt.get(talk.tokens.len()..choice.reused).unwrap_or_default());
        match purpose {
            Purpose::Answer { cue } => {
                talk.continued = choice.continues && talk.used > 0;
                talk.settled = prompt.len().saturating_sub(cue);
            }
            // It is the same conversation, and its client may have the answer in other words.
            Purpose::Ahead if choice.continues => {}
            // The same, after a cut.
            Purpose::Ahead => (talk.continued, talk.settled) = (true, prompt.len()),
        }
        talk.used = used;
    }

    /// At most so many tokens are saved from now on.
    pub fn save_at_most(&mut self, tokens: usize) {
        self.saved.keep_at_most(tokens);
    }

    /// The slot that a conversation nobody knows would get.
    pub fn least(&self) -> Option<usize> {
        self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.talk.worth()).map(|(n, _)| n)
    }

    /// Prepares for saving what is in `slot`, which then is what [`Self::unsaved`] says; `false` if there
    /// is no room, or nothing worth it. Rows for a new copy come from `make`.
    pub fn save(&mut self, slot: usize, room: Room, make: impl FnOnce() -> Option<R>) -> bool {
        let on_card: Vec<u64> = self.slots.iter().filter_map(|slot| slot.copy).collect();
        let prompts = self.prompts;
        let may_go = |number: u64, talk: &Conversation| match room {
            Room::OfStale => talk.worth() + GRACE < prompts,
            Room::OfOthers(needed) => needed != Some(number),
        };
        let Some(Slot { talk, copy }) = self.slots.get_mut(slot) else { return false };
        if talk.used == 0 || talk.tokens.len() < self.chunk.max(WORTH_COPYING) {
            return false;
        }
        *copy = self.saved.place(*copy, talk, &may_go, &on_card, make);
        copy.is_some()
    }

    /// What of `slot` is to be saved next, at most so many tokens, and where.
    pub fn unsaved(&mut self, slot: usize, piece: usize) -> Option<(Range<usize>, &mut R)> {
        let Slot { talk, copy } = self.slots.get(slot)?;
        self.saved.missing((*copy)?, talk, piece)
    }

    /// These of `slot` are saved now.
    pub fn saved(&mut self, slot: usize, tokens: Range<usize>) {
        if let Some(Slot { talk, copy: Some(number) }) = self.slots.get(slot) {
            self.saved.extend(*number, talk, tokens);
        }
    }

    /// What is saved under this number.
    pub fn rows(&self, number: u64) -> Option<&R> {
        self.saved.rows(number)
    }

    fn in_common(&self, slot: usize, prompt: &[TokenId]) -> usize {
        self.slots.get(slot).map_or(0, |slot| common(&slot.talk.tokens, prompt))
    }
}

/// How many tokens both begin with.
fn common(tokens: &[TokenId], prompt: &[TokenId]) -> usize {
    tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count()
}
