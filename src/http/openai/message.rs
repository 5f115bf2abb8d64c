//! Messages as OpenAI writes them.

use crate::chat::{Message, Role};
use crate::http::error::ApiError;
use crate::http::fields::{Fields, missing, wrong_value};
use crate::http::message::{content, list, role, tool_calls};

/// Reads `messages`: at least one, at most `most` of them.
pub fn read_all(request: &Fields<'_>, most: usize) -> Result<Vec<Message>, ApiError> {
    let messages = list(request, most, read)?.ok_or_else(|| missing("messages"))?;
    if messages.is_empty() {
        return Err(wrong_value("messages", "is empty, but needs at least one message"));
    }
    Ok(messages)
}

fn read(fields: &Fields<'_>) -> Result<Message, ApiError> {
    let role = role(fields)?;
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
