//! The grammar of an answer that must have a form, or may call tools.

use serde_json::{Value, json};

use super::calls;
use crate::chat::{Format, Request, Think, Tool, ToolChoice};
use crate::fault::{Failure, Fault, Result};

/// Blanks between the parts of JSON: none, one, or a line break and an indent. A weak model
/// would fill its answer with them.
const BLANKS: &str = r"\x20|\n\x20{0,16}";

/// What ends a think block.
const THOUGHT: &str = "</think>";

/// How an answer's beginning stands to a think block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// There is none, or it is closed.
    Behind,
    /// The prompt opened it.
    Inside,
    /// The model opens it.
    Before,
}

/// A grammar in llguidance's variant of Lark.
#[derive(Debug)]
pub struct Grammar {
    pub lark: String,
    /// What comes, in this order, before the form begins.
    pub before: Vec<&'static str>,
}

impl Grammar {
    /// The grammar of an answer to `request`; none where any text will do.
    ///
    /// # Errors
    /// [`Fault::RequestInvalid`] for a tool that is chosen but not there.
    pub fn of(request: &Request, lead: Lead) -> Result<Option<Self>> {
        let text = match &request.format {
            Format::Text => None,
            Format::Json => Some(schema(json!({"type": "object"}))),
            Format::Schema(schema_) => Some(schema(schema_.clone())),
        };
        let tools = &request.tools;
        if text.is_none() && !tools.callable() {
            return Ok(None);
        }
        let mut rules = vec![String::from("%llguidance {}")];
        let answer = match text {
            Some(json) => {
                rules.push(format!("form: {json}"));
                "form"
            }
            None => "TEXT",
        };
        rules.push(match (&tools.choice, tools.callable()) {
            (_, false) => format!("answer: {answer}"),
            (ToolChoice::Required | ToolChoice::Named(_), true) => "answer: OPEN calls".into(),
            // Without a form, words may come before the first call.
            (_, true) if answer == "TEXT" => "answer: TEXT | spoken calls".into(),
            (_, true) => format!("answer: {answer} | OPEN calls"),
        });
        if tools.callable() {
            rules.extend(call_rules(&tools.list, &tools.choice, tools.single)?);
        }
        rules.push(r"TEXT: /(.|\n)*/".into());
        rules.push(r"thought[lazy]: /(.|\n)*<\/think>/".into());
        rules.push("think: thought \"\\n\\n\"?".into());
        rules.push(match lead {
            Lead::Behind => "start: answer".into(),
            Lead::Inside => "start: think answer".into(),
            Lead::Before => "start: \"<think>\" think answer".into(),
        });
        let mut before = Vec::new();
        if lead != Lead::Behind {
            before.push(THOUGHT);
        }
        if answer == "TEXT" && tools.choice == ToolChoice::Auto {
            before.push(calls::OPEN);
        }
        Ok(Some(Self { lark: rules.join("\n"), before }))
    }
}

impl Lead {
    /// Where the think block is after `opened` or `closed` in the prompt. A model that would
    /// open one by itself is not given the choice unless the caller asked it to think.
    pub fn new(opened: bool, closed: bool, think: Think) -> Self {
        match think {
            _ if opened => Self::Inside,
            Think::On if !closed => Self::Before,
            _ => Self::Behind,
        }
    }
}

fn call_rules(tools: &[Tool], choice: &ToolChoice, single: bool) -> Result<Vec<String>> {
    let chosen: Vec<&Tool> = match choice {
        ToolChoice::Named(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
        _ => tools.iter().collect(),
    };
    if chosen.is_empty() {
        return Err(Failure::new(
            Fault::RequestInvalid,
            "the tool that must be called is not among the tools",
        ));
    }
    let literal = |text: &str| Value::from(text).to_string();
    let calls = match single || matches!(choice, ToolChoice::Named(_)) {
        true => "calls: call".into(),
        false => format!("calls: call ({} call)*", literal(&format!("\n{}", calls::OPEN))),
    };
    let names: Vec<String> = (0..chosen.len()).map(|n| format!("call_{n}")).collect();
    let mut rules = vec![
        format!("OPEN: {}", literal(calls::OPEN)),
        format!(r"spoken[lazy]: /(.|\n)*{}/", calls::OPEN),
        calls,
        format!("call: {}", names.join(" | ")),
    ];
    for (name, tool) in names.iter().zip(chosen) {
        let head = literal(&calls::head(&tool.name));
        let arguments = schema(object(&tool.parameters));
        rules.push(format!("{name}: {head} {arguments} {}", literal(calls::TAIL)));
    }
    Ok(rules)
}

/// Arguments are an object, also where their schema does not say so.
fn object(parameters: &Value) -> Value {
    let mut map = parameters.as_object().cloned().unwrap_or_default();
    map.entry("type").or_insert_with(|| "object".into());
    map.into()
}

/// A JSON schema as part of a grammar.
fn schema(mut schema: Value) -> String {
    if let Some(map) = schema.as_object_mut() {
        map.insert("x-guidance".into(), json!({"whitespace_pattern": BLANKS}));
    }
    format!("%json {schema}")
}
