//! The model's own chat template, in a sandbox: no files, no network, bounded work.

use std::time::SystemTime;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::tools;
use crate::chat::{Message, Role, Think, Tool, ToolCall};
use crate::fault::{Failure, Fault, Result};
use crate::sys::calendar;

/// ChatML, for packages without a template whose vocabulary has its markers.
pub const CHATML: &str = "\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\n' }}
{%- if has_think_token and enable_thinking is defined and not enable_thinking -%}
{{ '<think>\n\n</think>\n\n' }}
{%- endif -%}
{%- endif -%}";

/// Template instructions one rendering may take, besides [`FUEL_PER_MESSAGE`].
const FUEL: u64 = 200_000;
/// Real templates take some 50 to 200 instructions a message.
const FUEL_PER_MESSAGE: u64 = 5_000;

/// Values a template may refer to besides the messages.
#[derive(Clone, Debug, Default)]
pub struct Globals {
    pub bos_token: String,
    pub eos_token: String,
    pub has_think_token: bool,
}

/// A compiled chat template.
pub struct Template {
    environment: Environment<'static>,
    knows_developer: bool,
    knows_tools: bool,
    thinks: bool,
}

impl Template {
    /// Compiles `source` as Hugging Face does: blocks trimmed, loop controls, Python methods.
    /// `clock` is what `strftime_now` asks.
    ///
    /// # Errors
    /// [`Fault::Template`] with the line that is wrong.
    pub fn new(source: &str, globals: Globals, clock: fn() -> SystemTime) -> Result<Self> {
        let failed = |e: Error| Failure::new(Fault::Template, format!("chat template: {e:#}"));
        let mut environment = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(failed)?);
        environment.set_debug(false);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |message: String| -> Result2<Value> {
            Err(Error::new(ErrorKind::InvalidOperation, format!("it refuses: {message}")))
        });
        environment.add_function("strftime_now", move |format: String| calendar::format(clock(), &format));
        environment.add_global("bos_token", globals.bos_token);
        environment.add_global("eos_token", globals.eos_token);
        environment.add_global("has_think_token", globals.has_think_token);
        let thinks = source.contains("enable_thinking")
            && (globals.has_think_token || !source.contains("has_think_token"));
        let knows_developer = source.contains("developer");
        // Of the ways to write calls this one is understood.
        let knows_tools = source.contains("<tool_call>");
        environment.add_template_owned("chat", without_generation_tags(source)).map_err(failed)?;
        Ok(Self { environment, knows_developer, knows_tools, thinks })
    }

    /// Whether the template has a thinking switch.
    pub fn thinks(&self) -> bool {
        self.thinks
    }

    /// Renders a conversation up to where the assistant's answer begins.
    ///
    /// Templates that refuse a conversation (two user messages in a row, a system message)
    /// get it again with neighbours of one role merged, then with the system message put
    /// into the first user message. To templates without tools these are told in words.
    ///
    /// # Errors
    /// [`Fault::Template`] with what the template said to the conversation as it was.
    pub fn render(&self, messages: &[Message], tools: &[Tool], think: Think) -> Result<String> {
        if !self.knows_tools {
            let told = tools::in_words(messages, tools);
            return self.render_reshaped(&told, &[], think);
        }
        self.render_reshaped(messages, tools, think)
    }

    fn render_reshaped(&self, messages: &[Message], tools: &[Tool], think: Think) -> Result<String> {
        let first = match self.render_once(messages, tools, think) {
            Ok(text) => return Ok(text),
            Err(e) => e,
        };
        let merged = merge_neighbours(messages);
        let folded = merge_neighbours(&fold_system(&merged));
        for reshaped in [merged, folded] {
            if reshaped != messages
                && let Ok(text) = self.render_once(&reshaped, tools, think)
            {
                return Ok(text);
            }
        }
        Err(Failure::new(Fault::Template, format!("{first:#}")))
    }

    fn render_once(&self, messages: &[Message], tools: &[Tool], think: Think) -> Result2<String> {
        // Fuel grows with the conversation: take a copy of the (shared) environment to set it.
        let mut environment = self.environment.clone();
        let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        environment.set_fuel(Some(FUEL.saturating_add(FUEL_PER_MESSAGE.saturating_mul(count))));
        let list: Vec<Value> = messages.iter().map(|m| self.value(m)).collect();
        let mut values = vec![("messages", Value::from(list)), ("add_generation_prompt", Value::from(true))];
        if think != Think::Default {
            values.push(("enable_thinking", Value::from(think == Think::On)));
        }
        // Absent where there are none: templates ask whether it is defined.
        if !tools.is_empty() {
            let declared = tools.iter().map(|tool| json_value(&tools::declaration(tool)));
            values.push(("tools", declared.collect()));
        }
        environment.get_template("chat")?.render(Value::from_pairs(values))
    }

    fn value(&self, message: &Message) -> Value {
        let role = match message.role {
            Role::Developer if self.knows_developer => "developer",
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        let mut pairs = vec![("role", Value::from(role)), ("content", Value::from(message.content.as_str()))];
        let mut text = |key: &'static str, value: &Option<String>| {
            if let Some(value) = value {
                pairs.push((key, Value::from(value.as_str())));
            }
        };
        text("name", &message.name);
        text("reasoning_content", &message.reasoning);
        text("tool_call_id", &message.tool_call_id);
        if !message.tool_calls.is_empty() {
            pairs.push(("tool_calls", message.tool_calls.iter().map(call_value).collect()));
        }
        Value::from_pairs(pairs)
    }
}

type Result2<T> = std::result::Result<T, Error>;

fn call_value(call: &ToolCall) -> Value {
    let arguments = serde_json::from_str(&call.arguments)
        .map_or_else(|_| Value::from(call.arguments.as_str()), |json| json_value(&json));
    let function = Value::from_pairs([("name", Value::from(call.name.as_str())), ("arguments", arguments)]);
    Value::from_pairs([
        ("id", Value::from(call.id.as_str())),
        ("type", Value::from("function")),
        ("function", function),
    ])
}

fn json_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => Value::from(n),
            (_, Some(n)) => Value::from(n),
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::from(s.as_str()),
        Json::Array(items) => items.iter().map(json_value).collect(),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(k, v)| (k.as_str(), json_value(v)))),
    }
}

/// As Python's `json.dumps(ensure_ascii=False)`: the built-in filter also escapes HTML.
fn tojson(value: &Value, indent: Option<Value>, args: Kwargs) -> Result2<Value> {
    // Templates written for transformers pass these; the output follows them anyway.
    let _: Option<Value> = args.get("ensure_ascii")?;
    let indent = indent.or(args.get("indent")?);
    let named = Kwargs::from_iter(std::iter::empty::<(String, Value)>());
    let escaped = minijinja::filters::tojson(value, indent, named)?;
    let mut text = String::new();
    let mut rest = escaped.as_str().unwrap_or_default();
    while let Some((plain, tail)) = rest.split_once('\\') {
        text.push_str(plain);
        let html = [("u003c", '<'), ("u003e", '>'), ("u0026", '&'), ("u0027", '\'')];
        if let Some((tail, c)) = html.iter().find_map(|(code, c)| Some((tail.strip_prefix(code)?, c))) {
            text.push(*c);
            rest = tail;
        } else {
            text.push('\\');
            let mut chars = tail.chars();
            text.extend(chars.next());
            rest = chars.as_str();
        }
    }
    text.push_str(rest);
    Ok(Value::from(text))
}

/// `{% generation %}` marks text for training; for rendering it is a block that always counts.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tail)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let (inside, after) = tail.split_once("%}").unwrap_or((tail, ""));
        let closed = inside.len() < tail.len();
        match inside.trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&inside.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&inside.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(inside),
        }
        if closed {
            out.push_str("%}");
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Joins neighbours of one role (tool results and calls excepted) with an empty line.
fn merge_neighbours(messages: &[Message]) -> Vec<Message> {
    let mut merged: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        match merged.last_mut() {
            Some(last)
                if last.role == message.role
                    && message.role != Role::Tool
                    && last.tool_calls.is_empty()
                    && message.tool_calls.is_empty() =>
            {
                if !last.content.is_empty() && !message.content.is_empty() {
                    last.content.push_str("\n\n");
                }
                last.content.push_str(&message.content);
            }
            _ => merged.push(message.clone()),
        }
    }
    merged
}

/// Puts system messages into the first user message, which then comes first.
fn fold_system(messages: &[Message]) -> Vec<Message> {
    let is_system = |m: &&Message| matches!(m.role, Role::System | Role::Developer);
    let system: Vec<&str> = messages.iter().filter(is_system).map(|m| m.content.as_str()).collect();
    let mut folded: Vec<Message> = messages.iter().filter(|m| !is_system(m)).cloned().collect();
    if folded.first().is_none_or(|m| m.role != Role::User) {
        folded.insert(0, Message::text(Role::User, ""));
    }
    if let Some(first) = folded.first_mut() {
        let joined = system.join("\n\n");
        if !joined.is_empty() && !first.content.is_empty() {
            first.content.insert_str(0, "\n\n");
        }
        first.content.insert_str(0, &joined);
    }
    folded
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
