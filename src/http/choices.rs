//! An answer under way: its choices, each from the worker or, where that fails, a sentence.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context as Task, Poll};

use tracing::info;

use super::Context;
use super::access::Place;
use super::caller::Caller;
use super::error::ApiError;
use super::sentences::Sentences;
use super::vendor::resident::Turn;
use crate::chat::{Delta, Done, Event, Finish, Request, Token};
use crate::service::{Refused, Ticket};

/// One choice.
struct Choice {
    ticket: Option<Ticket>,
    /// The client sees nothing before the end.
    buffered: bool,
    /// Whether content has come.
    said: bool,
    /// What comes instead of the ticket's events.
    instead: VecDeque<Event>,
    /// An answer with a deadline is told in whole sentences.
    sentences: Option<Sentences>,
}

impl Choice {
    fn taken(ticket: Ticket, buffered: bool, timed: bool) -> Self {
        let sentences = timed.then(Sentences::default);
        Self { ticket: Some(ticket), buffered, said: false, instead: VecDeque::new(), sentences }
    }

    fn spoken(sentence: &str) -> Self {
        Self { ticket: None, buffered: false, said: true, instead: speech(sentence), sentences: None }
    }

    fn poll_next(&mut self, caller: &Caller, task: &mut Task<'_>) -> Poll<Option<Event>> {
        if let Some(event) = self.instead.pop_front() {
            return Poll::Ready(Some(event));
        }
        let Some(ticket) = &mut self.ticket else { return Poll::Ready(None) };
        let mut event = std::task::ready!(ticket.poll_next(task));
        if let (Some(sentences), Some(event)) = (&mut self.sentences, &mut event) {
            sentences.hold(event);
        }
        if let Some(Event::Token(token)) = &event {
            self.said |= !token.delta.content.is_empty();
        }
        if let Some(Event::Failed(failure)) = &event
            && (self.buffered || !self.said)
            && let Some(sentence) = caller.instead_of(failure)
        {
            info!(
                request = ticket.id().0,
                code = failure.fault.code(),
                "a sentence is told instead: {failure}"
            );
            *self = Self::spoken(sentence);
            return Poll::Ready(self.instead.pop_front());
        }
        Poll::Ready(event)
    }
}

/// A sentence as the events of an answer.
fn speech(sentence: &str) -> VecDeque<Event> {
    let delta = Delta { content: sentence.to_owned(), ..Delta::default() };
    let done = Done {
        finish: Finish::Stop,
        tail: Delta::default(),
        usage: Default::default(),
        timings: Default::default(),
        logprobs: None,
    };
    [Event::Restart, Event::Token(Token { index: 0, id: 0, delta, logprobs: None }), Event::Done(done)].into()
}

/// All choices of an answer. Dropping them gives up what has not ended.
pub struct Choices {
    choices: Vec<Choice>,
    caller: Caller,
    /// The turn of the resident conversation that this answer is, if it is one.
    turn: Option<Turn>,
    /// Among the requests of the caller's key, until the answer has ended.
    _place: Option<Place>,
}

impl Choices {
    /// Submits one request per choice, each made only when it is its turn: prompts may be long.
    ///
    /// # Errors
    /// What the service refuses a request with, where its caller is told no sentence instead.
    pub async fn submit(
        context: &Context,
        caller: &Caller,
        requests: impl IntoIterator<Item = Request, IntoIter: Send>,
    ) -> Result<Self, ApiError> {
        match caller.place(&context.places) {
            Ok(place) => Self::begin(context, caller, requests, place).await,
            Err(refused) => Self::refused(caller, requests, &refused),
        }
    }

    async fn begin(
        context: &Context,
        caller: &Caller,
        requests: impl IntoIterator<Item = Request, IntoIter: Send>,
        place: Option<Place>,
    ) -> Result<Self, ApiError> {
        let mut choices = Vec::new();
        for request in requests {
            let request = caller.adorn(request);
            let (buffered, timed) = (request.buffered, request.limits.deadline_ms.is_some());
            choices.push(match context.service.submit(request).await {
                Ok(ticket) => Choice::taken(ticket, buffered, timed),
                Err(refused) => refusal(caller, &refused)?,
            });
        }
        Ok(Self { choices, caller: caller.clone(), turn: None, _place: place })
    }

    /// As many choices of a request that was refused.
    fn refused<R>(
        caller: &Caller,
        requests: impl IntoIterator<Item = R>,
        refused: &Refused,
    ) -> Result<Self, ApiError> {
        let choices = requests.into_iter().map(|_| refusal(caller, refused)).collect::<Result<_, _>>()?;
        Ok(Self { choices, caller: caller.clone(), turn: None, _place: None })
    }

    /// Submits a request that continues the resident conversation, once it is its turn.
    ///
    /// # Errors
    /// As [`Choices::submit`].
    pub async fn turn(context: &Context, caller: &Caller, mut request: Request) -> Result<Self, ApiError> {
        let place = match caller.place(&context.places) {
            Ok(place) => place,
            Err(refused) => return Self::refused(caller, [()], &refused),
        };
        match context.resident.turn(&mut request, &context.service.settings()).await {
            Ok(turn) => {
                let begun = Self::begin(context, caller, [request], place).await?;
                Ok(Self { turn: Some(turn), ..begun })
            }
            Err(refused) => Self::refused(caller, [()], &refused),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.choices.len()
    }

    /// The next event of any choice; `None` after the last of all. May be dropped and called
    /// again.
    pub async fn next(&mut self) -> Option<(usize, Event)> {
        let Self { choices, caller, turn, .. } = self;
        let next = poll_fn(|task| {
            let mut pending = false;
            for (index, choice) in choices.iter_mut().enumerate() {
                match choice.poll_next(caller, task) {
                    Poll::Ready(Some(event)) => return Poll::Ready(Some((index, event))),
                    Poll::Ready(None) => {}
                    Poll::Pending => pending = true,
                }
            }
            if pending { Poll::Pending } else { Poll::Ready(None) }
        });
        let Some(turn) = turn else { return next.await };
        let stopped = tokio::select! {
            biased;
            event = next => {
                // A sentence told instead is no part of the conversation.
                if let Some((_, event)) = event.as_ref().filter(|_| caller.spoken().is_none()) {
                    turn.hear(event);
                }
                return event;
            }
            done = turn.stopped() => done,
        };
        // Whoever asked to stop gets what was said so far; the worker is free.
        self.choices.clear();
        stopped.map(|done| (0, Event::Done(done)))
    }
}

/// What a caller gets whose request was refused: the refusal, or a sentence instead.
fn refusal(caller: &Caller, refused: &Refused) -> Result<Choice, ApiError> {
    match caller.instead_of(&refused.failure) {
        Some(sentence) => Ok(Choice::spoken(sentence)),
        None => Err(refused.clone().into()),
    }
}
