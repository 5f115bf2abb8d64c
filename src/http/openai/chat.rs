//! `POST /v1/chat/completions`: an answer whole, or as server-sent events.

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::reply::{
    Choice, Chunk, ChunkChoice, Completion, DeltaReply, FINGERPRINT, Head, LogprobsReply, MessageReply,
    UsageReply,
};
use super::request::{self, ChatRequest};
use crate::chat::{Done, Token};
use crate::http::answer::{self, Script, Whole, finish_reason};
use crate::http::body::{Body, json};
use crate::http::error::ApiError;
use crate::http::{Context, unix_time};
use crate::sys::chance;

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
        let chunks = Chunks { head, include_usage };
        answer::stream(ticket, chunks, limits.keepalive_comment_s.0).await
    } else {
        let whole = answer::collect(ticket).await?;
        Ok(json(StatusCode::OK, &completion(&head, whole, logprobs)))
    }
}

fn completion(head: &Head, whole: Whole, logprobs: bool) -> Completion<'_> {
    let Whole { said, logprobs: tokens, done } = whole;
    let message = MessageReply {
        role: "assistant",
        content: said.content,
        reasoning_content: said.reasoning,
        refusal: None,
    };
    let logprobs = logprobs.then_some(LogprobsReply { content: tokens, refusal: None });
    let choice = Choice { index: 0, message, logprobs, finish_reason: finish_reason(done.finish) };
    Completion { head, choices: [choice], usage: done.usage.into() }
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
}

impl Script for Chunks {
    const KIND: &'static str = "text/event-stream; charset=utf-8";

    /// The role.
    fn begin(&self) -> Option<Bytes> {
        let delta =
            DeltaReply { role: Some("assistant"), content: Some(String::new()), reasoning_content: None };
        Some(self.choice(delta, None, None))
    }

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

    /// An error event, and no `[DONE]`.
    fn failure(&self, error: &ApiError) -> Bytes {
        data(&error.body())
    }

    fn idle(&self) -> Bytes {
        KEEP_ALIVE
    }
}

/// One server-sent event.
fn data(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_else(|_| "{}".into());
    format!("data: {json}\n\n").into()
}
