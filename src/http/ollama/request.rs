//! A chat or generate request in the common language.
//!
//! Unknown fields and options are ignored; known ones must be right.

use serde_json_borrow::Value;

use super::reply::Form;
use crate::chat::{Format, Input, KeepAlive, Limits, Message, Request, Role, Sampling, Think, Tools};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, missing, unsupported, wrong_type, wrong_value};
use crate::http::{form, message, sampling};

/// Ollama's seed for "draw one", as sampling reads it.
const ANY_SEED: u64 = u64::MAX;

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The model's name as the client wrote it.
    pub model: String,
    /// [`Input::Nothing`] where the client only wants the model loaded, or unloaded.
    pub request: Request,
    /// One JSON object a line instead of one altogether.
    pub stream: bool,
    /// A prompt alone: it continues the resident conversation, where there is one.
    pub continues: bool,
}

/// Parses a body. At most `messages` messages are taken.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn parse(kind: Form, body: &[u8], messages: usize) -> Result<Asked, ApiError> {
    let value = fields::json(body)?;
    let fields = Fields::root(&value)?;
    let model = fields.text("model")?.ok_or_else(|| missing("model"))?;
    refuse_unsupported(&fields, model)?;
    let input = match kind {
        Form::Chat => conversation(&fields, messages)?,
        Form::Generate => prompt(&fields)?,
    };
    let stream = fields.flag("stream")?.unwrap_or(true);
    let options = fields.object("options")?;
    let (sampling, limits) = options.as_ref().map_or(Ok(Default::default()), read_options)?;
    let (think, logprobs) = (think(&fields)?, sampling::logprobs(&fields)?);
    let limits = Limits { deadline_ms: form::deadline(&fields)?, ..limits };
    let tools = if kind == Form::Chat { form::tools(&fields)? } else { Tools::default() };
    let format = format(&fields)?;
    let request = Request {
        sampling,
        limits,
        format,
        tools,
        think,
        logprobs,
        buffered: !stream,
        keep_alive: keep_alive(&fields)?,
        ..Request::new(input.unwrap_or(Input::Nothing))
    };
    let continues = kind == Form::Generate && !self_contained(&fields)?;
    Ok(Asked { model: model.into(), request, stream, continues })
}

fn refuse_unsupported(fields: &Fields<'_>, model: &str) -> Result<(), ApiError> {
    // Clients look for these words.
    let cannot = |name, what| {
        let model: String = model.chars().take(200).collect();
        Err(ApiError::invalid(format!("\"{model}\" does not support {what}")).param(name))
    };
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return cannot("suffix", "insert");
    }
    refuse_images(fields)?;
    if fields.text("template")?.is_some_and(|template| !template.is_empty()) {
        return Err(unsupported("template", "brings a template, but the model's own is used"));
    }
    Ok(())
}

/// How long the model stays loaded: seconds, or one of Go's durations such as `1h30m`.
fn keep_alive(fields: &Fields<'_>) -> Result<Option<KeepAlive>, ApiError> {
    let seconds = match fields.get("keep_alive") {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::Str(text)) => seconds(text),
        Some(other) => return Err(wrong_type("keep_alive", "a number or a string", other)),
    };
    let wrong = || wrong_value("keep_alive", "must be seconds or a duration such as '10m', '24h' or '-1'");
    // Less than 0 is for ever, a fraction of a second not at once.
    let seconds = seconds.filter(|seconds| seconds.is_finite()).ok_or_else(wrong)?;
    Ok(Some(KeepAlive(if seconds < 0.0 { -1 } else { seconds.ceil() as i64 })))
}

/// One of Go's durations. A number without a unit counts as seconds.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit = tail.split(|c: char| c.is_ascii_digit() || c == '.').next()?;
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * scale;
        rest = tail.get(unit.len()..)?;
    }
    (!text.is_empty()).then_some(sign * sum)
}

/// `json`, or a schema.
fn format(fields: &Fields<'_>) -> Result<Format, ApiError> {
    match fields.get("format") {
        None => Ok(Format::Text),
        Some(Value::Str(word)) => match word.as_ref() {
            "" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(wrong_value("format", "must be 'json' or a JSON schema")),
        },
        Some(value) => form::schema("format", value).map(Format::Schema),
    }
}

fn refuse_images(fields: &Fields<'_>) -> Result<(), ApiError> {
    if fields.list("images")?.is_some_and(|images| !images.is_empty()) {
        return Err(unsupported(&fields.path("images"), "brings images, but this model takes text only"));
    }
    Ok(())
}

fn conversation(fields: &Fields<'_>, most: usize) -> Result<Option<Input>, ApiError> {
    let messages = message::list(fields, most, read_message)?.unwrap_or_default();
    Ok((!messages.is_empty()).then_some(Input::Chat(messages)))
}

fn read_message(fields: &Fields<'_>) -> Result<Message, ApiError> {
    refuse_images(fields)?;
    let owned = |name| fields.text(name).map(|text| text.map(str::to_owned));
    Ok(Message {
        role: message::role(fields)?,
        content: message::content(fields)?.unwrap_or_default(),
        name: owned("tool_name")?,
        reasoning: owned("thinking")?,
        tool_calls: message::tool_calls(fields)?,
        tool_call_id: owned("tool_call_id")?,
    })
}

/// Whether a prompt brings what comes before it along, or wants nothing there.
fn self_contained(fields: &Fields<'_>) -> Result<bool, ApiError> {
    let system = fields.text("system")?.is_some_and(|system| !system.is_empty());
    let context =
        fields.get("context").is_some_and(|context| context.as_array().is_none_or(|all| !all.is_empty()));
    Ok(system || context || fields.flag("raw")?.unwrap_or(false))
}

/// A prompt, and what comes before it; the old `context` is ignored.
fn prompt(fields: &Fields<'_>) -> Result<Option<Input>, ApiError> {
    let prompt = fields.text("prompt")?.unwrap_or_default();
    let system = fields.text("system")?.filter(|system| !system.is_empty());
    let raw = fields.flag("raw")?.unwrap_or(false);
    if raw && system.is_some() {
        return Err(unsupported("system", "is given, but a raw prompt is taken as it is"));
    }
    if prompt.is_empty() {
        return Ok(None);
    }
    if raw {
        return Ok(Some(Input::Raw(prompt.into())));
    }
    let system = system.map(|system| Message::text(Role::System, system));
    Ok(Some(Input::Chat(system.into_iter().chain([Message::text(Role::User, prompt)]).collect())))
}

fn read_options(options: &Fields<'_>) -> Result<(Sampling, Limits), ApiError> {
    let sampling = sampling::read(options)?;
    let seed = sampling.seed.filter(|&seed| seed != ANY_SEED);
    // −1 without end, −2 until the context is full: here the same.
    let most = options.integer("num_predict", -2..=sampling::MANY)?;
    let max_tokens = most.map(|n| u32::try_from(n).ok().filter(|&n| n > 0).unwrap_or(u32::MAX));
    let context = options.integer("num_ctx", 0..=sampling::MANY)?;
    let context = context.and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
    Ok((Sampling { seed, ..sampling }, Limits { max_tokens, context, ..Limits::default() }))
}

fn think(fields: &Fields<'_>) -> Result<Think, ApiError> {
    match fields.get("think") {
        None => Ok(Think::Default),
        Some(Value::Bool(true)) => Ok(Think::On),
        Some(Value::Bool(false)) => Ok(Think::Off),
        Some(Value::Str(level)) => match level.as_ref() {
            "low" | "medium" | "high" | "max" => Ok(Think::On),
            _ => Err(wrong_value("think", "must be true, false, 'low', 'medium', 'high' or 'max'")),
        },
        Some(other) => Err(wrong_type("think", "a boolean or a string", other)),
    }
}

#[cfg(test)]
mod tests;
