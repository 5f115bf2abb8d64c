//! A completion request in the common language.

use serde_json_borrow::Value;

use crate::chat::{Input, Limits, Request};
use crate::config::Limits as Bounds;
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, missing, unsupported, wrong_type, wrong_value};
use crate::http::openai::request::{model, sampling, stream, think, tokens};
use crate::http::openai::{message, several};

/// OpenAI's own bound is 5.
const ALTERNATIVES: i64 = 20;

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The model's name as the client wrote it.
    pub model: String,
    /// One request per prompt.
    pub prompts: Vec<Request>,
    /// How many answers to each.
    pub n: usize,
    pub stream: bool,
    pub include_usage: bool,
}

/// Parses a body within `bounds`; `deployment` is the model where the
/// body names none.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn parse(body: &[u8], bounds: &Bounds, deployment: Option<&str>) -> Result<Asked, ApiError> {
    let value = fields::json(body)?;
    let fields = Fields::root(&value)?;
    let model = model(&fields, deployment)?;
    fields.text("user")?;
    let n = several::asked(&fields)?;
    refuse_unsupported(&fields, n)?;
    let (stream, include_usage) = stream(&fields)?;
    let limits = Limits { max_tokens: tokens(&fields, "max_tokens")?, ..Limits::default() };
    let logprobs = fields.integer("logprobs", 0..=ALTERNATIVES)?.and_then(|top| u8::try_from(top).ok());
    let request = Request {
        sampling: sampling(&fields)?,
        limits,
        think: think(&fields)?,
        logprobs,
        buffered: !stream,
        ..Request::new(Input::Raw(String::new()))
    };
    let inputs = inputs(&fields, bounds)?;
    let prompts = inputs.into_iter().map(|input| Request { input, ..request.clone() }).collect();
    Ok(Asked { model, prompts, n, stream, include_usage })
}

fn refuse_unsupported(fields: &Fields<'_>, n: usize) -> Result<(), ApiError> {
    if fields.flag("echo")?.unwrap_or(false) {
        return Err(unsupported("echo", "is true, but the prompt is not repeated"));
    }
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(unsupported("suffix", "is given, but this model only continues text"));
    }
    let best_of = fields.integer("best_of", 1..=i64::from(u8::MAX))?;
    if let Some(best_of) = best_of.filter(|&best_of| usize::try_from(best_of) != Ok(n)) {
        return Err(unsupported(
            "best_of",
            format_args!("is {best_of}, but only 'n', which is {n}, is possible"),
        ));
    }
    Ok(())
}

/// The prompts; the messages of a chat, where a client sends those.
fn inputs(fields: &Fields<'_>, bounds: &Bounds) -> Result<Vec<Input>, ApiError> {
    let prompts = match fields.get("prompt") {
        None if fields.get("messages").is_some() => {
            return Ok(vec![Input::Chat(message::read_all(fields, bounds.messages)?)]);
        }
        None => return Err(missing("prompt")),
        Some(Value::Str(prompt)) => return Ok(vec![raw("prompt", prompt)?]),
        Some(Value::Array(prompts)) if !prompts.is_empty() => prompts,
        Some(Value::Array(_)) => {
            return Err(wrong_value("prompt", "is empty, but needs at least one prompt"));
        }
        Some(other) => return Err(wrong_type("prompt", "a string or an array of strings", other)),
    };
    if prompts.iter().any(|prompt| prompt.is_number() || prompt.is_array()) {
        return Err(unsupported("prompt", "is made of token numbers, but only text is taken"));
    }
    several::bound("prompt", prompts.len(), bounds)?;
    let each = prompts.iter().enumerate().map(|(index, prompt)| {
        let path = format!("prompt[{index}]");
        raw(&path, prompt.as_str().ok_or_else(|| wrong_type(&path, "a string", prompt))?)
    });
    each.collect()
}

fn raw(path: &str, prompt: &str) -> Result<Input, ApiError> {
    if prompt.is_empty() {
        return Err(wrong_value(path, "is empty, but there must be something to continue"));
    }
    Ok(Input::Raw(prompt.into()))
}
