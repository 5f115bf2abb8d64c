//! A request of the Responses interface in the common language.

use serde_json::{Map, json};
use serde_json_borrow::Value;

use crate::chat::{Input, Limits, Message, Request, Role, Think, ToolCall, ToolChoice, Tools};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, missing, unsupported, wrong_type, wrong_value};
use crate::http::form;
use crate::http::message::{self, content, role};
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
    pub metadata: Map<String, serde_json::Value>,
    pub effort: Option<String>,
    pub user: Option<String>,
    /// The answer's form, unless it is text.
    pub format: Option<serde_json::Value>,
    pub tools: Tools,
}

impl Told {
    /// The functions that may be called.
    pub fn functions(&self) -> serde_json::Value {
        let function = |tool: &crate::chat::Tool| {
            json!({
                "type": "function", "name": tool.name, "description": tool.description,
                "parameters": tool.parameters, "strict": true,
            })
        };
        self.tools.list.iter().map(function).collect()
    }

    /// Whether one is.
    pub fn choice(&self) -> serde_json::Value {
        match &self.tools.choice {
            ToolChoice::Auto => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Named(name) => json!({"type": "function", "name": name}),
        }
    }
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
    let format = text.as_ref().map_or(Ok(None), |text| text.object("format"))?;
    let effort = reasoning.as_ref().map_or(Ok(None), |reasoning| reasoning.text("effort"))?;
    let told = Told {
        instructions: owned("instructions")?,
        max_output_tokens: tokens(&fields, "max_output_tokens")?,
        metadata: fields.typed("metadata", "an object", Value::as_object)?.map(Map::from).unwrap_or_default(),
        effort: effort.map(str::to_owned),
        user: owned("user")?,
        format: text.as_ref().and_then(|text| text.get("format")).map(serde_json::Value::from),
        tools: form::tools(&fields)?,
    };
    let instructions = told.instructions.iter().map(|text| Message::text(Role::System, text.as_str()));
    let input: Vec<Message> = instructions.chain(input(&fields, messages)?).collect();
    let stream = fields.flag("stream")?.unwrap_or(false);
    let request = Request {
        sampling: sampling(&fields)?,
        limits: Limits {
            max_tokens: told.max_output_tokens,
            deadline_ms: form::deadline(&fields)?,
            ..Limits::default()
        },
        think: match effort {
            None => think(&fields)?,
            Some("none") => Think::Off,
            Some(_) => Think::On,
        },
        format: form::format(format.as_ref(), false)?,
        tools: told.tools.clone(),
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
    if fields.integer("top_logprobs", 0..=20)?.is_some_and(|top| top > 0) {
        return Err(unsupported(
            "top_logprobs",
            "asks for log-probabilities: use /v1/chat/completions for them",
        ));
    }
    Ok(())
}

/// A string, or items: messages, calls of functions and what those gave.
fn input(fields: &Fields<'_>, most: usize) -> Result<Vec<Message>, ApiError> {
    let items = match fields.get("input").ok_or_else(|| missing("input"))? {
        Value::Str(text) => return Ok(vec![Message::text(Role::User, text.as_ref())]),
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
    let mut messages = Vec::new();
    for (index, item) in items.iter().enumerate() {
        add(&mut messages, &Fields::element(item, "input", index)?)?;
    }
    if messages.is_empty() {
        return Err(wrong_value("input", "has no message"));
    }
    Ok(messages)
}

/// Adds what an item says.
fn add(messages: &mut Vec<Message>, item: &Fields<'_>) -> Result<(), ApiError> {
    let needed = |name: &str| item.text(name)?.map(str::to_owned).ok_or_else(|| missing(&item.path(name)));
    match item.text("type")? {
        None | Some("message") => {
            let text = content(item)?.ok_or_else(|| missing(&item.path("content")))?;
            messages.push(Message::text(role(item)?, text));
        }
        Some("function_call") => {
            let arguments = needed("arguments")?;
            let call = ToolCall { id: needed("call_id")?, name: needed("name")?, arguments };
            // What the model said and called in one turn is one message.
            match messages.last_mut().filter(|message| message.role == Role::Assistant) {
                Some(message) => message.tool_calls.push(call),
                None => {
                    let message = Message::text(Role::Assistant, "");
                    messages.push(Message { tool_calls: vec![call], ..message });
                }
            }
        }
        Some("function_call_output") => {
            let output = message::text(item, "output")?.ok_or_else(|| missing(&item.path("output")))?;
            let message = Message::text(Role::Tool, output);
            messages.push(Message { tool_call_id: Some(needed("call_id")?), ..message });
        }
        // Clients send it back; it is not part of what was said.
        Some("reasoning") => {}
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            let known = "'message', 'function_call', 'function_call_output' and 'reasoning'";
            return Err(unsupported(
                &item.path("type"),
                format_args!("is '{shown}', but only {known} are understood"),
            ));
        }
    }
    Ok(())
}
