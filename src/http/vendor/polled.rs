//! The runtime's own `/api/generate`: it answers at once, and the text is polled from
//! `/api/generate_provider`. Only where `resident.polled` says so, and only for bodies without
//! a `model`, which Ollama's clients always name.

use std::mem;
use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde_json::{Value, json as value};
use tokio::sync::watch;

use super::control::done;
use crate::chat::{Event, Input, Message, Request, Role, Sampling};
use crate::http::Context;
use crate::http::body::{Body, json};
use crate::http::caller::Caller;
use crate::http::choices::Choices;
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, missing, set};
use crate::http::sampling;

/// The answer that is polled.
#[derive(Default)]
struct Answer {
    running: bool,
    /// What was not polled so far.
    text: String,
    /// Why it ended, where it failed.
    error: Option<String>,
}

/// Where the answer is polled from.
#[derive(Clone)]
pub struct Polled(Arc<watch::Sender<Answer>>);

impl Default for Polled {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Answer::default())))
    }
}

impl Polled {
    /// Clears the place for another answer, unless one is under way.
    fn begin(&self) -> bool {
        self.0.send_if_modified(|answer| {
            let free = !answer.running;
            if free {
                *answer = Answer { running: true, ..Answer::default() };
            }
            free
        })
    }
}

/// Ends the answer, however it ended.
struct Running(Polled);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.send_modify(|answer| answer.running = false);
    }
}

/// Whether a body of `/api/generate` is in the runtime's own form.
pub fn is_meant(context: &Context, body: &[u8]) -> bool {
    context.service.settings().resident.polled
        && fields::json(body)
            .is_ok_and(|body: Value| body.is_object() && body.get("model").is_none_or(Value::is_null))
}

/// Begins an answer that continues the resident conversation.
///
/// # Errors
/// 400 with the name of the wrong parameter, and while an answer is under way.
pub fn generate(context: &Arc<Context>, caller: &Caller, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let request = parse(body)?;
    if !context.polled.begin() {
        return Err(ApiError::invalid("llm is running"));
    }
    let running = Running(context.polled.clone());
    context.resident.ensure();
    tokio::spawn(answer(Arc::clone(context), caller.clone(), request, running));
    Ok(done())
}

/// `/api/generate_provider`: what was said since it was last asked.
///
/// # Errors
/// 404 where answers are not polled.
pub fn poll(context: &Context) -> Result<Response<Body>, ApiError> {
    if !context.service.settings().resident.polled {
        let message = "Answers are not polled here: set `resident.polled = true`, or read them from \
                       the reply of /api/generate.";
        return Err(ApiError::invalid(message).status(StatusCode::NOT_FOUND).code("unknown_url"));
    }
    let mut reply = Value::Null;
    context.polled.0.send_if_modified(|answer| {
        reply = value!({"response": mem::take(&mut answer.text), "done": !answer.running});
        if let Some(error) = answer.error.as_ref().filter(|_| !answer.running) {
            set(&mut reply, "error", error.as_str());
        }
        false
    });
    Ok(json(StatusCode::OK, &reply))
}

fn parse(body: &[u8]) -> Result<Request, ApiError> {
    let body = fields::json(body)?;
    let fields = Fields::root(&body)?;
    let prompt = fields.text("prompt")?.ok_or_else(|| missing("prompt"))?;
    let top_k = fields.integer("top-k", -1..=sampling::MANY)?.map(|k| u32::try_from(k).unwrap_or(0));
    let sampling = Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_k,
        top_p: fields.number("top-p", 0.0..=1.0)?,
        repeat_penalty: sampling::repeat_penalty(&fields, "repetition_penalty")?,
        ..Sampling::default()
    };
    Ok(Request { sampling, ..Request::new(Input::Chat(vec![Message::text(Role::User, prompt)])) })
}

async fn answer(context: Arc<Context>, caller: Caller, request: Request, running: Running) {
    let place = &running.0.0;
    let mut choices = match Choices::turn(&context, &caller, request).await {
        Ok(choices) => choices,
        Err(error) => return place.send_modify(|answer| answer.error = Some(error.message)),
    };
    while let Some((_, event)) = choices.next().await {
        place.send_modify(|answer| match event {
            Event::Token(token) => answer.text.push_str(&token.delta.content),
            Event::Done(done) => answer.text.push_str(&done.tail.content),
            Event::Failed(failure) => answer.error = Some(failure.to_string()),
            Event::Started(_) | Event::Restart => {}
        });
    }
}
