//! The events of a streamed answer, in their official order: the response, its reasoning where
//! there is any, its message, the response again.

use bytes::Bytes;
use serde_json::{Value, json};

use super::reply::{Reply, status, text_part, thought_part};
use crate::chat::{Delta, Done, Token};
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
}

/// Writes the events.
pub struct Events {
    reply: Reply,
    /// Of the next event.
    number: u64,
    open: Open,
    /// All that was said so far.
    said: Delta,
    /// Not sent so far.
    out: Vec<u8>,
}

impl Events {
    pub fn new(reply: Reply) -> Self {
        Self { reply, number: 0, open: Open::Nothing, said: Delta::default(), out: Vec::new() }
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

    /// Reasoning comes first, if at all.
    fn place(&self) -> (&str, u32) {
        match self.open {
            Open::Reasoning => (&self.reply.reasoning, 0),
            _ => (&self.reply.message, u32::from(!self.said.reasoning.is_empty())),
        }
    }

    /// An event about the open item's only part.
    fn about_part(&mut self, kind: &str, key: &str, value: Value) {
        let (item, index) = self.place();
        let mut body = json!({"item_id": item, "output_index": index, "content_index": 0, key: value});
        // The schema wants it, of messages' text only.
        if kind.starts_with("response.output_text") {
            set(&mut body, "logprobs", json!([]));
        }
        self.event(kind, body);
    }

    fn about_item(&mut self, kind: &str, item: Value) {
        let (_, index) = self.place();
        self.event(kind, json!({"output_index": index, "item": item}));
    }

    fn begin_item(&mut self, open: Open) {
        self.open = open;
        let (item, part) = match open {
            Open::Reasoning => (self.reply.thought("", "in_progress"), thought_part("")),
            _ => (self.reply.said(None, "in_progress"), text_part("")),
        };
        self.about_item("response.output_item.added", item);
        self.about_part("response.content_part.added", "part", part);
    }

    fn end_item(&mut self, status: &str) {
        let (kind, text, part, item) = match self.open {
            Open::Nothing => return,
            Open::Reasoning => {
                let text = self.said.reasoning.clone();
                let (part, item) = (thought_part(&text), self.reply.thought(&text, "completed"));
                ("response.reasoning_text.done", text, part, item)
            }
            Open::Message => {
                let text = self.said.content.clone();
                let (part, item) = (text_part(&text), self.reply.said(Some(&text), status));
                ("response.output_text.done", text, part, item)
            }
        };
        self.about_part(kind, "text", text.into());
        self.about_part("response.content_part.done", "part", part);
        self.about_item("response.output_item.done", item);
        self.open = Open::Nothing;
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
        // There is always a message, though it may be empty.
        if self.open != Open::Message {
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
