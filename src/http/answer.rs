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
use super::choices::Choices;
use super::error::ApiError;
use super::tally::Ending;
use crate::chat::{Delta, Done, Event, Finish, Token, TokenChoice, TokenLogprobs};
use crate::fault::{Failure, Fault};
use crate::metrics::Outcome;

/// Pieces made ahead of the connection.
const AHEAD: usize = 16;

/// A whole answer, or one choice of it.
pub struct Whole {
    pub said: Delta,
    /// Empty unless asked for.
    pub logprobs: Vec<TokenReply>,
    /// Its tail is part of what is said.
    pub done: Done,
}

/// Collects every choice of an answer.
///
/// # Errors
/// What the request failed with.
pub async fn collect(mut choices: Choices) -> Result<Vec<Whole>, ApiError> {
    let mut parts = Vec::new();
    parts.resize_with(choices.count(), || (Delta::default(), Vec::new(), None));
    while let Some((index, event)) = choices.next().await {
        let Some((said, logprobs, end)) = parts.get_mut(index) else { continue };
        match event {
            Event::Started(_) => {}
            Event::Restart => (*said, *logprobs) = Default::default(),
            Event::Token(token) => {
                said.append(token.delta);
                logprobs.extend(token.logprobs.map(TokenReply::from));
            }
            Event::Done(mut done) => {
                said.append(std::mem::take(&mut done.tail));
                *end = Some(done);
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    let whole = |(said, logprobs, done): (_, _, Option<Done>)| {
        Ok(Whole { said, logprobs, done: done.ok_or_else(endless)? })
    };
    parts.into_iter().map(whole).collect()
}

/// Collects an answer of one choice.
///
/// # Errors
/// What the request failed with.
pub async fn collect_one(choices: Choices) -> Result<Whole, ApiError> {
    collect(choices).await?.pop().ok_or_else(endless)
}

fn endless() -> ApiError {
    Failure::new(Fault::Internal, "an answer had no end").into()
}

/// How a dialect writes the pieces of a streamed answer. Choices are counted from 0.
pub trait Script: Send + 'static {
    /// The stream's content type.
    const KIND: &'static str;

    /// What comes before the answer.
    fn begin(&mut self) -> Option<Bytes>;

    /// A token, where it has something to tell.
    fn token(&mut self, choice: usize, token: Token) -> Option<Bytes>;

    /// The end of a choice.
    fn end(&mut self, choice: usize, done: Done) -> Option<Bytes>;

    /// What comes after the last choice's end.
    fn close(&mut self) -> Option<Bytes>;

    /// The end of a stream whose answer failed; clients must not take it for an answer's end.
    fn failure(&mut self, error: &ApiError) -> Bytes;

    /// What clients ignore: it keeps a silent connection alive.
    fn idle(&mut self) -> Bytes;
}

/// Begins a stream. The response's head is withheld until the answer begins, so that
/// an early error still gets its own status, but not so long that the client gives up.
///
/// # Errors
/// What the request failed with before its answer began.
pub async fn stream<S: Script>(
    mut choices: Choices,
    script: S,
    keepalive: Duration,
) -> Result<Response<Body>, ApiError> {
    let first = match timeout(keepalive, choices.next()).await {
        Ok(Some((_, Event::Failed(failure)))) => return Err(failure.into()),
        Ok(first) => first,
        Err(_) => None,
    };
    let (pieces, body) = mpsc::channel(AHEAD);
    let ending = Ending::default();
    tokio::spawn(pump(first, choices, script, pieces, keepalive, ending.clone()));
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
    mut first: Option<(usize, Event)>,
    mut choices: Choices,
    mut script: S,
    pieces: mpsc::Sender<Bytes>,
    keepalive: Duration,
    ending: Ending,
) {
    let mut piece = script.begin();
    let mut last = false;
    loop {
        if let Some(piece) = piece
            && pieces.send(piece).await.is_err()
        {
            return;
        }
        if last {
            return;
        }
        let event = match first.take() {
            Some(first) => Ok(Some(first)),
            None => tokio::select! {
                () = pieces.closed() => return,
                event = timeout(keepalive, choices.next()) => event,
            },
        };
        last = matches!(&event, Ok(None | Some((_, Event::Failed(_)))));
        piece = match event {
            Err(_) => Some(script.idle()),
            Ok(None) => {
                ending.is(Outcome::Answered);
                script.close()
            }
            Ok(Some((_, Event::Started(_) | Event::Restart))) => None,
            Ok(Some((choice, Event::Token(token)))) => script.token(choice, token),
            Ok(Some((choice, Event::Done(done)))) => script.end(choice, done),
            Ok(Some((_, Event::Failed(failure)))) => {
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
