//! How an answer goes, from its request to its last token. Pure: the time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::chat::{Started, Timings};

/// Answers remembered.
const MOST: usize = 8;

/// How an answer went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answered {
    pub prompt_tokens: u32,
    /// Of these, already on the card.
    pub cached_tokens: u32,
    pub tokens: u32,
    /// From the request's arrival to the first token.
    pub first_token_s: f64,
    /// Of the tokens after the first; 0 where there is none.
    pub tokens_per_s: f64,
}

impl Answered {
    /// Puts it before the others, of which the oldest goes.
    pub fn remember(self, answers: &mut VecDeque<Self>) {
        answers.truncate(MOST - 1);
        answers.push_front(self);
    }
}

/// An answer under way.
#[derive(Debug, Default)]
pub(super) struct Course {
    started: Option<Started>,
    first: Option<Duration>,
    last: Duration,
    tokens: u32,
}

impl Course {
    /// A worker read the prompt. False where one did before: this one continues.
    pub fn start(&mut self, started: Started) -> bool {
        let news = self.started.is_none();
        self.started.get_or_insert(started);
        news
    }

    /// A token came. True for the first.
    pub fn token(&mut self, now: Duration) -> bool {
        let first = self.first.is_none();
        self.first.get_or_insert(now);
        self.last = now;
        self.tokens = self.tokens.saturating_add(1);
        first
    }

    /// Where the time went since a worker was given it.
    pub fn timings(&self, given: Duration) -> Timings {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let first = self.first.unwrap_or(self.last);
        Timings {
            prefill_us: micros(first.saturating_sub(given)),
            decode_us: micros(self.last.saturating_sub(first)),
        }
    }

    /// How it went, once there was a token; its request came at `arrived`.
    pub fn end(&self, arrived: Duration) -> Option<Answered> {
        let (started, first) = (self.started?, self.first?);
        let (more, time) = (self.tokens.saturating_sub(1), self.last.saturating_sub(first).as_secs_f64());
        Some(Answered {
            prompt_tokens: started.prompt_tokens,
            cached_tokens: started.cached_tokens,
            tokens: self.tokens,
            first_token_s: first.saturating_sub(arrived).as_secs_f64(),
            tokens_per_s: if more > 0 && time > 0.0 { f64::from(more) / time } else { 0.0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_tokens_after_the_first() {
        let mut course = Course::default();
        assert_eq!(course.end(Duration::ZERO), None);
        let started = Started { prompt_tokens: 30, cached_tokens: 10, dropped_messages: 0 };
        assert!(course.start(started));
        assert!(!course.start(Started::default()), "another worker continues");
        assert!(course.token(Duration::from_secs(7)));
        assert_eq!(course.end(Duration::from_secs(4)).unwrap().tokens_per_s, 0.0);
        for half_seconds in 1..=4 {
            assert!(!course.token(Duration::from_secs(7) + half_seconds * Duration::from_millis(500)));
        }
        let answered = course.end(Duration::from_secs(4)).unwrap();
        let (first_token_s, tokens_per_s) = (3.0, 2.0);
        let expected =
            Answered { prompt_tokens: 30, cached_tokens: 10, tokens: 5, first_token_s, tokens_per_s };
        assert_eq!(answered, expected);
        let mut answers = VecDeque::new();
        (0..20).for_each(|tokens| Answered { tokens, ..answered }.remember(&mut answers));
        assert_eq!((answers.len(), answers[0].tokens), (MOST, 19));
    }
}
