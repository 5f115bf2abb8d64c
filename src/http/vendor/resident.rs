//! The resident conversation: what was said since the last reset.
//!
//! Answers to it are given one at a time, in the order of their arrival; so each knows the one
//! before. Only a question with its whole answer is kept: what failed, was stopped, or lost its
//! client leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::timeout;

use crate::chat::{Done, Event, Finish, Input, Message, Request, Role, Think, Usage};
use crate::config;
use crate::fault::{Failure, Fault};
use crate::service::{Refused, Settings};

/// What is kept.
#[derive(Default)]
struct Kept {
    /// Calls of reset so far: an answer to an older conversation is not kept in a newer one.
    resets: u64,
    /// Calls of stop and reset so far: each ends the answer under way.
    stops: u64,
    /// Nothing until the first reset.
    conversation: Option<Conversation>,
}

#[derive(Clone, Default)]
struct Conversation {
    system: String,
    /// Questions and answers in turns.
    messages: Vec<Message>,
}

impl Conversation {
    fn bytes(&self) -> usize {
        self.system.len() + self.messages.iter().map(|message| message.content.len()).sum::<usize>()
    }

    /// Drops the oldest turns where there are too many. Half goes at a time: a beginning that
    /// changes seldom is found on the card again.
    fn bound(&mut self, bounds: &config::Resident) {
        if self.messages.len() <= bounds.messages && self.bytes() <= bounds.bytes {
            return;
        }
        let room = self.system.len() + bounds.bytes.saturating_sub(self.system.len()) / 2;
        let mut kept = self.bytes();
        let mut gone = 0;
        for turn in self.messages.chunks(2) {
            if kept <= room && self.messages.len() - gone <= bounds.messages / 2 {
                break;
            }
            kept -= turn.iter().map(|message| message.content.len()).sum::<usize>();
            gone += turn.len();
        }
        self.messages.drain(..gone);
    }
}

/// The conversation and its order of answers.
#[derive(Default)]
pub struct Resident {
    kept: watch::Sender<Kept>,
    place: Arc<Mutex<()>>,
    waiting: AtomicUsize,
}

impl Resident {
    /// Ends the answer under way and begins anew.
    pub fn reset(&self, system: &str) {
        self.kept.send_modify(|kept| {
            kept.resets += 1;
            kept.stops += 1;
            kept.conversation = Some(Conversation { system: system.to_owned(), messages: Vec::new() });
        });
    }

    /// Ends the answer under way.
    pub fn stop(&self) {
        self.kept.send_modify(|kept| kept.stops += 1);
    }

    /// Begins a conversation where there is none.
    pub fn ensure(&self) {
        self.kept.send_if_modified(|kept| {
            kept.conversation.get_or_insert_default();
            false
        });
    }

    /// Whether there is one to continue.
    pub fn begun(&self) -> bool {
        self.kept.borrow().conversation.is_some()
    }

    /// Waits for its turn and makes `request`, whose last message is the question, continue the
    /// conversation.
    ///
    /// # Errors
    /// [`Fault::Busy`] where too many wait, [`Fault::Timeout`] where it takes too long.
    pub async fn turn(self: &Arc<Self>, request: &mut Request, settings: &Settings) -> Result<Turn, Refused> {
        let place = self.place(settings).await?;
        let changes = self.kept.subscribe();
        let (conversation, resets, stops) = {
            let kept = self.kept.borrow();
            (kept.conversation.clone().unwrap_or_default(), kept.resets, kept.stops)
        };
        let question = match &mut request.input {
            Input::Chat(messages) => messages.pop(),
            Input::Raw(_) | Input::Nothing => None,
        };
        let question = question.unwrap_or_else(|| Message::text(Role::User, ""));
        let Conversation { system, messages } = conversation;
        let system = (!system.is_empty()).then(|| Message::text(Role::System, system));
        request.input = Input::Chat(system.into_iter().chain(messages).chain([question.clone()]).collect());
        let most = settings.resident.max_tokens;
        request.limits.max_tokens = request.limits.max_tokens.or((most > 0).then_some(most));
        if request.think == Think::Default {
            request.think = Think::Off;
        }
        let bounds = settings.resident.clone();
        let (said, usage) = Default::default();
        let resident = Arc::clone(self);
        Ok(Turn {
            resident,
            changes,
            resets,
            stops,
            question,
            said,
            usage,
            bounds,
            ended: false,
            _place: place,
        })
    }

    async fn place(&self, settings: &Settings) -> Result<OwnedMutexGuard<()>, Refused> {
        /// One who waits.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let refused = |fault, detail: String, position| Refused {
            failure: Failure::new(fault, detail),
            retry_after: Duration::from_secs(10),
            position,
        };
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead > settings.limits.queue {
            let detail = format!("{ahead} requests wait to continue the conversation");
            return Err(refused(Fault::Busy, detail, Some(ahead + 1)));
        }
        let patience = settings.limits.request_timeout_s.0;
        timeout(patience, Arc::clone(&self.place).lock_owned()).await.map_err(|_| {
            refused(
                Fault::Timeout,
                "it waited for its turn in the conversation until its time was over".into(),
                None,
            )
        })
    }
}

/// A question and what was answered so far. Nobody else continues the conversation meanwhile.
pub struct Turn {
    resident: Arc<Resident>,
    changes: watch::Receiver<Kept>,
    resets: u64,
    stops: u64,
    question: Message,
    said: String,
    usage: Usage,
    bounds: config::Resident,
    ended: bool,
    _place: OwnedMutexGuard<()>,
}

impl Turn {
    /// Takes note of an event of the answer; with the last, the turn becomes part of the
    /// conversation.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Started(started) => {
                self.usage.prompt_tokens = started.prompt_tokens;
                self.usage.cached_tokens = started.cached_tokens;
            }
            Event::Restart => (self.said, self.usage) = Default::default(),
            Event::Token(token) => {
                self.said.push_str(&token.delta.content);
                self.usage.completion_tokens += 1;
            }
            Event::Done(done) => {
                self.said.push_str(&done.tail.content);
                self.ended = true;
                self.keep();
            }
            Event::Failed(_) => self.ended = true,
        }
    }

    fn keep(&mut self) {
        let answer = Message::text(Role::Assistant, std::mem::take(&mut self.said));
        let question = self.question.clone();
        self.resident.kept.send_if_modified(|kept| {
            if let Some(conversation) = kept.conversation.as_mut().filter(|_| kept.resets == self.resets) {
                conversation.messages.extend([question, answer]);
                conversation.bound(&self.bounds);
            }
            // Nobody waits for this.
            false
        });
    }

    /// Waits until somebody asks to stop: how the answer ends then, unless it has ended. May be
    /// dropped and called again.
    pub async fn stopped(&mut self) -> Option<Done> {
        let stops = self.stops;
        // A sender that is gone stops as well.
        let _ = self.changes.wait_for(|kept| kept.stops != stops).await;
        (!std::mem::replace(&mut self.ended, true)).then(|| Done {
            finish: Finish::Cancelled,
            tail: Default::default(),
            usage: self.usage,
            timings: Default::default(),
            logprobs: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(conversation: &mut Conversation, bytes: usize, bounds: &config::Resident) {
        let message = |role| Message::text(role, "x".repeat(bytes));
        conversation.messages.extend([message(Role::User), message(Role::Assistant)]);
        conversation.bound(bounds);
    }

    #[test]
    fn the_oldest_turns_go_by_halves_and_the_system_prompt_stays() {
        let bounds = config::Resident { messages: 8, bytes: 1000, ..Default::default() };
        let mut by_count = Conversation { system: "s".repeat(100), messages: Vec::new() };
        let counts: Vec<_> =
            (0..8).map(|_| (turn(&mut by_count, 1, &bounds), by_count.messages.len()).1).collect();
        assert_eq!(counts, [2, 4, 6, 8, 4, 6, 8, 4]);

        let mut by_bytes = Conversation { system: "s".repeat(100), messages: Vec::new() };
        let sizes: Vec<_> = (0..5).map(|_| (turn(&mut by_bytes, 150, &bounds), by_bytes.bytes()).1).collect();
        assert_eq!(sizes, [400, 700, 1000, 400, 700]);
        turn(&mut by_bytes, 5000, &bounds);
        assert_eq!((by_bytes.messages.len(), by_bytes.bytes()), (0, 100), "what is too long alone goes, too");
        assert!(by_bytes.messages.first().is_none_or(|first| first.role == Role::User));
    }
}
