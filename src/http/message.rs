//! Messages of a conversation: what dialects have in common.

use serde_json_borrow::Value;

use super::error::ApiError;
use super::fields::{Fields, missing, unsupported, wrong_type, wrong_value};
use crate::chat::{Message, Role, ToolCall};

/// Reads `messages`, at most `most` of them, each by `read`.
///
/// # Errors
/// 400 with the name of what is wrong.
pub fn list(
    request: &Fields<'_>,
    most: usize,
    read: impl Fn(&Fields<'_>) -> Result<Message, ApiError>,
) -> Result<Option<Vec<Message>>, ApiError> {
    let Some(messages) = request.list("messages")? else { return Ok(None) };
    if messages.len() > most {
        return Err(wrong_value(
            "messages",
            format_args!("has {} messages, at most {most} are taken", messages.len()),
        ));
    }
    let each = messages.iter().enumerate();
    let each = each.map(|(index, value)| read(&Fields::element(value, "messages", index)?));
    each.collect::<Result<_, _>>().map(Some)
}

/// Who speaks.
pub fn role(fields: &Fields<'_>) -> Result<Role, ApiError> {
    Ok(match fields.text("role")?.ok_or_else(|| missing(&fields.path("role")))? {
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
    })
}

/// What a message says.
pub fn content(fields: &Fields<'_>) -> Result<Option<String>, ApiError> {
    text(fields, "content")
}

/// A string, or text parts joined by line breaks.
pub fn text(fields: &Fields<'_>, name: &str) -> Result<Option<String>, ApiError> {
    let path = || fields.path(name);
    let parts = match fields.get(name) {
        None => return Ok(None),
        Some(Value::Str(text)) => return Ok(Some(text.clone().into_owned())),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(wrong_type(&path(), "a string or an array of parts", other)),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let part = Fields::nested(part, &format!("{}[{index}]", path()))?;
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

/// Calls of tools that earlier turns made; arguments are JSON text or an object.
pub fn tool_calls(fields: &Fields<'_>) -> Result<Vec<ToolCall>, ApiError> {
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    let each = calls.iter().enumerate().map(|(index, call)| {
        let call = Fields::nested(call, &format!("{}[{index}]", fields.path("tool_calls")))?;
        let function = call.object("function")?.ok_or_else(|| missing(&call.path("function")))?;
        let name = function.text("name")?.ok_or_else(|| missing(&function.path("name")))?;
        let arguments = match function.get("arguments") {
            None => "{}".to_owned(),
            Some(Value::Str(text)) => text.clone().into_owned(),
            Some(object @ Value::Object(_)) => object.to_string(),
            Some(other) => {
                return Err(wrong_type(&function.path("arguments"), "a string or an object", other));
            }
        };
        let id = call.text("id")?.unwrap_or_default();
        Ok(ToolCall { id: id.into(), name: name.into(), arguments })
    });
    each.collect()
}
