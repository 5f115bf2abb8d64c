//! A chat completion request in the common language.
//!
//! Unknown fields are ignored; known ones must be right. Beyond OpenAI's own parameters
//! those common among local servers are taken: `top_k`, `min_p`, `typical_p`,
//! `repeat_penalty` (or `repetition_penalty`), `repeat_last_n`, `enable_thinking`.

use serde_json_borrow::Value;

use super::{message, several};
use crate::chat::{Input, Limits, Request, Sampling, Think};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, missing, unsupported, wrong_type, wrong_value};
use crate::http::{form, sampling};

const BIASES: usize = 10_000;

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The model's name as the client wrote it.
    pub model: String,
    pub request: Request,
    /// How many answers.
    pub n: usize,
    /// Server-sent events instead of one JSON object.
    pub stream: bool,
    /// A last event with token counts.
    pub include_usage: bool,
}

/// Parses a body. At most `messages` messages are taken; `deployment` is the model where the
/// body names none.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn parse(body: &[u8], messages: usize, deployment: Option<&str>) -> Result<ChatRequest, ApiError> {
    let value = fields::json(body)?;
    let fields = Fields::root(&value)?;
    let model = model(&fields, deployment)?;
    fields.text("user")?;
    refuse_unsupported(&fields)?;
    let input = Input::Chat(message::read_all(&fields, messages)?);
    let (stream, include_usage) = stream(&fields)?;
    // The newer name goes before the deprecated one.
    let max_tokens = tokens(&fields, "max_completion_tokens")?.or(tokens(&fields, "max_tokens")?);
    let limits = Limits { max_tokens, deadline_ms: form::deadline(&fields)?, ..Limits::default() };
    let request = Request {
        sampling: sampling(&fields)?,
        limits,
        think: think(&fields)?,
        logprobs: sampling::logprobs(&fields)?,
        format: form::format(fields.object("response_format")?.as_ref(), true)?,
        tools: form::tools(&fields)?,
        buffered: !stream,
        ..Request::new(input)
    };
    Ok(ChatRequest { model, request, n: several::asked(&fields)?, stream, include_usage })
}

/// The model's name: the body's, else `deployment`.
pub(super) fn model(fields: &Fields<'_>, deployment: Option<&str>) -> Result<String, ApiError> {
    Ok(fields.text("model")?.or(deployment).ok_or_else(|| missing("model"))?.to_owned())
}

/// Whether the answer is streamed, and whether its usage is told.
pub(super) fn stream(fields: &Fields<'_>) -> Result<(bool, bool), ApiError> {
    let options = fields.object("stream_options")?;
    let include_usage = options.map_or(Ok(None), |options| options.flag("include_usage"))?;
    Ok((fields.flag("stream")?.unwrap_or(false), include_usage.unwrap_or(false)))
}

/// A number of tokens, from 1.
pub(super) fn tokens(fields: &Fields<'_>, name: &str) -> Result<Option<u32>, ApiError> {
    Ok(fields.integer(name, 1..=sampling::MANY)?.and_then(|n| u32::try_from(n).ok()))
}

fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), ApiError> {
    if fields.list("functions")?.is_some_and(|functions| !functions.is_empty()) {
        return Err(unsupported("functions", "is the old form: name them in 'tools'"));
    }
    let modalities = fields.list("modalities")?.unwrap_or_default();
    if modalities.iter().any(|modality| modality.as_str() != Some("text")) {
        return Err(unsupported("modalities", "asks for more than text"));
    }
    Ok(())
}

/// OpenAI's own parameters beside those all dialects know.
pub(super) fn sampling(fields: &Fields<'_>) -> Result<Sampling, ApiError> {
    let sampling = sampling::read(fields)?;
    let other_name = sampling::repeat_penalty(fields, "repetition_penalty")?;
    let repeat_penalty = sampling.repeat_penalty.or(other_name);
    Ok(Sampling { repeat_penalty, logit_bias: logit_bias(fields)?, ..sampling })
}

fn logit_bias(fields: &Fields<'_>) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(biases) = fields.typed("logit_bias", "an object", Value::as_object)? else {
        return Ok(Vec::new());
    };
    if biases.len() > BIASES {
        let count = biases.len();
        return Err(wrong_value(
            "logit_bias",
            format_args!("has {count} entries, at most {BIASES} are taken"),
        ));
    }
    let each = biases.iter().map(|(token, bias)| {
        let path = format!("logit_bias.{}", token.chars().take(40).collect::<String>());
        let id = token.parse().map_err(|_| wrong_value(&path, "is not a token's number"))?;
        let bias = bias.as_f64().ok_or_else(|| wrong_type(&path, "a number", bias))?;
        if !(-100.0..=100.0).contains(&bias) {
            return Err(wrong_value(&path, format_args!("is {bias}, but must be -100 to 100")));
        }
        Ok((id, bias as f32))
    });
    each.collect()
}

/// Whether the model thinks, by any of the switches.
pub(super) fn think(fields: &Fields<'_>) -> Result<Think, ApiError> {
    let template = fields.object("chat_template_kwargs")?;
    let template = template.map_or(Ok(None), |template| template.flag("enable_thinking"))?;
    if let Some(on) = fields.flag("enable_thinking")?.or(template) {
        return Ok(if on { Think::On } else { Think::Off });
    }
    match fields.text("reasoning_effort")? {
        None => Ok(Think::Default),
        Some("none") => Ok(Think::Off),
        Some("minimal" | "low" | "medium" | "high" | "xhigh") => Ok(Think::On),
        Some(_) => Err(wrong_value(
            "reasoning_effort",
            "must be 'none', 'minimal', 'low', 'medium', 'high' or 'xhigh'",
        )),
    }
}

#[cfg(test)]
mod tests;
