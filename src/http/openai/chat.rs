//! `POST /v1/chat/completions`: an answer whole, or as server-sent events.

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::reply::{
    CallReply, Choice, Chunk, ChunkChoice, Completion, DeltaReply, FINGERPRINT, Head, LogprobsReply,
    MessageReply, UsageReply,
};
use super::request::{self, ChatRequest};
use super::several;
use crate::chat::{Done, Token, Usage};
use crate::http::answer::{self, Script, Whole, finish_reason};
use crate::http::body::{Body, json};
use crate::http::caller::Caller;
use crate::http::choices::Choices;
use crate::http::error::ApiError;
use crate::http::{Context, names, unix_time};
use crate::sys::chance;

/// What clients of event streams ignore.
pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// The end mark.
pub(super) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// Answers a chat completion request; Azure's `deployment` is the model where the body names
/// none. Dropping the future, or the body of a stream, gives the request up.
///
/// # Errors
/// Everything that is known to be wrong before the answer begins.
pub async fn complete(
    context: &Context,
    caller: &Caller,
    deployment: Option<String>,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let limits = context.service.settings().limits;
    let asked = request::parse(&body, limits.messages, deployment.as_deref())?;
    drop(body);
    let ChatRequest { model, request, n, stream, include_usage } = asked;
    names::admit(context, &model)?;
    several::bound("n", n, &limits)?;
    let logprobs = request.logprobs.is_some();
    let choices = Choices::submit(context, caller, several::spread(request, n)).await?;
    let object = if stream { "chat.completion.chunk" } else { "chat.completion" };
    let head = head(context, "chatcmpl", object);
    if stream {
        let chunks = Chunks { head, include_usage, usages: vec![Usage::default(); n] };
        answer::stream(choices, chunks, limits.keepalive_comment_s.0).await
    } else {
        let all = answer::collect(choices).await?;
        Ok(json(StatusCode::OK, &completion(&head, all, logprobs)))
    }
}

/// The head of an answer that begins now.
pub(super) fn head(context: &Context, kind: &str, object: &'static str) -> Head {
    let model = context.service.status().model.map(|model| model.name).unwrap_or_default();
    let id = format!("{kind}-{:016x}{:016x}", chance::bits(), chance::bits());
    Head { id, object, created: unix_time(), model, system_fingerprint: FINGERPRINT }
}

fn completion(head: &Head, all: Vec<Whole>, logprobs: bool) -> Completion<'_> {
    let usages: Vec<Usage> = all.iter().map(|whole| whole.done.usage).collect();
    let choice = |(index, whole)| {
        let Whole { said, logprobs: tokens, done } = whole;
        // Pieces need an index, whole calls are in order.
        let calls = said.calls.into_iter();
        let calls = calls.map(|call| CallReply { index: None, ..CallReply::new(&head.id, index, call) });
        let message = MessageReply {
            role: "assistant",
            content: said.content,
            reasoning_content: said.reasoning,
            tool_calls: calls.collect(),
            refusal: None,
            annotations: [],
        };
        let logprobs = logprobs.then_some(LogprobsReply { content: tokens, refusal: None });
        Choice { index, message, logprobs, finish_reason: finish_reason(done.finish) }
    };
    let usage = several::usage(&usages, usages.len()).into();
    Completion { head, choices: (0..).zip(all).map(choice).collect(), usage }
}

struct Chunks {
    head: Head,
    include_usage: bool,
    /// Each choice's, once it has ended.
    usages: Vec<Usage>,
}

impl Chunks {
    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<UsageReply>) -> Bytes {
        data(&Chunk { head: &self.head, choices, usage: self.include_usage.then_some(usage) })
    }

    fn choice(
        &self,
        index: usize,
        delta: DeltaReply,
        logprobs: Option<LogprobsReply>,
        finish_reason: Option<&'static str>,
    ) -> Bytes {
        self.chunk(vec![ChunkChoice { index, delta, logprobs, finish_reason }], None)
    }
}

impl Script for Chunks {
    const KIND: &'static str = "text/event-stream; charset=utf-8";

    /// The role, for each choice.
    fn begin(&mut self) -> Option<Bytes> {
        let role = |index| {
            let content = Some(String::new());
            let delta = DeltaReply { role: Some("assistant"), content, ..DeltaReply::default() };
            self.choice(index, delta, None, None)
        };
        Some((0..self.usages.len()).flat_map(role).collect())
    }

    fn token(&mut self, choice: usize, token: Token) -> Option<Bytes> {
        if token.delta.is_empty() && token.logprobs.is_none() {
            return None;
        }
        let mut delta = DeltaReply::new(&self.head.id, choice, token.delta);
        if delta.content.is_none() && delta.reasoning_content.is_none() && delta.tool_calls.is_empty() {
            delta.content = Some(String::new());
        }
        Some(self.choice(choice, delta, token.logprobs.map(Into::into), None))
    }

    /// What was held back, and the reason of the end.
    fn end(&mut self, choice: usize, done: Done) -> Option<Bytes> {
        let mut end = Vec::new();
        if !done.tail.is_empty() {
            let tail = DeltaReply::new(&self.head.id, choice, done.tail);
            end.extend_from_slice(&self.choice(choice, tail, None, None));
        }
        let reason = Some(finish_reason(done.finish));
        end.extend_from_slice(&self.choice(choice, DeltaReply::default(), None, reason));
        if let Some(usage) = self.usages.get_mut(choice) {
            *usage = done.usage;
        }
        Some(end.into())
    }

    /// The usage where asked for, and the end mark.
    fn close(&mut self) -> Option<Bytes> {
        let mut end = Vec::new();
        if self.include_usage {
            let usage = several::usage(&self.usages, self.usages.len());
            end.extend_from_slice(&self.chunk(Vec::new(), Some(usage.into())));
        }
        end.extend_from_slice(&DONE);
        Some(end.into())
    }

    /// An error event, and no `[DONE]`.
    fn failure(&mut self, error: &ApiError) -> Bytes {
        data(&error.body())
    }

    fn idle(&mut self) -> Bytes {
        KEEP_ALIVE
    }
}

/// One server-sent event.
pub(super) fn data(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_else(|_| "{}".into());
    format!("data: {json}\n\n").into()
}
