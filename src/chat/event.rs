//! What comes back, in this order: one `Started`, any number of `Token`, then one
//! `Done` or `Failed`; a `Restart` begins the order anew. After a worker's death the sequence goes on where it stopped:
//! nothing is sent twice, nothing is left out.

use serde::{Deserialize, Serialize};

use super::TokenId;
use crate::fault::Failure;

/// Text that became certain: never part of a stop string, never half a character.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delta {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// Text inside a think block, without its markers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallPiece>,
}

/// A piece of a tool's call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallPiece {
    /// Counts the answer's calls from 0.
    pub index: u32,
    /// With a call's first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON text; the pieces together are the arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

impl Delta {
    /// Adds what came next.
    pub fn append(&mut self, more: Delta) {
        self.content.push_str(&more.content);
        self.reasoning.push_str(&more.reasoning);
        for piece in more.calls {
            match self.calls.last_mut().filter(|call| call.index == piece.index) {
                Some(call) => call.arguments.push_str(&piece.arguments),
                None => self.calls.push(piece),
            }
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.reasoning.is_empty() && self.calls.is_empty()
    }
}

/// A token and its natural-log probability before sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenChoice {
    pub id: TokenId,
    /// The token's own bytes; not always whole characters.
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

/// The chosen token and the likeliest alternatives, likeliest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprobs {
    pub chosen: TokenChoice,
    pub top: Vec<TokenChoice>,
}

/// One generated token. `index` counts from 0 over the whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub index: u32,
    pub id: TokenId,
    #[serde(default, skip_serializing_if = "Delta::is_empty")]
    pub delta: Delta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<TokenLogprobs>,
}

/// What became of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub prompt_tokens: u32,
    /// Of these, already on the card from an earlier request.
    pub cached_tokens: u32,
    /// Messages left out because the context is too short.
    pub dropped_messages: u32,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// End-of-turn token or stop string.
    Stop,
    /// The answer calls tools.
    ToolCalls,
    /// Token limit or full context.
    Length,
    /// The request's deadline; the last sentence may be cut.
    Deadline,
    /// The client went away or asked to stop.
    Cancelled,
}

/// Token counts of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    /// Generated, the end-of-turn token included.
    pub completion_tokens: u32,
    pub cached_tokens: u32,
    pub reasoning_tokens: u32,
}

/// Where the time went, in microseconds; after a resume, of the last worker only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    pub prefill_us: u64,
    pub decode_us: u64,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub finish: Finish,
    /// Text that was held back until the end was known.
    #[serde(default, skip_serializing_if = "Delta::is_empty")]
    pub tail: Delta,
    pub usage: Usage,
    pub timings: Timings,
    /// The end-of-turn token's, where log-probabilities were asked for and it ended the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<TokenLogprobs>,
}

/// One event of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Started(Started),
    Token(Token),
    /// What came so far is void, another model answers from the beginning. Only for
    /// requests that are `buffered`.
    Restart,
    Done(Done),
    Failed(Failure),
}
