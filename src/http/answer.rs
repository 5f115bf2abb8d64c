//! Answers on their way to clients: collected whole, or streamed piece by piece.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::body::{Body, Pieces};
use super::error::ApiError;
use super::tally::Ending;
use crate::chat::{Delta, Done, Event, Finish, Token, TokenChoice, TokenLogprobs};
use crate::fault::{Failure, Fault};
use crate::metrics::Outcome;
use crate::service::Ticket;

/// Pieces made ahead of the connection.
const AHEAD: usize = 16;

/// A whole answer.
pub struct Whole {
    pub said: Delta,
    /// Empty unless asked for.
    pub logprobs: Vec<TokenReply>,
    /// Its tail is part of what is said.
    pub done: Done,
}

/// Collects an answer.
///
/// # Errors
/// What the request failed with.
pub async fn collect(mut ticket: Ticket) -> Result<Whole, ApiError> {
    let (mut said, mut logprobs) = (Delta::default(), Vec::new());
    while let Some(event) = ticket.next().await {
        match event {
            Event::Started(_) => {}
            Event::Restart => (said, logprobs) = Default::default(),
            Event::Token(token) => {
                append(&mut said, &token.delta);
                logprobs.extend(token.logprobs.map(TokenReply::from));
            }
            Event::Done(done) => {
                append(&mut said, &done.tail);
                return Ok(Whole { said, logprobs, done });
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    Err(Failure::new(Fault::Internal, "an answer had no end").into())
}

fn append(said: &mut Delta, more: &Delta) {
    said.content.push_str(&more.content);
    said.reasoning.push_str(&more.reasoning);
}

/// How a dialect writes the pieces of a streamed answer.
pub trait Script: Send + 'static {
    /// The stream's content type.
    const KIND: &'static str;

    /// What comes before the answer.
    fn begin(&self) -> Option<Bytes>;

    /// A token, where it has something to tell.
    fn token(&self, token: Token) -> Option<Bytes>;

    /// The end of an answer.
    fn end(&self, done: Done) -> Bytes;

    /// The end of a stream whose answer failed; clients must not take it for an answer's end.
    fn failure(&self, error: &ApiError) -> Bytes;

    /// What clients ignore: it keeps a silent connection alive.
    fn idle(&self) -> Bytes;
}

/// Begins a stream. The response's head is withheld until the answer begins, so that
/// an early error still gets its own status, but not so long that the client gives up.
///
/// # Errors
/// What the request failed with before its answer began.
pub async fn stream<S: Script>(
    mut ticket: Ticket,
    script: S,
    keepalive: Duration,
) -> Result<Response<Body>, ApiError> {
    if let Ok(Some(Event::Failed(failure))) = timeout(keepalive, ticket.next()).await {
        return Err(failure.into());
    }
    let (pieces, body) = mpsc::channel(AHEAD);
    let ending = Ending::default();
    tokio::spawn(pump(ticket, script, pieces, keepalive, ending.clone()));
    let mut response = Response::new(Pieces(body).boxed_unsync());
    response.extensions_mut().insert(ending);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(S::KIND));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies must not hold tokens back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// Carries events to the connection until either side ends.
async fn pump<S: Script>(
    mut ticket: Ticket,
    script: S,
    pieces: mpsc::Sender<Bytes>,
    keepalive: Duration,
    ending: Ending,
) {
    let mut piece = script.begin();
    loop {
        if let Some(piece) = piece
            && pieces.send(piece).await.is_err()
        {
            return;
        }
        let event = tokio::select! {
            () = pieces.closed() => return,
            event = timeout(keepalive, ticket.next()) => event,
        };
        piece = match event {
            Err(_) => Some(script.idle()),
            Ok(None) => return,
            Ok(Some(Event::Started(_) | Event::Restart)) => None,
            Ok(Some(Event::Token(token))) => script.token(token),
            Ok(Some(Event::Done(done))) => {
                ending.is(Outcome::Answered);
                Some(script.end(done))
            }
            Ok(Some(Event::Failed(failure))) => {
                let error = ApiError::from(failure);
                ending.is(error.outcome());
                Some(script.failure(&error))
            }
        };
    }
}

/// Why an answer ended, in the word all dialects use.
pub fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Cancelled => "stop",
        Finish::Length | Finish::Deadline => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

/// A token's log-probability and those of its alternatives.
#[derive(Debug, Serialize)]
pub struct TokenReply {
    #[serde(flatten)]
    pub chosen: ChoiceReply,
    pub top_logprobs: Vec<ChoiceReply>,
}

impl From<TokenLogprobs> for TokenReply {
    fn from(token: TokenLogprobs) -> Self {
        Self { chosen: token.chosen.into(), top_logprobs: token.top.into_iter().map(Into::into).collect() }
    }
}

#[derive(Debug, Serialize)]
pub struct ChoiceReply {
    /// With replacement characters where the bytes are not whole characters.
    pub token: String,
    pub logprob: f32,
    pub bytes: Vec<u8>,
}

impl From<TokenChoice> for ChoiceReply {
    fn from(choice: TokenChoice) -> Self {
        let token = String::from_utf8_lossy(&choice.bytes).into_owned();
        Self { token, logprob: choice.logprob, bytes: choice.bytes }
    }
}
