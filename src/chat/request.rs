//! What a client asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who speaks. `Developer` is rendered as `System` by templates that know no such role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// A call of a tool that an earlier assistant message made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
}

/// One message of a conversation. Text parts are already joined by the dialect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An assistant's reasoning, kept apart from its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A plain text message.
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            name: None,
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

/// What the model continues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Nothing: the model is only to be loaded, or unloaded.
    Nothing,
    /// A conversation, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// Text taken as it is; special tokens in it are recognised.
    Raw(String),
}

/// Whether a reasoning model thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Think {
    /// As the model's template decides.
    #[default]
    Default,
    On,
    Off,
}

/// What happens to a conversation longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The system message stays, the oldest turns go.
    #[default]
    Trim,
    /// The request is refused.
    Error,
}

/// How the next token is chosen. `None` takes the configuration's default, then the
/// model package's, then the neutral value given here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// ≤ 0 is greedy. Neutral: 1.
    pub temperature: Option<f32>,
    /// Keep the k likeliest; 0 keeps all. Neutral: 0.
    pub top_k: Option<u32>,
    /// Neutral: 1.
    pub top_p: Option<f32>,
    /// Neutral: 0.
    pub min_p: Option<f32>,
    /// Neutral: 1.
    pub typical_p: Option<f32>,
    /// Divides positive and multiplies negative logits of recent tokens. Neutral: 1.
    pub repeat_penalty: Option<f32>,
    /// How many recent tokens the three penalties look at; 0 none, −1 the whole context. Default: 64.
    pub repeat_last_n: Option<i32>,
    /// Neutral: 0.
    pub frequency_penalty: Option<f32>,
    /// Neutral: 0.
    pub presence_penalty: Option<f32>,
    /// Added to the logits of these tokens; ≤ −100 bans.
    pub logit_bias: Vec<(u32, f32)>,
    /// Same request, same seed, same text. The service draws one where the client gives none.
    pub seed: Option<u64>,
    /// Texts that end the answer and are not part of it; at most 16.
    pub stop: Vec<String>,
}

/// The form an answer must have; it is given no other way out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Text,
    /// Any JSON object.
    Json,
    /// JSON of this schema.
    Schema(Value),
}

impl Format {
    fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

/// Something the model may ask its caller to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The arguments' JSON schema: an object.
    pub parameters: Value,
}

/// Whether a tool is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As the model decides.
    #[default]
    Auto,
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// What may be called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tools {
    pub list: Vec<Tool>,
    pub choice: ToolChoice,
    /// At most one call in an answer.
    pub single: bool,
}

impl Tools {
    /// Whether the answer may be a call.
    pub fn callable(&self) -> bool {
        !self.list.is_empty() && self.choice != ToolChoice::None
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Bounds of one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Most tokens to generate; `None` until the context is full.
    pub max_tokens: Option<u32>,
    /// Use at most this many tokens of context, prompt and answer together.
    pub context: Option<u32>,
    pub overflow: Overflow,
    /// The answer must be there so long after the request came: it ends early, at a sentence's
    /// end where there is one.
    pub deadline_ms: Option<u32>,
}

/// How long a model stays loaded after its last answer, in seconds; less than 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeepAlive(pub i64);

impl KeepAlive {
    pub const FOR_EVER: Self = Self(-1);
    /// It is unloaded at once.
    pub const NOT: Self = Self(0);

    /// The time, where it is one.
    pub fn time(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_secs)
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self::FOR_EVER
    }
}

/// Who goes first. A request overtakes others only for a while: none waits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

/// One request in the common language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Which of the installed models is to answer; the first where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How long that stays loaded then, where the caller says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    pub input: Input,
    #[serde(default)]
    pub sampling: Sampling,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub think: Think,
    #[serde(default, skip_serializing_if = "Format::is_text")]
    pub format: Format,
    #[serde(default)]
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "Tools::is_default")]
    pub tools: Tools,
    /// Report each token's log-probability and that of this many alternatives (0–20).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// The client sees nothing before the end: the answer may begin anew on another model.
    #[serde(default)]
    pub buffered: bool,
}

impl Request {
    /// A request for an answer to `input`, with every parameter left open.
    pub fn new(input: Input) -> Self {
        Self {
            model: None,
            keep_alive: None,
            input,
            sampling: Sampling::default(),
            limits: Limits::default(),
            think: Think::default(),
            format: Format::default(),
            priority: Priority::default(),
            tools: Tools::default(),
            logprobs: None,
            buffered: false,
        }
    }

    /// About how much memory its text takes, in bytes.
    pub fn size(&self) -> usize {
        let message = |message: &Message| {
            let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
            let calls = message.tool_calls.iter();
            let calls =
                calls.map(|call| size_of_val(call) + call.id.len() + call.name.len() + call.arguments.len());
            let rest = of(&message.name) + of(&message.reasoning) + of(&message.tool_call_id);
            size_of_val(message) + message.content.len() + rest + calls.sum::<usize>()
        };
        let input = match &self.input {
            Input::Nothing => 0,
            Input::Chat(messages) => messages.iter().map(message).sum(),
            Input::Raw(text) => text.len(),
        };
        let tool = |tool: &Tool| tool.name.len() + tool.description.len() + json_size(&tool.parameters);
        let form = if let Format::Schema(schema) = &self.format { json_size(schema) } else { 0 };
        input + form + self.tools.list.iter().map(tool).sum::<usize>()
    }
}

/// As [`Request::size`]. Recursion is bounded: dialects take no JSON that is deep.
fn json_size(value: &Value) -> usize {
    size_of_val(value)
        + match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(json_size).sum(),
            Value::Object(members) => members.iter().map(|(key, value)| key.len() + json_size(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}
