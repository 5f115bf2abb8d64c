//! Messages: roles, texts and text parts, tool calls of earlier turns.

use serde_json::Value;

use super::fields::{Fields, missing, unsupported, wrong_type, wrong_value};
use crate::chat::{Message, Role, ToolCall};
use crate::http::error::ApiError;

/// Reads `messages`, at most `most` of them.
pub fn read_all(request: &Fields<'_>, most: usize) -> Result<Vec<Message>, ApiError> {
    let messages = request.list("messages")?.ok_or_else(|| missing("messages"))?;
    if messages.is_empty() {
        return Err(wrong_value("messages", "is empty, but needs at least one message"));
    }
    if messages.len() > most {
        return Err(wrong_value(
            "messages",
            format_args!("has {} messages, at most {most} are taken", messages.len()),
        ));
    }
    let each = messages.iter().enumerate();
    each.map(|(index, value)| read(&Fields::nested(value, &format!("messages[{index}]"))?)).collect()
}

fn read(fields: &Fields<'_>) -> Result<Message, ApiError> {
    let role = match fields.text("role")?.ok_or_else(|| missing(&fields.path("role")))? {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => {
            let shown: String = other.chars().take(40).collect();
            let known = "'system', 'developer', 'user', 'assistant' or 'tool'";
            return Err(wrong_value(&fields.path("role"), format_args!("is '{shown}', but must be {known}")));
        }
    };
    let tool_calls = tool_calls(fields)?;
    let content = match content(fields)? {
        Some(content) => content,
        // An assistant that only called tools, or was cut off, has said nothing.
        None if role == Role::Assistant => String::new(),
        None => return Err(missing(&fields.path("content"))),
    };
    let owned = |name| fields.text(name).map(|text| text.map(str::to_owned));
    let reasoning = owned("reasoning_content")?.or(owned("reasoning")?);
    Ok(Message {
        role,
        content,
        name: owned("name")?,
        reasoning,
        tool_calls,
        tool_call_id: owned("tool_call_id")?,
    })
}

/// A string, or text parts joined by line breaks.
fn content(fields: &Fields<'_>) -> Result<Option<String>, ApiError> {
    let path = fields.path("content");
    let parts = match fields.get("content") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(wrong_type(&path, "a string or an array of parts", other)),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let part = Fields::nested(part, &format!("{path}[{index}]"))?;
        let field = match part.text("type")?.ok_or_else(|| missing(&part.path("type")))? {
            "text" | "input_text" | "output_text" => "text",
            "refusal" => "refusal",
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(unsupported(
                    &part.path("type"),
                    format_args!("is '{shown}', but this model takes text parts only"),
                ));
            }
        };
        texts.push(part.text(field)?.ok_or_else(|| missing(&part.path(field)))?);
    }
    Ok(Some(texts.join("\n")))
}

fn tool_calls(fields: &Fields<'_>) -> Result<Vec<ToolCall>, ApiError> {
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    let each = calls.iter().enumerate().map(|(index, call)| {
        let call = Fields::nested(call, &format!("{}[{index}]", fields.path("tool_calls")))?;
        let function = call.object("function")?.ok_or_else(|| missing(&call.path("function")))?;
        let name = function.text("name")?.ok_or_else(|| missing(&function.path("name")))?;
        let arguments = function.text("arguments")?.unwrap_or("{}");
        let id = call.text("id")?.unwrap_or_default();
        Ok(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
    });
    each.collect()
}
