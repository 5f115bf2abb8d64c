//! `POST /v1/completions`: text that continues a prompt, whole or as server-sent events.
//!
//! | to change | open |
//! |---|---|
//! | which parameters are understood | [`request`] |
//! | what answers look like | [`reply`] |

pub mod reply;
pub mod request;

use bytes::Bytes;
use hyper::{Response, StatusCode};

use self::reply::{Choice, Completion, Logprobs};
use self::request::Asked;
use super::chat::{DONE, KEEP_ALIVE, data, head};
use super::reply::Head;
use super::several;
use crate::chat::{Done, Token, Usage};
use crate::http::answer::{self, Script, TokenReply, Whole, finish_reason};
use crate::http::body::{Body, json};
use crate::http::caller::Caller;
use crate::http::choices::Choices;
use crate::http::error::ApiError;
use crate::http::{Context, names};

/// Answers a completion request; Azure's `deployment` is the model where the body names none.
/// Dropping the future, or the body of a stream, gives the request up.
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
    let asked = request::parse(&body, &limits, deployment.as_deref())?;
    drop(body);
    let Asked { model, mut prompts, n, stream, include_usage } = asked;
    let model = names::admit(context, &model)?;
    prompts.iter_mut().for_each(|request| request.model.clone_from(&model));
    let logprobs = prompts.first().is_some_and(|request| request.logprobs.is_some());
    let count = prompts.len().saturating_mul(n);
    several::bound(if prompts.len() > 1 { "prompt" } else { "n" }, count, &limits)?;
    let requests = prompts.into_iter().flat_map(move |request| several::spread(request, n));
    let choices = Choices::submit(context, caller, requests).await?;
    let head = head(context, model.as_deref(), "cmpl", "text_completion");
    if stream {
        let texts = vec![Text::default(); count];
        let chunks = Chunks { head, include_usage, n, logprobs, texts };
        return answer::stream(choices, chunks, limits.keepalive_comment_s.0).await;
    }
    let all = answer::collect(choices).await?;
    let usages: Vec<Usage> = all.iter().map(|whole| whole.done.usage).collect();
    let choice = |(index, whole): (usize, Whole)| {
        let mut offset = 0;
        let logprobs = logprobs.then(|| Logprobs::new(whole.logprobs, &mut offset));
        Choice {
            index,
            text: whole.said.content,
            logprobs,
            finish_reason: Some(finish_reason(whole.done.finish)),
        }
    };
    let choices = all.into_iter().enumerate().map(choice).collect();
    let usage = Some(Some(several::usage(&usages, n).into()));
    Ok(json(StatusCode::OK, &Completion { head: &head, choices, usage }))
}

/// What a stream knows of one choice.
#[derive(Clone, Default)]
struct Text {
    /// Characters of the tokens told so far.
    offset: usize,
    usage: Usage,
}

struct Chunks {
    head: Head,
    include_usage: bool,
    /// Answers to each prompt.
    n: usize,
    logprobs: bool,
    texts: Vec<Text>,
}

impl Chunks {
    fn chunk(&self, choices: Vec<Choice>, usage: Option<Usage>) -> Bytes {
        let usage = self.include_usage.then(|| usage.map(Into::into));
        data(&Completion { head: &self.head, choices, usage })
    }
}

impl Script for Chunks {
    const KIND: &'static str = "text/event-stream; charset=utf-8";

    fn begin(&mut self) -> Option<Bytes> {
        None
    }

    fn token(&mut self, index: usize, token: Token) -> Option<Bytes> {
        let tokens: Vec<TokenReply> = token.logprobs.map(TokenReply::from).into_iter().collect();
        if token.delta.content.is_empty() && tokens.is_empty() {
            return None;
        }
        let text = self.texts.get_mut(index)?;
        let logprobs = self.logprobs.then(|| Logprobs::new(tokens, &mut text.offset));
        let choice = Choice { index, text: token.delta.content, logprobs, finish_reason: None };
        Some(self.chunk(vec![choice], None))
    }

    /// What was held back, with the reason of the end.
    fn end(&mut self, index: usize, done: Done) -> Option<Bytes> {
        self.texts.get_mut(index)?.usage = done.usage;
        let finish_reason = Some(finish_reason(done.finish));
        let choice = Choice { index, text: done.tail.content, logprobs: None, finish_reason };
        Some(self.chunk(vec![choice], None))
    }

    /// The usage where asked for, and the end mark.
    fn close(&mut self) -> Option<Bytes> {
        let mut end = Vec::new();
        if self.include_usage {
            let usages: Vec<Usage> = self.texts.iter().map(|text| text.usage).collect();
            end.extend_from_slice(&self.chunk(Vec::new(), Some(several::usage(&usages, self.n))));
        }
        end.extend_from_slice(&DONE);
        Some(end.into())
    }

    fn failure(&mut self, error: &ApiError) -> Bytes {
        data(&error.body())
    }

    fn idle(&mut self) -> Bytes {
        KEEP_ALIVE
    }
}

#[cfg(test)]
mod tests;
