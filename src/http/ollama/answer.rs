//! `POST /api/chat` and `POST /api/generate`: an answer whole, or as lines of JSON.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::reply::{End, Form, Reply};
use super::request::{self, Asked};
use crate::chat::{Delta, Done, Input, KeepAlive, Request, Token};
use crate::fault::{Failure, Fault};
use crate::http::answer::{self, Script, TokenReply, Whole};
use crate::http::body::{Body, json};
use crate::http::caller::Caller;
use crate::http::choices::Choices;
use crate::http::error::ApiError;
use crate::http::names::Model;
use crate::http::vendor::polled;
use crate::http::{Context, names};

/// Answers a request of either form. Dropping the future, or the body of a stream,
/// gives the request up.
///
/// # Errors
/// Everything that is known to be wrong before the answer begins.
pub async fn answer(
    context: &Arc<Context>,
    caller: &Caller,
    form: Form,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let arrived = Instant::now();
    if form == Form::Generate && polled::is_meant(context, &body) {
        return polled::generate(context, caller, &body);
    }
    let limits = context.service.settings().limits;
    let Asked { model, mut request, stream, continues } = request::parse(form, &body, limits.messages)?;
    drop(body);
    request.model = names::admit(context, &model)?;
    let asked = request.model.clone();
    if request.input == Input::Nothing {
        return load(context, caller, form, request).await;
    }
    let choices = match continues && context.resident.begun() {
        true => Choices::turn(context, caller, request).await?,
        false => Choices::submit(context, caller, [request]).await?,
    };
    let model = names::told(context, asked.as_deref());
    let lines = Lines { form, model, arrived, load: arrived.elapsed(), calls: Delta::default() };
    if stream {
        return answer::stream(choices, lines, limits.keepalive_comment_s.0).await;
    }
    let Whole { said, logprobs, done } = answer::collect_one(choices).await?;
    let end = lines.last(&done);
    Ok(json(StatusCode::OK, &Reply::new(form, &lines.model, said, logprobs, Some(end))))
}

/// Answers once the model is loaded, or no longer wanted. One that is there is not waited for.
async fn load(
    context: &Context,
    caller: &Caller,
    form: Form,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let gone = request.keep_alive == Some(KeepAlive::NOT);
    let model = request.model.clone();
    let wanted = |known: &Model| model.as_ref().is_none_or(|name| known.name == *name);
    let there = names::all(context).iter().find(|known| wanted(known)).is_some_and(|known| known.loaded);
    let done = there && request.keep_alive.is_none() && context.service.status().ready;
    if !done {
        answer::collect_one(Choices::submit(context, caller, [request]).await?).await?;
    }
    let model = names::told(context, model.as_deref());
    let end = if gone { End::UNLOADED } else { End::LOADED };
    Ok(json(StatusCode::OK, &Reply::new(form, &model, Delta::default(), Vec::new(), Some(end))))
}

/// 503: there is no model to speak of.
pub(super) fn not_loaded() -> ApiError {
    let failure = Failure::new(Fault::NotReady, "no model is loaded");
    ApiError { retry_after: Some(Duration::from_secs(2)), ..failure.into() }
}

/// Writes the lines of a streamed answer.
struct Lines {
    form: Form,
    model: String,
    arrived: Instant,
    /// From arrival until the request was taken.
    load: Duration,
    /// Calls so far: they are told whole.
    calls: Delta,
}

impl Lines {
    fn reply(&self, said: Delta, logprobs: Vec<TokenReply>, end: Option<End>) -> Bytes {
        line(&Reply::new(self.form, &self.model, said, logprobs, end))
    }

    fn last(&self, done: &Done) -> End {
        End::new(done, nanoseconds(self.arrived.elapsed()), nanoseconds(self.load))
    }
}

impl Script for Lines {
    const KIND: &'static str = "application/x-ndjson";

    fn begin(&mut self) -> Option<Bytes> {
        None
    }

    fn token(&mut self, _: usize, mut token: Token) -> Option<Bytes> {
        self.calls.append(Delta { calls: std::mem::take(&mut token.delta.calls), ..Delta::default() });
        if token.delta.is_empty() && token.logprobs.is_none() {
            return None;
        }
        let logprobs = token.logprobs.into_iter().map(TokenReply::from).collect();
        Some(self.reply(token.delta, logprobs, None))
    }

    /// What was held back, then an empty piece with the numbers.
    fn end(&mut self, _: usize, mut done: Done) -> Option<Bytes> {
        let mut tail = std::mem::take(&mut done.tail);
        self.calls.append(Delta { calls: std::mem::take(&mut tail.calls), ..Delta::default() });
        tail.calls = std::mem::take(&mut self.calls).calls;
        let mut end = Vec::new();
        if !tail.is_empty() {
            end.extend_from_slice(&self.reply(tail, Vec::new(), None));
        }
        end.extend_from_slice(&self.reply(Delta::default(), Vec::new(), Some(self.last(&done))));
        Some(end.into())
    }

    fn close(&mut self) -> Option<Bytes> {
        None
    }

    fn failure(&mut self, error: &ApiError) -> Bytes {
        line(&error.line())
    }

    /// Lines have no comments: an empty piece adds nothing.
    fn idle(&mut self) -> Bytes {
        self.reply(Delta::default(), Vec::new(), None)
    }
}

/// One line.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_else(|_| "{}".into());
    format!("{json}\n").into()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
