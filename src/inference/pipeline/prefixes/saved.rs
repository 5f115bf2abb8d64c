//! The conversations whose rows the host keeps.

use std::ops::Range;

use super::{Conversation, common};
use crate::chat::TokenId;

#[derive(Debug)]
struct Entry<R> {
    number: u64,
    talk: Conversation,
    /// Tokens it has room for.
    room: usize,
    rows: R,
}

/// Saved conversations, each with its rows.
#[derive(Debug)]
pub struct Saved<R> {
    entries: Vec<Entry<R>>,
    /// Tokens there is room for, of all together.
    most: usize,
    last: u64,
}

/// What is saved and has most in common with a prompt.
pub struct Best {
    pub number: u64,
    pub common: usize,
    /// Whether the prompt goes on with it.
    pub continues: bool,
}

impl<R> Saved<R> {
    /// Nothing, and room for nothing.
    pub fn new() -> Self {
        Self { entries: Vec::new(), most: 0, last: 0 }
    }

    /// There is room for so many tokens from now on.
    pub fn keep_at_most(&mut self, tokens: usize) {
        self.most = tokens;
        self.make_room(0, None, &|_, _| true, &[]);
    }

    /// What `prompt` is best taken from.
    pub fn best(&self, prompt: &[TokenId]) -> Option<Best> {
        let all = self.entries.iter().map(|entry| {
            let common = common(&entry.talk.tokens, prompt);
            Best { number: entry.number, common, continues: common >= entry.talk.settled }
        });
        all.max_by_key(|best| (best.common, best.number))
    }

    /// What is known of this one.
    pub fn talk(&self, number: u64) -> Option<&Conversation> {
        self.entry(number).map(|entry| &entry.talk)
    }

    /// Its rows.
    pub fn rows(&self, number: u64) -> Option<&R> {
        self.entry(number).map(|entry| &entry.rows)
    }

    /// It is not saved any more.
    pub fn forget(&mut self, number: u64) {
        self.entries.retain(|entry| entry.number != number);
    }

    /// Has a place for `talk`: its `copy` if there is one, otherwise a new one; the place's number.
    /// `may_go` says which others may make room for it; `on_card` are the copies of what is in slots.
    pub fn place(
        &mut self,
        copy: Option<u64>,
        talk: &Conversation,
        may_go: &dyn Fn(u64, &Conversation) -> bool,
        on_card: &[u64],
        make: impl FnOnce() -> Option<R>,
    ) -> Option<u64> {
        let copy = copy.filter(|&number| self.entry(number).is_some());
        let fits = self.make_room(talk.tokens.len(), copy, may_go, on_card);
        let number = match copy {
            Some(number) => number,
            None if fits => self.push(make()?),
            None => return None,
        };
        let entry = self.entry_mut(number)?;
        if fits {
            entry.room = entry.room.max(talk.tokens.len());
        }
        let mut tokens = std::mem::take(&mut entry.talk.tokens);
        let same = common(&tokens, &talk.tokens);
        // Where the slot has less, and nothing else, the copy is as good.
        if same < talk.tokens.len() {
            tokens.truncate(same);
        }
        entry.talk = Conversation { tokens, ..*talk };
        Some(number)
    }

    /// What of `talk` is to be saved next in this place, at most so many tokens, and its rows.
    pub fn missing(
        &mut self,
        number: u64,
        talk: &Conversation,
        piece: usize,
    ) -> Option<(Range<usize>, &mut R)> {
        let entry = self.entry_mut(number)?;
        let (start, end) = (entry.talk.tokens.len(), talk.tokens.len().min(entry.room));
        (start < end).then(|| (start..end.min(start.saturating_add(piece)), &mut entry.rows))
    }

    /// These of `talk` are saved in this place.
    pub fn extend(&mut self, number: u64, talk: &Conversation, tokens: Range<usize>) {
        if let Some(entry) = self.entry_mut(number)
            && entry.talk.tokens.len() == tokens.start
        {
            entry.talk.tokens.extend_from_slice(talk.tokens.get(tokens).unwrap_or_default());
        }
    }

    /// Tokens that all together have taken room for.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.entries.iter().map(|entry| entry.room.max(entry.talk.tokens.len())).sum()
    }

    fn entry(&self, number: u64) -> Option<&Entry<R>> {
        self.entries.iter().find(|entry| entry.number == number)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry<R>> {
        self.entries.iter_mut().find(|entry| entry.number == number)
    }

    fn push(&mut self, rows: R) -> u64 {
        self.last += 1;
        self.entries.push(Entry { number: self.last, talk: Conversation::default(), room: 0, rows });
        self.last
    }

    /// Makes room for so many tokens in the place `own`, or a new one; whether there is.
    fn make_room(
        &mut self,
        tokens: usize,
        own: Option<u64>,
        may_go: &dyn Fn(u64, &Conversation) -> bool,
        on_card: &[u64],
    ) -> bool {
        let stays = |entry: &Entry<R>| !may_go(entry.number, &entry.talk);
        let others = |entry: &&Entry<R>| own != Some(entry.number);
        let all = self.entries.iter().filter(others);
        if tokens + all.filter(|entry| stays(entry)).map(|entry| entry.room).sum::<usize>() > self.most {
            return false;
        }
        loop {
            let all = self.entries.iter().filter(others);
            if tokens + all.clone().map(|entry| entry.room).sum::<usize>() <= self.most {
                return true;
            }
            // What is on the card besides goes first: nothing is lost with it yet.
            let least = all
                .filter(|entry| !stays(entry))
                .min_by_key(|entry| (!on_card.contains(&entry.number), entry.talk.worth()));
            let Some(number) = least.map(|entry| entry.number) else { return false };
            self.forget(number);
        }
    }
}
