use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Seconds;
use super::section::{Findings, Section};
use crate::chat::Overflow;

/// What becomes of an image in a request: no model here sees any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// The request is refused.
    #[default]
    Refuse,
    /// The model is told of it by a note in its place.
    Note,
}

/// `[limits]`: what protects the appliance from its clients and clients from waiting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests that may wait behind the running one; further ones are refused with 429.
    pub queue: usize,
    /// Longest from a request's arrival to the end of its answer.
    pub request_timeout_s: Seconds,
    /// How long a request is held while no worker is ready, before it is refused with 503.
    pub hold_s: Seconds,
    /// How long running requests may go on after the service was asked to stop.
    pub drain_s: Seconds,
    /// What happens to a conversation longer than the context.
    pub overflow: Overflow,
    pub images: Images,
    /// Most messages in a conversation.
    pub messages: usize,
    /// Largest request body in bytes.
    pub body_bytes: usize,
    /// How long a client may take to send the body.
    pub body_s: Seconds,
    /// Largest request head in bytes.
    pub header_bytes: usize,
    /// How long a client may take to send the head, and how long a connection may idle.
    pub header_s: Seconds,
    /// Most connections at a time, all addresses together.
    pub connections: usize,
    /// How long a client may leave sent data unacknowledged before it counts as gone.
    pub unread_s: Seconds,
    /// A silent stream carries a comment this often, so that clients keep waiting.
    pub keepalive_comment_s: Seconds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 8,
            request_timeout_s: Seconds::new(300),
            hold_s: Seconds::new(25),
            drain_s: Seconds::new(60),
            overflow: Overflow::Trim,
            images: Images::Refuse,
            messages: 4096,
            body_bytes: 2 << 20,
            body_s: Seconds::new(30),
            header_bytes: 32 << 10,
            header_s: Seconds::new(30),
            connections: 256,
            unread_s: Seconds::new(60),
            keepalive_comment_s: Seconds::new(10),
        }
    }
}

impl Section for Limits {
    const NAME: &'static str = "limits";

    fn check(&mut self, findings: &mut Findings) {
        let default = Self::default();
        let moment = Seconds(Duration::from_millis(50));
        let hour = Seconds::new(3600);
        findings.range("queue", &mut self.queue, 0..=1000, default.queue);
        let day = Seconds::new(86_400);
        findings.range(
            "request_timeout_s",
            &mut self.request_timeout_s,
            moment..=day,
            default.request_timeout_s,
        );
        findings.range("hold_s", &mut self.hold_s, Seconds::new(0)..=hour, default.hold_s);
        findings.range("drain_s", &mut self.drain_s, Seconds::new(0)..=hour, default.drain_s);
        findings.range("messages", &mut self.messages, 1..=100_000, default.messages);
        // A request must fit a frame to the worker, which holds 16 MiB.
        findings.range("body_bytes", &mut self.body_bytes, 1 << 10..=12 << 20, default.body_bytes);
        findings.range("body_s", &mut self.body_s, moment..=hour, default.body_s);
        findings.range("header_bytes", &mut self.header_bytes, 8 << 10..=1 << 20, default.header_bytes);
        findings.range("header_s", &mut self.header_s, moment..=hour, default.header_s);
        findings.range("connections", &mut self.connections, 1..=10_000, default.connections);
        findings.range("unread_s", &mut self.unread_s, Seconds::new(1)..=hour, default.unread_s);
        findings.range(
            "keepalive_comment_s",
            &mut self.keepalive_comment_s,
            moment..=hour,
            default.keepalive_comment_s,
        );
    }
}
