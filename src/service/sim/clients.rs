//! Clients in virtual time: what each asked, what it got, and whether that was right.

use std::time::Duration;

use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::oneshot;

use super::token;
use crate::chat::{Event, Input, Limits, Request, RequestId};
use crate::machine::Seat;
use crate::service::job::{Job, Times};
use crate::service::ticket::Refused;

/// One request's client.
pub struct Client {
    pub id: RequestId,
    seed: u64,
    wanted: u32,
    buffered: bool,
    model: Option<&'static str>,
    deadline: Duration,
    admission: oneshot::Receiver<Result<(), Refused>>,
    events: mpsc::Receiver<Event>,
    tokens: Vec<u32>,
    /// How often it came to an end.
    ends: u32,
    pub left: bool,
}

impl Client {
    /// A client and the job it submits.
    pub fn new(
        number: u64,
        now: Duration,
        tokens: u32,
        buffered: bool,
        model: Option<&'static str>,
    ) -> (Self, Job) {
        let (events, reader) = mpsc::channel(crate::service::EVENTS);
        let (admit, admission) = oneshot::channel();
        let mut request = Request {
            limits: Limits { max_tokens: Some(tokens), ..Limits::default() },
            buffered,
            model: model.map(str::to_owned),
            ..Request::new(Input::Raw(String::new()))
        };
        request.sampling.seed = Some(number);
        let id = RequestId(number);
        let deadline = now + Duration::from_secs(300);
        let times = Times { arrived: now, deadline, hold: now + Duration::from_secs(25) };
        let job = Job::new(id, request, events, admit, times);
        let client = Self {
            id,
            seed: number,
            wanted: tokens,
            buffered,
            model,
            deadline,
            admission,
            events: reader,
            tokens: Vec::new(),
            ends: 0,
            left: false,
        };
        (client, job)
    }

    /// Takes what came. True once it is over for good; `Err` says what was wrong.
    pub fn look(&mut self, now: Duration, answered: &mut u64) -> Result<bool, String> {
        if let Ok(Err(_)) = self.admission.try_recv() {
            self.ends += 1;
        }
        loop {
            match self.events.try_recv() {
                Ok(event) => self.take(event, answered)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return match self.ends {
                        _ if self.left => Ok(true),
                        1 => Ok(true),
                        ends => Err(format!("request {} ended {ends} times", self.id.0)),
                    };
                }
            }
        }
        match self.ends {
            0 if now > self.deadline + Duration::from_secs(5) && !self.left => {
                Err(format!("request {} was forgotten", self.id.0))
            }
            0 | 1 => Ok(false),
            ends => Err(format!("request {} ended {ends} times", self.id.0)),
        }
    }

    fn take(&mut self, event: Event, answered: &mut u64) -> Result<(), String> {
        let id = self.id.0;
        if self.ends > 0 {
            return Err(format!("request {id}: {event:?} after its end"));
        }
        match event {
            Event::Started(_) => {}
            Event::Token(token) if token.index as usize != self.tokens.len() => {
                return Err(format!("request {id}: token {} came after {}", token.index, self.tokens.len()));
            }
            Event::Token(token) => self.tokens.push(token.id),
            Event::Restart if self.buffered => self.tokens.clear(),
            Event::Restart => return Err(format!("request {id}: a stream was restarted")),
            Event::Done(_) => {
                self.ends += 1;
                *answered += 1;
                let whole = |seat| {
                    (0..self.wanted)
                        .map(|i| token(seat, self.model, self.seed, i))
                        .eq(self.tokens.iter().copied())
                };
                if !whole(Seat::Card) && !whole(Seat::Cpu) {
                    return Err(format!("request {id}: its answer was altered"));
                }
            }
            Event::Failed(_) => self.ends += 1,
        }
        Ok(())
    }
}
