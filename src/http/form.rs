//! What dialects have in common of the form of answers, and of tools.

use serde_json::json;
use serde_json_borrow::Value;

use super::error::ApiError;
use super::fields::{Fields, missing, unsupported, wrong_type, wrong_value};
use crate::chat::{Format, Tool, ToolChoice, Tools};

/// Largest schema, as JSON text.
const SCHEMA_BYTES: usize = 64 << 10;
/// Most values in a schema, objects and arrays included: each may become a rule.
const SCHEMA_VALUES: usize = 4096;
const TOOLS: usize = 128;
/// The same for all tools of a request together: an answer may be any of them.
const TOOLS_BYTES: usize = 256 << 10;
const TOOLS_VALUES: usize = 16_384;
const NAME_BYTES: usize = 64;

/// The JSON schema at `path`.
///
/// # Errors
/// 400 where it is none, or too large.
pub fn schema(path: &str, value: &Value<'_>) -> Result<serde_json::Value, ApiError> {
    if !value.is_object() && !value.is_bool() {
        return Err(wrong_type(path, "an object", value));
    }
    let schema = serde_json::Value::from(value);
    Size::of(&schema).within(path, SCHEMA_BYTES, SCHEMA_VALUES)?;
    Ok(schema)
}

/// How large schemas are.
#[derive(Clone, Copy, Default)]
struct Size {
    /// As JSON text.
    bytes: usize,
    values: usize,
}

impl Size {
    fn of(schema: &serde_json::Value) -> Self {
        Self { bytes: schema.to_string().len(), values: values(schema) }
    }

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, values: self.values + other.values }
    }

    fn within(self, path: &str, bytes: usize, values: usize) -> Result<(), ApiError> {
        let wrong = |has, unit, most| {
            Err(wrong_value(path, format_args!("has {has} {unit}, at most {most} are taken")))
        };
        match self {
            Self { bytes: has, .. } if has > bytes => wrong(has, "bytes", bytes),
            Self { values: has, .. } if has > values => wrong(has, "values", values),
            _ => Ok(()),
        }
    }
}

/// How many values there are, this one included. A body's depth is bounded, so this one's is.
fn values(value: &serde_json::Value) -> usize {
    let inner: usize = match value {
        serde_json::Value::Array(list) => list.iter().map(values).sum(),
        serde_json::Value::Object(map) => map.values().map(values).sum(),
        _ => 0,
    };
    1 + inner
}

/// `response_format`, where a schema is `nested` in `json_schema`, or the newer `text.format`,
/// where it may stand in the object itself.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn format(asked: Option<&Fields<'_>>, nested: bool) -> Result<Format, ApiError> {
    let Some(asked) = asked else { return Ok(Format::Text) };
    match asked.text("type")?.ok_or_else(|| missing(&asked.path("type")))? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" => {
            let object = asked.object("json_schema")?;
            if nested && object.is_none() {
                return Err(missing(&asked.path("json_schema")));
            }
            let inner = object.as_ref().unwrap_or(asked);
            let path = inner.path("schema");
            let value = inner.get("schema").ok_or_else(|| missing(&path))?;
            schema(&path, value).map(Format::Schema)
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            let what = format!("is '{shown}', but must be 'text', 'json_object' or 'json_schema'");
            Err(wrong_value(&asked.path("type"), what))
        }
    }
}

/// `deadline_ms`: when the answer must be there.
///
/// # Errors
/// 400 where it is no number of milliseconds.
pub fn deadline(fields: &Fields<'_>) -> Result<Option<u32>, ApiError> {
    Ok(fields.integer("deadline_ms", 1..=i64::from(u32::MAX))?.and_then(|ms| u32::try_from(ms).ok()))
}

/// `tools` and `tool_choice`, as OpenAI writes them.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn tools(fields: &Fields<'_>) -> Result<Tools, ApiError> {
    let list = fields.list("tools")?.unwrap_or_default();
    let path = fields.path("tools");
    if list.len() > TOOLS {
        return Err(wrong_value(
            &path,
            format_args!("has {} entries, at most {TOOLS} are taken", list.len()),
        ));
    }
    let each = list.iter().enumerate().map(|(n, value)| tool(value, &format!("{path}[{n}]")));
    let list = each.collect::<Result<Vec<_>, _>>()?;
    let all = list.iter().map(|tool| Size::of(&tool.parameters)).fold(Size::default(), Size::add);
    all.within(&path, TOOLS_BYTES, TOOLS_VALUES)?;
    let choice = choice(fields, &list)?;
    let single = !fields.flag("parallel_tool_calls")?.unwrap_or(true);
    Ok(Tools { list, choice, single })
}

/// One tool: its function may stand in an object of its own or not.
fn tool(value: &Value<'_>, path: &str) -> Result<Tool, ApiError> {
    let fields = Fields::nested(value, path)?;
    match fields.text("type")? {
        None | Some("function") => {}
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            return Err(unsupported(
                &fields.path("type"),
                format_args!("is '{other}', but only 'function' is possible"),
            ));
        }
    }
    let function = fields.object("function")?.unwrap_or(fields);
    let name = function.text("name")?.ok_or_else(|| missing(&function.path("name")))?;
    check_name(&function.path("name"), name)?;
    let parameters = match function.get("parameters") {
        Some(value) if value.is_object() => schema(&function.path("parameters"), value)?,
        Some(value) => return Err(wrong_type(&function.path("parameters"), "an object", value)),
        None => json!({"type": "object", "properties": {}}),
    };
    let description = function.text("description")?.unwrap_or_default().to_owned();
    Ok(Tool { name: name.to_owned(), description, parameters })
}

fn check_name(path: &str, name: &str) -> Result<(), ApiError> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES || !name.chars().all(fit) {
        let what = format!("must be 1 to {NAME_BYTES} letters, digits, '_', '-', '.', ':' or '/'");
        return Err(wrong_value(path, what));
    }
    Ok(())
}

fn choice(fields: &Fields<'_>, list: &[Tool]) -> Result<ToolChoice, ApiError> {
    let Some(value) = fields.get("tool_choice") else { return Ok(ToolChoice::Auto) };
    let path = fields.path("tool_choice");
    let choice = match value {
        Value::Str(word) => match word.as_ref() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" | "any" => ToolChoice::Required,
            _ => {
                return Err(wrong_value(&path, "must be 'none', 'auto', 'required' or name a function"));
            }
        },
        value => {
            let named = Fields::nested(value, &path)?;
            let function = named.object("function")?.unwrap_or(named);
            let name = function.text("name")?.ok_or_else(|| missing(&function.path("name")))?;
            ToolChoice::Named(name.to_owned())
        }
    };
    match &choice {
        ToolChoice::Required if list.is_empty() => {
            Err(wrong_value(&path, "demands a call, but there are no 'tools'"))
        }
        ToolChoice::Named(name) if !list.iter().any(|tool| tool.name == *name) => {
            Err(wrong_value(&path, "names a function that is not among the 'tools'"))
        }
        _ => Ok(choice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: serde_json::Value) -> Result<Tools, String> {
        tools(&Fields::root(&(&body).into()).unwrap()).map_err(|e| e.body().to_string())
    }

    #[test]
    fn tools_are_read_in_either_shape() {
        let nested = json!({"tools": [{"type": "function", "function":
            {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}]});
        let got = read(nested).unwrap();
        let look =
            Tool { name: "look".into(), description: "Looks.".into(), parameters: json!({"type": "object"}) };
        assert_eq!((got.list, got.choice, got.single), (vec![look], ToolChoice::Auto, false));
        let flat = json!({"tools": [{"type": "function", "name": "look"}], "parallel_tool_calls": false,
            "tool_choice": {"type": "function", "name": "look"}});
        let got = read(flat).unwrap();
        assert_eq!((got.choice, got.single), (ToolChoice::Named("look".into()), true));
        assert_eq!(got.list[0].parameters["type"], "object");
    }

    #[test]
    fn wrong_tools_are_refused_by_name() {
        let tool = json!([{"type": "function", "function": {"name": "a"}}]);
        let many = json!({"enum": (0..5000).collect::<Vec<_>>()});
        let large = json!({"function": {"name": "a", "parameters": {"x": "y".repeat(60_000)}}});
        let full = json!({"function": {"name": "a", "parameters": {"enum": (0..4000).collect::<Vec<_>>()}}});
        for (body, words) in [
            (
                json!({"tools": [{"function": {"name": "a", "parameters": many}}]}),
                "5002 values, at most 4096",
            ),
            (json!({"tools": vec![large; 5]}), "'tools' has 300040 bytes, at most 262144"),
            (json!({"tools": vec![full; 5]}), "'tools' has 20010 values, at most 16384"),
            (json!({"tools": [{"type": "retrieval"}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name"),
            (json!({"tools": [{"function": {"name": "a b"}}]}), "tools[0].function.name"),
            (
                json!({"tools": [{"function": {"name": "a", "parameters": 3}}]}),
                "tools[0].function.parameters",
            ),
            (json!({"tool_choice": "required"}), "no 'tools'"),
            (json!({"tools": tool, "tool_choice": {"function": {"name": "b"}}}), "not among"),
            (json!({"tools": tool, "tool_choice": "perhaps"}), "tool_choice"),
            (
                json!({"tools": [{"function": {"name": "a", "parameters": {"x": "y".repeat(70_000)}}}]}),
                "bytes",
            ),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
