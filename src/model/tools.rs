//! Tools in a conversation: for templates that know them, and in words of our own for those
//! that do not.

use serde_json::{Value, json};

use crate::chat::{Message, Role, Tool, ToolCall};

/// A tool as templates expect it.
pub fn declaration(tool: &Tool) -> Value {
    let Tool { name, description, parameters } = tool;
    json!({
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    })
}

/// The conversation with tools, calls and results as plain text.
pub fn in_words(messages: &[Message], tools: &[Tool]) -> Vec<Message> {
    let mut told: Vec<Message> = messages.iter().map(plain).collect();
    if tools.is_empty() {
        return told;
    }
    let explained = explain(tools);
    match told.first_mut().filter(|first| matches!(first.role, Role::System | Role::Developer)) {
        Some(first) => {
            first.content.push_str("\n\n");
            first.content.push_str(&explained);
        }
        None => told.insert(0, Message::text(Role::System, explained)),
    }
    told
}

fn explain(tools: &[Tool]) -> String {
    let list: Vec<String> = tools.iter().map(|tool| declaration(tool).to_string()).collect();
    format!(
        "You can call these functions:\n<tools>\n{}\n</tools>\n\
         To call one, write its name and its arguments as JSON between these markers:\n\
         <tool_call>\n{{\"name\": \"the function\", \"arguments\": {{\"an argument\": \"its value\"}}}}\n</tool_call>\n\
         The result then comes between <tool_response> and </tool_response>.",
        list.join("\n")
    )
}

/// A call or a result as text; anything else as it is.
fn plain(message: &Message) -> Message {
    if message.role == Role::Tool {
        let content = format!("<tool_response>\n{}\n</tool_response>", message.content);
        return Message::text(Role::User, content);
    }
    let parts = Some(message.content.clone()).filter(|content| !content.is_empty());
    let parts: Vec<String> = parts.into_iter().chain(message.tool_calls.iter().map(call)).collect();
    Message { content: parts.join("\n"), tool_calls: Vec::new(), ..message.clone() }
}

fn call(call: &ToolCall) -> String {
    let name = Value::from(call.name.as_str());
    format!("<tool_call>\n{{\"name\": {name}, \"arguments\": {}}}\n</tool_call>", call.arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather() -> Tool {
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        Tool { name: "weather".into(), description: "Tells the weather.".into(), parameters }
    }

    #[test]
    fn calls_and_results_become_text() {
        let mut asked = Message::text(Role::Assistant, "");
        asked.tool_calls =
            vec![ToolCall { id: "1".into(), name: "weather".into(), arguments: "{\"city\":\"Rom\"}".into() }];
        let result = Message::text(Role::Tool, "sunny");
        let told = in_words(&[Message::text(Role::User, "Rome?"), asked, result], &[weather()]);
        assert_eq!(told[0].role, Role::System);
        assert!(told[0].content.contains("\"name\":\"weather\""), "{}", told[0].content);
        assert_eq!(
            told[2].content,
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\":\"Rom\"}}\n</tool_call>"
        );
        assert!(told[2].tool_calls.is_empty());
        assert_eq!(told[3], Message::text(Role::User, "<tool_response>\nsunny\n</tool_response>"));
    }

    #[test]
    fn a_system_message_stays_first() {
        let told = in_words(&[Message::text(Role::System, "Be kind.")], &[weather()]);
        assert_eq!(told.len(), 1);
        assert!(told[0].content.starts_with("Be kind.\n\nYou can call"));
        assert_eq!(in_words(&[Message::text(Role::User, "a")], &[]), [Message::text(Role::User, "a")]);
    }
}
