//! A request of the Responses interface in the common language.

use serde_json::{Map, Value};

use crate::chat::{Input, Limits, Message, Request, Role, Think};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, missing, unsupported, wrong_type, wrong_value};
use crate::http::form;
use crate::http::message::{content, role};
use crate::http::openai::request::{model, sampling, think, tokens};

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The model's name as the client wrote it.
    pub model: String,
    pub request: Request,
    pub stream: bool,
    pub told: Told,
}

/// What the answer repeats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub instructions: Option<String>,
    pub max_output_tokens: Option<u32>,
    pub metadata: Map<String, Value>,
    pub effort: Option<String>,
    pub user: Option<String>,
}

/// Parses a body. At most `messages` items of input are taken.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn parse(body: &[u8], messages: usize) -> Result<Asked, ApiError> {
    let value = fields::json(body)?;
    let fields = Fields::root(&value)?;
    let model = model(&fields, None)?;
    refuse_unsupported(&fields)?;
    let owned = |name| fields.text(name).map(|text| text.map(str::to_owned));
    let (reasoning, text) = (fields.object("reasoning")?, fields.object("text")?);
    let effort = reasoning.as_ref().map_or(Ok(None), |reasoning| reasoning.text("effort"))?;
    let told = Told {
        instructions: owned("instructions")?,
        max_output_tokens: tokens(&fields, "max_output_tokens")?,
        metadata: fields.typed("metadata", "an object", Value::as_object)?.cloned().unwrap_or_default(),
        effort: effort.map(str::to_owned),
        user: owned("user")?,
    };
    let instructions = told.instructions.iter().map(|text| Message::text(Role::System, text.as_str()));
    let input: Vec<Message> = instructions.chain(input(&fields, messages)?).collect();
    let stream = fields.flag("stream")?.unwrap_or(false);
    let request = Request {
        sampling: sampling(&fields)?,
        limits: Limits { max_tokens: told.max_output_tokens, ..Limits::default() },
        think: match effort {
            None => think(&fields)?,
            Some("none") => Think::Off,
            Some(_) => Think::On,
        },
        format: form::format(text.as_ref().map_or(Ok(None), |text| text.object("format"))?.as_ref(), false)?,
        buffered: !stream,
        ..Request::new(Input::Chat(input))
    };
    Ok(Asked { model, request, stream, told })
}

fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), ApiError> {
    // Nothing is kept, so whether to keep an answer makes no difference.
    fields.flag("store")?;
    for name in ["previous_response_id", "conversation"] {
        if fields.get(name).is_some() {
            let what =
                "names an earlier answer, but this server keeps none: send the whole conversation as 'input'";
            return Err(unsupported(name, what));
        }
    }
    if fields.flag("background")?.unwrap_or(false) {
        return Err(unsupported("background", "is true, but answers are given while the client waits"));
    }
    if fields.get("prompt").is_some() {
        return Err(unsupported("prompt", "names a stored prompt, but this server keeps none"));
    }
    if fields.list("tools")?.is_some_and(|tools| !tools.is_empty()) {
        return Err(unsupported("tools", "names tools, but this server offers none to the model"));
    }
    let choice = fields.get("tool_choice");
    if choice.is_some_and(|choice| !matches!(choice.as_str(), Some("none" | "auto"))) {
        return Err(unsupported("tool_choice", "asks for a tool, but only 'none' and 'auto' are possible"));
    }
    if fields.integer("top_logprobs", 0..=20)?.is_some_and(|top| top > 0) {
        return Err(unsupported(
            "top_logprobs",
            "asks for log-probabilities: use /v1/chat/completions for them",
        ));
    }
    Ok(())
}

/// A string, or items of which only messages mean something here.
fn input(fields: &Fields<'_>, most: usize) -> Result<Vec<Message>, ApiError> {
    let items = match fields.get("input").ok_or_else(|| missing("input"))? {
        Value::String(text) => return Ok(vec![Message::text(Role::User, text.as_str())]),
        Value::Array(items) => items,
        other => return Err(wrong_type("input", "a string or an array of items", other)),
    };
    if items.is_empty() {
        return Err(wrong_value("input", "is empty, but needs at least one item"));
    }
    if items.len() > most {
        let count = items.len();
        return Err(wrong_value("input", format_args!("has {count} items, at most {most} are taken")));
    }
    let each = items
        .iter()
        .enumerate()
        .map(|(index, item)| read(&Fields::nested(item, &format!("input[{index}]"))?));
    let messages: Vec<Message> = each.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    if messages.is_empty() {
        return Err(wrong_value("input", "has no message"));
    }
    Ok(messages)
}

fn read(item: &Fields<'_>) -> Result<Option<Message>, ApiError> {
    match item.text("type")? {
        None | Some("message") => {
            let text = content(item)?.ok_or_else(|| missing(&item.path("content")))?;
            Ok(Some(Message::text(role(item)?, text)))
        }
        // Clients send it back; it is not part of what was said.
        Some("reasoning") => Ok(None),
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            let what = format_args!("is '{shown}', but only messages are understood");
            Err(unsupported(&item.path("type"), what))
        }
    }
}
