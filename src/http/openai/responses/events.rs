//! The events of a streamed answer, in their official order: the response, its reasoning where
//! there is any, its message, its calls, the response again.

use bytes::Bytes;
use serde_json::{Value, json};

use super::reply::{Reply, status, text_part, thought_part};
use crate::chat::{CallPiece, Delta, Done, Token};
use crate::http::answer::Script;
use crate::http::error::ApiError;
use crate::http::fields::set;
use crate::http::openai::chat::KEEP_ALIVE;

/// Which item of the output is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Reasoning,
    Message,
    Call,
}

/// Writes the events.
pub struct Events {
    reply: Reply,
    /// Of the next event.
    number: u64,
    open: Open,
    /// How many items were begun.
    items: u32,
    /// All that was said so far.
    said: Delta,
    /// Not sent so far.
    out: Vec<u8>,
}

impl Events {
    pub fn new(reply: Reply) -> Self {
        Self { reply, number: 0, open: Open::Nothing, items: 0, said: Delta::default(), out: Vec::new() }
    }

    fn event(&mut self, kind: &str, mut body: Value) {
        set(&mut body, "type", kind);
        set(&mut body, "sequence_number", self.number);
        self.number += 1;
        self.out.extend_from_slice(format!("event: {kind}\ndata: {body}\n\n").as_bytes());
    }

    fn sent(&mut self) -> Option<Bytes> {
        let out = std::mem::take(&mut self.out);
        (!out.is_empty()).then(|| out.into())
    }

    /// The open item's id.
    fn item(&self) -> String {
        match self.open {
            Open::Reasoning => self.reply.reasoning.clone(),
            Open::Call => self.reply.call_item(self.said.calls.last().map_or(0, |call| call.index)),
            Open::Message | Open::Nothing => self.reply.message.clone(),
        }
    }

    fn about(&mut self, kind: &str, mut body: Value) {
        set(&mut body, "output_index", self.items.saturating_sub(1));
        self.event(kind, body);
    }

    /// An event about the open item's only part.
    fn about_part(&mut self, kind: &str, key: &str, value: Value) {
        let mut body = json!({"item_id": self.item(), "content_index": 0, key: value});
        // The schema wants it, of messages' text only.
        if kind.starts_with("response.output_text") {
            set(&mut body, "logprobs", json!([]));
        }
        self.about(kind, body);
    }

    fn begin_item(&mut self, open: Open) {
        self.open = open;
        self.items += 1;
        let (item, part) = match (open, self.said.calls.last()) {
            (Open::Reasoning, _) => (self.reply.thought("", "in_progress"), Some(thought_part(""))),
            (Open::Call, Some(call)) => (self.reply.call(call, "in_progress"), None),
            _ => (self.reply.said(None, "in_progress"), Some(text_part(""))),
        };
        self.about("response.output_item.added", json!({"item": item}));
        if let Some(part) = part {
            self.about_part("response.content_part.added", "part", part);
        }
    }

    fn end_item(&mut self, status: &str) {
        let item = match (self.open, self.said.calls.last()) {
            (Open::Nothing, _) => return,
            (Open::Reasoning, _) => {
                let text = self.said.reasoning.clone();
                let item = self.reply.thought(&text, "completed");
                self.end_part("response.reasoning_text.done", thought_part(&text), text);
                item
            }
            (Open::Call, Some(call)) => {
                let item = self.reply.call(call, status);
                let body = json!({"item_id": self.item(), "name": call.name, "arguments": call.arguments});
                self.about("response.function_call_arguments.done", body);
                item
            }
            _ => {
                let text = self.said.content.clone();
                let item = self.reply.said(Some(&text), status);
                self.end_part("response.output_text.done", text_part(&text), text);
                item
            }
        };
        self.about("response.output_item.done", json!({"item": item}));
        self.open = Open::Nothing;
    }

    fn end_part(&mut self, kind: &str, part: Value, text: String) {
        self.about_part(kind, "text", text.into());
        self.about_part("response.content_part.done", "part", part);
    }

    fn say(&mut self, delta: Delta) {
        if !delta.reasoning.is_empty() {
            if self.open == Open::Nothing && self.said.content.is_empty() {
                self.begin_item(Open::Reasoning);
            }
            self.said.reasoning.push_str(&delta.reasoning);
            self.about_part("response.reasoning_text.delta", "delta", delta.reasoning.into());
        }
        if !delta.content.is_empty() {
            if self.open != Open::Message {
                self.end_item("completed");
                self.begin_item(Open::Message);
            }
            self.said.content.push_str(&delta.content);
            self.about_part("response.output_text.delta", "delta", delta.content.into());
        }
        delta.calls.into_iter().for_each(|piece| self.call(piece));
    }

    fn call(&mut self, piece: CallPiece) {
        let arguments = piece.arguments.clone();
        let first = self.said.calls.last().is_none_or(|call| call.index != piece.index);
        if first {
            self.end_item("completed");
            // Arguments come as pieces, the first ones too.
            let call = CallPiece { arguments: String::new(), ..piece };
            self.said.calls.push(call);
            self.begin_item(Open::Call);
        }
        if let Some(call) = self.said.calls.last_mut() {
            call.arguments.push_str(&arguments);
        }
        if !arguments.is_empty() {
            let body = json!({"item_id": self.item(), "delta": arguments});
            self.about("response.function_call_arguments.delta", body);
        }
    }
}

impl Script for Events {
    const KIND: &'static str = "text/event-stream; charset=utf-8";

    fn begin(&mut self) -> Option<Bytes> {
        let response = json!({"response": self.reply.begun()});
        self.event("response.created", response.clone());
        self.event("response.in_progress", response);
        self.sent()
    }

    fn token(&mut self, _: usize, token: Token) -> Option<Bytes> {
        self.say(token.delta);
        self.sent()
    }

    fn end(&mut self, _: usize, mut done: Done) -> Option<Bytes> {
        self.say(std::mem::take(&mut done.tail));
        let response = self.reply.ended(&self.said, &done);
        let status = status(done.finish);
        // There is always something, though it may be an empty message.
        if self.said.calls.is_empty() && self.open != Open::Message {
            self.end_item("completed");
            self.begin_item(Open::Message);
        }
        self.end_item(status);
        self.event(&format!("response.{status}"), json!({"response": response}));
        self.sent()
    }

    fn close(&mut self) -> Option<Bytes> {
        None
    }

    fn failure(&mut self, error: &ApiError) -> Bytes {
        let response = self.reply.failed(error);
        self.event("response.failed", json!({"response": response}));
        self.sent().unwrap_or_default()
    }

    fn idle(&mut self) -> Bytes {
        KEEP_ALIVE
    }
}
