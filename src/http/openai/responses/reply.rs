//! Answers in the shape of the Responses interface.

use serde_json::{Value, json};

use super::request::Told;
use crate::chat::{CallPiece, Delta, Done, Finish, Sampling, Usage};
use crate::http::error::ApiError;
use crate::http::fields::set;
use crate::http::unix_time;
use crate::sys::chance;

/// An answer; its parts become known one after another.
pub struct Reply {
    /// What does not change.
    base: Value,
    /// Of the message and of the reasoning before it.
    pub message: String,
    pub reasoning: String,
    /// What the ids of calls have in common.
    calls: String,
}

impl Reply {
    /// An answer of `model` that begins now.
    pub fn new(model: String, told: Told, sampling: &Sampling) -> Self {
        let random = || format!("{:016x}{:016x}", chance::bits(), chance::bits());
        let id = |kind: &str| format!("{kind}_{}", random());
        let base = json!({
            "id": id("resp"),
            "object": "response",
            "created_at": unix_time(),
            "status": "in_progress",
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": told.instructions,
            "max_output_tokens": told.max_output_tokens,
            "max_tool_calls": null,
            "metadata": told.metadata,
            "model": model,
            "output": [],
            "parallel_tool_calls": !told.tools.single,
            "previous_response_id": null,
            "prompt_cache_key": null,
            "reasoning": {"effort": told.effort, "summary": null},
            "safety_identifier": null,
            "service_tier": "default",
            "store": false,
            "temperature": sampling.temperature.map(decimal),
            "text": {"format": told.format.clone().unwrap_or_else(|| json!({"type": "text"}))},
            "tool_choice": told.choice(),
            "tools": told.functions(),
            "top_logprobs": 0,
            "top_p": sampling.top_p.map(decimal),
            // The oldest turns go where there are too many.
            "truncation": "auto",
            "usage": null,
            "user": told.user,
        });
        Self { base, message: id("msg"), reasoning: id("rs"), calls: random() }
    }

    /// As it is before anything is said.
    pub fn begun(&self) -> Value {
        self.base.clone()
    }

    /// As it is when all is said.
    pub fn ended(&self, said: &Delta, done: &Done) -> Value {
        let status = status(done.finish);
        let mut reply = self.base.clone();
        let mut output = Vec::new();
        if !said.reasoning.is_empty() {
            output.push(self.thought(&said.reasoning, "completed"));
        }
        // There is always something, though it may be an empty message.
        if !said.content.is_empty() || said.calls.is_empty() {
            output.push(self.said(Some(&said.content), status));
        }
        output.extend(said.calls.iter().map(|call| self.call(call, status)));
        if done.finish == Finish::Length {
            set(&mut reply, "incomplete_details", json!({"reason": "max_output_tokens"}));
        }
        set(&mut reply, "status", status);
        set(&mut reply, "output", output);
        set(&mut reply, "usage", usage(done.usage));
        reply
    }

    /// As it is when it failed.
    pub fn failed(&self, error: &ApiError) -> Value {
        let mut reply = self.base.clone();
        set(&mut reply, "status", "failed");
        set(&mut reply, "error", json!({"code": "server_error", "message": error.message}));
        reply
    }

    /// The message; without its text so far where there is none.
    pub fn said(&self, text: Option<&str>, status: &str) -> Value {
        let content: Vec<Value> = text.map(text_part).into_iter().collect();
        json!({"id": self.message, "type": "message", "status": status, "role": "assistant", "content": content})
    }

    /// A call of a function.
    pub fn call(&self, call: &CallPiece, status: &str) -> Value {
        json!({
            "id": self.call_item(call.index), "type": "function_call", "status": status, "name": call.name,
            "arguments": call.arguments, "call_id": format!("call_{}_{}", self.calls, call.index),
        })
    }

    /// The id of its item.
    pub fn call_item(&self, index: u32) -> String {
        format!("fc_{}_{index}", self.calls)
    }

    /// The reasoning.
    pub fn thought(&self, text: &str, status: &str) -> Value {
        let content: Vec<Value> = (!text.is_empty()).then(|| thought_part(text)).into_iter().collect();
        json!({
            "id": self.reasoning, "type": "reasoning", "status": status, "summary": [], "content": content,
        })
    }
}

/// What has become of an answer, in the interface's word.
pub fn status(finish: Finish) -> &'static str {
    match finish {
        Finish::Length | Finish::Deadline => "incomplete",
        Finish::Stop | Finish::ToolCalls | Finish::Cancelled => "completed",
    }
}

/// A part of a message.
pub fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

/// A part of the reasoning.
pub fn thought_part(text: &str) -> Value {
    json!({"type": "reasoning_text", "text": text})
}

/// As it was written: 0.9 and not 0.8999999761581421.
fn decimal(number: f32) -> Option<f64> {
    number.to_string().parse().ok()
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
    })
}
