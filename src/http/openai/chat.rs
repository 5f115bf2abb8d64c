//! `POST /v1/chat/completions`: collects an answer, or streams it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::reply::{
    Choice, Chunk, ChunkChoice, Completion, DeltaReply, FINGERPRINT, Head, LogprobsReply, MessageReply,
    UsageReply, finish_reason,
};
use super::request::{self, ChatRequest};
use crate::chat::{Done, Event, Token};
use crate::fault::{Failure, Fault};
use crate::http::body::{Body, Pieces, json};
use crate::http::error::ApiError;
use crate::http::{Context, unix_time};
use crate::service::Ticket;
use crate::sys::chance;

/// Pieces made ahead of the connection.
const AHEAD: usize = 16;
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// Answers a chat completion request. Dropping the future, or the body of a stream,
/// gives the request up.
///
/// # Errors
/// Everything that is known to be wrong before the answer begins.
pub async fn complete<B>(context: &Context, body: B) -> Result<Response<Body>, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limits = context.service.settings().limits;
    let body = context.bodies.read(body, limits.body_bytes, limits.body_s.0).await?;
    let ChatRequest { request, stream, include_usage } = request::parse(&body, limits.messages)?;
    drop(body);
    let logprobs = request.logprobs.is_some();
    let ticket = context.service.submit(request).await?;
    let model = context.service.status().model.map(|model| model.name).unwrap_or_default();
    let id = format!("chatcmpl-{:016x}{:016x}", chance::bits(), chance::bits());
    let object = if stream { "chat.completion.chunk" } else { "chat.completion" };
    let head = Head { id, object, created: unix_time(), model, system_fingerprint: FINGERPRINT };
    if stream {
        self::stream(ticket, head, include_usage, limits.keepalive_comment_s.0).await
    } else {
        collect(ticket, &head, logprobs).await
    }
}

async fn collect(mut ticket: Ticket, head: &Head, logprobs: bool) -> Result<Response<Body>, ApiError> {
    let (mut content, mut reasoning) = (String::new(), String::new());
    let mut logprobs = logprobs.then(LogprobsReply::default);
    while let Some(event) = ticket.next().await {
        match event {
            Event::Started(_) => {}
            Event::Restart => {
                content.clear();
                reasoning.clear();
                logprobs = logprobs.map(|_| LogprobsReply::default());
            }
            Event::Token(token) => {
                content.push_str(&token.delta.content);
                reasoning.push_str(&token.delta.reasoning);
                if let (Some(list), Some(token)) = (&mut logprobs, token.logprobs) {
                    list.content.push(token.into());
                }
            }
            Event::Done(done) => {
                content.push_str(&done.tail.content);
                reasoning.push_str(&done.tail.reasoning);
                let message =
                    MessageReply { role: "assistant", content, reasoning_content: reasoning, refusal: None };
                let finish_reason = finish_reason(done.finish);
                let choice = Choice { index: 0, message, logprobs, finish_reason };
                let completion = Completion { head, choices: [choice], usage: done.usage.into() };
                return Ok(json(StatusCode::OK, &completion));
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    Err(Failure::new(Fault::Internal, "an answer had no end").into())
}

/// Begins a stream. The response's head is withheld until the answer begins, so that
/// an early error still gets its own status, but not so long that the client gives up.
async fn stream(
    mut ticket: Ticket,
    head: Head,
    include_usage: bool,
    keepalive: Duration,
) -> Result<Response<Body>, ApiError> {
    if let Ok(Some(Event::Failed(failure))) = timeout(keepalive, ticket.next()).await {
        return Err(failure.into());
    }
    let (pieces, body) = mpsc::channel(AHEAD);
    tokio::spawn(pump(ticket, Chunks { head, include_usage }, pieces, keepalive));
    let mut response = Response::new(Pieces(body).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies must not hold tokens back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// Carries events to the connection until either side ends. After a failure the
/// stream ends with an error event and without `[DONE]`.
async fn pump(mut ticket: Ticket, chunks: Chunks, pieces: mpsc::Sender<Bytes>, keepalive: Duration) {
    if pieces.send(chunks.role()).await.is_err() {
        return;
    }
    loop {
        let event = tokio::select! {
            () = pieces.closed() => return,
            event = timeout(keepalive, ticket.next()) => event,
        };
        let piece = match event {
            Err(_) => Some(KEEP_ALIVE),
            Ok(None) => return,
            Ok(Some(Event::Started(_) | Event::Restart)) => None,
            Ok(Some(Event::Token(token))) => chunks.token(token),
            Ok(Some(Event::Done(done))) => Some(chunks.end(done)),
            Ok(Some(Event::Failed(failure))) => Some(data(&ApiError::from(failure).body())),
        };
        if let Some(piece) = piece
            && pieces.send(piece).await.is_err()
        {
            return;
        }
    }
}

struct Chunks {
    head: Head,
    include_usage: bool,
}

impl Chunks {
    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<UsageReply>) -> Bytes {
        data(&Chunk { head: &self.head, choices, usage: self.include_usage.then_some(usage) })
    }

    fn choice(
        &self,
        delta: DeltaReply,
        logprobs: Option<LogprobsReply>,
        finish_reason: Option<&'static str>,
    ) -> Bytes {
        self.chunk(vec![ChunkChoice { index: 0, delta, logprobs, finish_reason }], None)
    }

    /// The first piece.
    fn role(&self) -> Bytes {
        let delta =
            DeltaReply { role: Some("assistant"), content: Some(String::new()), reasoning_content: None };
        self.choice(delta, None, None)
    }

    /// A token's piece, where it has something to tell.
    fn token(&self, token: Token) -> Option<Bytes> {
        if token.delta.is_empty() && token.logprobs.is_none() {
            return None;
        }
        let mut delta = DeltaReply::from(token.delta);
        if delta.content.is_none() && delta.reasoning_content.is_none() {
            delta.content = Some(String::new());
        }
        Some(self.choice(delta, token.logprobs.map(Into::into), None))
    }

    /// What was held back, the reason of the end, the usage where asked for, the end mark.
    fn end(&self, done: Done) -> Bytes {
        let mut end = Vec::new();
        if !done.tail.is_empty() {
            end.extend_from_slice(&self.choice(done.tail.into(), None, None));
        }
        end.extend_from_slice(&self.choice(DeltaReply::default(), None, Some(finish_reason(done.finish))));
        if self.include_usage {
            end.extend_from_slice(&self.chunk(Vec::new(), Some(done.usage.into())));
        }
        end.extend_from_slice(&DONE);
        end.into()
    }
}

/// One server-sent event.
fn data(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_else(|_| "{}".into());
    format!("data: {json}\n\n").into()
}
