//! What the service keeps of a request: enough to give it to the next worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Refused;
use super::recent::Conversation;
use crate::chat::{
    Delta, Done, Event, Finish, Input, KeepAlive, Priority, Request, RequestId, Started, Timings, TokenId,
    Usage,
};
use crate::fault::{Failure, Fault, Result};
use crate::link::frame::Command;

/// A request that ended so many workers without a new token is given up.
const DEATHS: u32 = 3;

/// What became of a job with an event.
#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    /// It goes on.
    Goes,
    /// That was its last event.
    Ended,
    /// Its client is gone, or so slow that it counts as gone.
    Deserted,
}

/// What is left of a client's deadline to bring the answer to it.
const MARGIN: Duration = Duration::from_millis(50);

/// When a job came and how long it may take.
pub(super) struct Times {
    pub arrived: Duration,
    /// When it is given up.
    pub deadline: Duration,
    /// Until when it waits for a worker to become ready.
    pub hold: Duration,
}

/// A request on its way.
pub(super) struct Job {
    pub id: RequestId,
    request: Arc<Request>,
    /// All tokens generated so far, by whichever worker.
    tokens: Vec<TokenId>,
    events: mpsc::Sender<Event>,
    /// Present until a place in the queue is certain.
    admit: Option<oneshot::Sender<std::result::Result<(), Refused>>>,
    /// When the request came.
    pub arrived: Duration,
    /// When it is given up.
    pub deadline: Duration,
    /// When its answer must be on its way; the deadline where the client set none.
    pub due: Duration,
    /// Until when it waits for a worker to become ready.
    pub hold: Duration,
    /// What the client has seen of the beginning.
    started: Option<Started>,
    /// Whether the present worker has reported `Started`.
    begun: bool,
    /// Workers that ended with it since its last new token.
    deaths: u32,
}

impl Job {
    pub fn new(
        id: RequestId,
        request: Request,
        events: mpsc::Sender<Event>,
        admit: oneshot::Sender<std::result::Result<(), Refused>>,
        times: Times,
    ) -> Self {
        let Times { arrived, deadline, hold } = times;
        let asked = request.limits.deadline_ms.map(|ms| Duration::from_millis(ms.into()));
        let due = asked.map_or(deadline, |asked| deadline.min(arrived + asked - MARGIN.min(asked / 10)));
        let admit = Some(admit);
        let (tokens, started, begun, deaths) = (Vec::new(), None, false, 0);
        let request = Arc::new(request);
        Self { id, request, tokens, events, admit, arrived, deadline, due, hold, started, begun, deaths }
    }

    pub fn priority(&self) -> Priority {
        self.request.priority
    }

    /// Which of the installed models it asks for; the first where it names none.
    pub fn model(&self) -> Option<&str> {
        self.request.model.as_deref()
    }

    /// How long that stays loaded then, where it says.
    pub fn keep_alive(&self) -> Option<KeepAlive> {
        self.request.keep_alive
    }

    /// Whether it asks only for its model.
    pub fn is_load(&self) -> bool {
        self.request.input == Input::Nothing
    }

    /// About how much memory its request takes, in bytes.
    pub fn size(&self) -> usize {
        self.request.size()
    }

    /// Whether it has no certain place yet.
    pub fn held(&self) -> bool {
        self.admit.is_some()
    }

    /// Makes its place certain.
    pub fn admit(&mut self) {
        if let Some(admit) = self.admit.take() {
            // A client that no longer waits abandons the job by its ticket.
            let _ = admit.send(Ok(()));
        }
    }

    /// Turns it away; after it was admitted, as its last event.
    pub fn refuse(mut self, refused: Refused) {
        match self.admit.take() {
            Some(admit) => drop(admit.send(Err(refused))),
            None => self.fail(refused.failure),
        }
    }

    /// Ends it.
    pub fn fail(mut self, failure: Failure) {
        self.admit();
        let _ = self.events.try_send(Event::Failed(failure));
    }

    /// Ends it without an answer: it asked for none.
    pub fn conclude_load(self) {
        let _ = self.events.try_send(Event::Started(Started::default()));
        self.end(Finish::Stop, Timings::default());
    }

    /// Ends it with what came so far, which took so long.
    pub fn conclude(self, timings: Timings) {
        self.end(Finish::Deadline, timings);
    }

    fn end(self, finish: Finish, timings: Timings) {
        let Started { prompt_tokens, cached_tokens, .. } = self.started.unwrap_or_default();
        let completion_tokens = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        let usage = Usage { prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens: 0 };
        let done = Done { finish, tail: Delta::default(), usage, timings, logprobs: None };
        let _ = self.events.try_send(Event::Done(done));
    }

    /// Forgets what came so far, where the client has seen none of it; false where it may have.
    pub fn restart(&mut self) -> bool {
        let room = self.request.buffered && self.events.try_send(Event::Restart).is_ok();
        if room {
            self.tokens.clear();
            (self.started, self.begun, self.deaths) = (None, false, 0);
        }
        room
    }

    /// The command that makes a worker begin or continue it.
    pub fn command(&mut self) -> Command {
        self.begun = false;
        Command::Generate { id: self.id, request: Arc::clone(&self.request), resume: self.tokens.clone() }
    }

    /// What it leaves, once it is answered.
    pub fn into_conversation(self) -> Conversation {
        Conversation { request: self.request, tokens: self.tokens }
    }

    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Its worker ended. Returns the failure to end it with, if that was once too often.
    pub fn orphan(&mut self, cause: &Failure) -> Option<Failure> {
        self.deaths += u32::from(of_a_request(cause.fault));
        (self.deaths >= DEATHS).then(|| {
            let detail = format!("{DEATHS} workers in a row ended with this request: {}", cause.detail);
            Failure::new(cause.fault, detail)
        })
    }

    /// Takes in an event of its worker and hands it to the client.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`] for an event that cannot be right at this point, and the
    /// failure itself where the worker reports that the card, not the request, failed:
    /// the next worker continues.
    pub fn take(&mut self, event: Event) -> Result<Progress> {
        match &event {
            Event::Started(started) => {
                if std::mem::replace(&mut self.begun, true) {
                    return Err(self.nonsense("started twice"));
                }
                if self.started.replace(*started).is_some() {
                    return Ok(Progress::Goes);
                }
            }
            Event::Token(token) => {
                let expected = self.tokens.len();
                if !self.begun {
                    return Err(self.nonsense("has a token before it started"));
                }
                if u32::try_from(expected) != Ok(token.index) {
                    let detail = format!("is at token {expected}, but token {} came", token.index);
                    return Err(self.nonsense(&detail));
                }
                self.tokens.push(token.id);
                self.deaths = 0;
            }
            Event::Restart => return Err(self.nonsense("was restarted by its worker")),
            Event::Done(_) if !self.begun => return Err(self.nonsense("ended before it started")),
            Event::Done(_) => {}
            Event::Failed(failure) if of_the_card(failure.fault) => return Err(failure.clone()),
            Event::Failed(_) => {}
        }
        let last = matches!(event, Event::Done(_) | Event::Failed(_));
        Ok(match self.events.try_send(event) {
            Ok(()) if last => Progress::Ended,
            Ok(()) => Progress::Goes,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) if last => Progress::Ended,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => Progress::Deserted,
        })
    }

    fn nonsense(&self, what: &str) -> Failure {
        Failure::new(Fault::WorkerLink, format!("request {} {what}", self.id.0))
    }
}

/// Whether a request itself may have caused a fault, by what it makes worker or card compute.
fn of_a_request(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::WorkerExit | Fault::WorkerLink | Fault::CardStall | Fault::CardCall | Fault::CardOutput
    )
}

/// Whether a fault says nothing about the request, so that another worker may succeed.
fn of_the_card(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::CardCall | Fault::CardOutput | Fault::CardAbsent | Fault::CardPorts | Fault::CardDead
    )
}
