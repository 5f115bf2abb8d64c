//! Conversations on the card, and those the host keeps for it.

use std::ops::Range;
use std::time::Instant;

use super::prefixes::{Purpose, Room, Source};
use super::{Pipeline, plan};
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

/// So many tokens are saved at once where a request may interrupt it: it wastes no more.
const PIECE: usize = 256;

impl Pipeline {
    /// Makes further prefix slots, as many as there may be and the card's `free` bytes have room for.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn grow(&mut self, free: &mut u64) -> Result<()> {
        let before = self.prefixes.len();
        while self.prefixes.len() < self.most_slots && self.stack.add_slot(free)? {
            self.prefixes.add();
        }
        if self.prefixes.len() > before {
            tracing::info!(slots = self.prefixes.len(), most = self.most_slots, "prefix slots");
        }
        Ok(())
    }

    /// Gives up all prefix slots but the one used last, saving what is in them; how many that were.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn shrink(&mut self) -> Result<usize> {
        let current = self.prefixes.current();
        let others: Vec<usize> = (0..self.prefixes.len()).filter(|&slot| slot != current).collect();
        for &slot in &others {
            self.save(slot, Room::OfOthers(None), usize::MAX, &|| true)?;
        }
        self.stack.keep_slot();
        self.prefixes.keep_current();
        Ok(others.len())
    }

    /// The host's memory keeps at most so many bytes of conversations that have no prefix slot.
    pub fn save_at_most(&mut self, bytes: u64) {
        let tokens = bytes / self.stack.token_bytes().max(1);
        self.prefixes.save_at_most(usize::try_from(tokens).unwrap_or(usize::MAX));
    }

    /// Saves the conversation that has to leave the card when the next one comes, as long as `go_on` says
    /// so and none that is still likely to go on is lost for it: then the next prompt need not wait for that.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn save_ahead(&mut self, go_on: &dyn Fn() -> bool) -> Result<()> {
        if let Some(slot) = self.prefixes.least() {
            self.save(slot, Room::OfStale, PIECE, go_on)?;
        }
        Ok(())
    }

    /// Whether `go_on` never said no.
    fn save(&mut self, slot: usize, room: Room, piece: usize, go_on: &dyn Fn() -> bool) -> Result<bool> {
        let Self { prefixes, stack, .. } = self;
        if prefixes.save(slot, room, || stack.host_rows()) {
            while let Some((tokens, rows)) = prefixes.unsaved(slot, piece) {
                if !stack.save_rows(slot, &tokens, rows, go_on)? {
                    return Ok(false);
                }
                prefixes.saved(slot, tokens);
            }
        }
        Ok(true)
    }

    /// Tokens whose K and V are on the card, of the conversation under way.
    pub fn resident(&self) -> &[TokenId] {
        self.prefixes.tokens()
    }

    /// How many tokens of `prompt` would have to be computed.
    pub fn missing(&self, prompt: &[TokenId]) -> usize {
        prompt.len().saturating_sub(self.prefixes.choose(prompt).reused)
    }

    /// Prepares for `prompt`: goes to the prefix slot where it is best computed, keeps what card or host
    /// already hold of its beginning and says how many tokens that is. The rest is for [`Self::advance`].
    /// `None` if `go_on` said no while rows moved: no conversation is lost then.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn begin(
        &mut self,
        prompt: &[TokenId],
        purpose: Purpose,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<usize>> {
        let mut choice = self.prefixes.choose(prompt);
        choice.reused = plan::start(self.stack.geometry(), choice.reused, prompt.len(), self.break_even());
        if let Some(slot) = self.prefixes.replaced(choice, purpose)
            && !self.save(slot, Room::OfOthers(choice.needs()), usize::MAX, go_on)?
        {
            return Ok(None);
        }
        self.prefixes.begin(choice, purpose);
        self.stack.keep_behind(false);
        self.stack.switch(choice.slot)?;
        match choice.from {
            Source::Here => {}
            Source::Slot(from) => self.stack.copy_rows(from, choice.reused)?,
            Source::Saved { number, here } => {
                if !self.bring(number, here.min(choice.reused)..choice.reused, go_on)? {
                    return Ok(None);
                }
            }
        }
        self.prefixes.begun(choice, prompt, purpose);
        Ok(Some(choice.reused))
    }

    /// Prepares for `prompt` and computes it, as long as `go_on` says so; whether the end was reached.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn compute_while(
        &mut self,
        prompt: &[TokenId],
        purpose: Purpose,
        go_on: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let Some(reused) = self.begin(prompt, purpose, go_on)? else { return Ok(false) };
        self.advance_while(prompt.get(reused..).unwrap_or_default(), go_on)
    }

    /// Whether `go_on` never said no.
    fn bring(&mut self, number: u64, tokens: Range<usize>, go_on: &dyn Fn() -> bool) -> Result<bool> {
        let began = Instant::now();
        let Some(rows) = self.prefixes.rows(number) else {
            return Err(Failure::new(Fault::Internal, format!("conversation {number} is not saved")));
        };
        let all = self.stack.bring_rows(&tokens, rows, go_on)?;
        if all {
            let ms = began.elapsed().as_millis();
            tracing::info!(tokens = tokens.end, ms, "a conversation is back on the card");
        }
        Ok(all)
    }

    /// Begins from the first token on in the slot of the conversation under way, whose tokens are returned.
    /// Until another begins, nothing is overwritten but the rows of what is computed.
    pub fn set_aside(&mut self) -> Vec<TokenId> {
        self.stack.keep_behind(true);
        self.prefixes.replace(Vec::new())
    }

    /// `tokens` are those that were set aside, and what was overwritten of them has been computed again.
    pub fn put_back(&mut self, tokens: Vec<TokenId>) {
        self.stack.keep_behind(false);
        self.prefixes.replace(tokens);
    }
}
