//! Answers in Ollama's shapes.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use crate::chat::{CallPiece, Delta, Done, Finish};
use crate::http::answer::{TokenReply, finish_reason};
use crate::sys::calendar;

/// Which of the two kinds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/api/chat`: messages.
    Chat,
    /// `/api/generate`: plain text.
    Generate,
}

/// An answer or a piece of one.
#[derive(Debug, Serialize)]
pub struct Reply<'a> {
    model: &'a str,
    created_at: String,
    #[serde(flatten)]
    said: Said,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<TokenReply>,
    done: bool,
    #[serde(flatten)]
    end: Option<End>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Said {
    Chat {
        message: MessageReply,
    },
    Generate {
        /// Never null.
        response: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        thinking: String,
    },
}

#[derive(Debug, Serialize)]
struct MessageReply {
    role: &'static str,
    /// Never null.
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

/// Calls as Ollama tells them: whole, the arguments as an object.
fn calls(pieces: Vec<CallPiece>) -> Vec<Value> {
    let whole = pieces.into_iter().filter_map(|call| {
        // A call that was cut off is none.
        let arguments: Value = serde_json::from_str(&call.arguments).ok()?;
        let function = json!({"index": call.index, "name": call.name, "arguments": arguments});
        Some(json!({"function": function}))
    });
    whole.collect()
}

/// How an answer ended.
#[derive(Debug, Serialize)]
pub struct End {
    done_reason: &'static str,
    #[serde(flatten)]
    metrics: Option<Metrics>,
}

/// Counts of tokens, and times in nanoseconds.
#[derive(Debug, Serialize)]
struct Metrics {
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u32,
    prompt_eval_duration: u64,
    eval_count: u32,
    eval_duration: u64,
}

impl End {
    /// The model is loaded; nothing was asked.
    pub const LOADED: Self = Self { done_reason: "load", metrics: None };

    /// The model is not wanted any more; nothing was asked.
    pub const UNLOADED: Self = Self { done_reason: "unload", metrics: None };

    /// After `total` nanoseconds, of which `load` were spent until the request was taken.
    pub fn new(done: &Done, total: u64, load: u64) -> Self {
        let metrics = Metrics {
            total_duration: total,
            load_duration: load,
            prompt_eval_count: done.usage.prompt_tokens,
            prompt_eval_duration: done.timings.prefill_us.saturating_mul(1000),
            eval_count: done.usage.completion_tokens,
            eval_duration: done.timings.decode_us.saturating_mul(1000),
        };
        let finish = match done.finish {
            Finish::ToolCalls => Finish::Stop,
            finish => finish,
        };
        Self { done_reason: finish_reason(finish), metrics: Some(metrics) }
    }
}

impl<'a> Reply<'a> {
    /// What `model` said; the end of the answer where `end` is given.
    pub fn new(form: Form, model: &'a str, said: Delta, logprobs: Vec<TokenReply>, end: Option<End>) -> Self {
        let Delta { content, reasoning: thinking, calls: pieces } = said;
        let said = match form {
            Form::Chat => {
                let tool_calls = calls(pieces);
                Said::Chat { message: MessageReply { role: "assistant", content, thinking, tool_calls } }
            }
            Form::Generate => Said::Generate { response: content, thinking },
        };
        let created_at = calendar::rfc3339(SystemTime::now());
        Self { model, created_at, said, logprobs, done: end.is_some(), end }
    }
}
