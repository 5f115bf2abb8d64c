//! Answers in OpenAI's shapes: `chat.completion` and `chat.completion.chunk`.

use serde::Serialize;

use crate::chat::{CallPiece, Delta, TokenLogprobs, Usage};
use crate::http::answer::TokenReply;

/// What all objects of one answer have in common.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    pub id: String,
    /// `chat.completion` or `chat.completion.chunk`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    pub model: String,
    pub system_fingerprint: &'static str,
}

/// Names what answers depend on besides request and seed.
pub const FINGERPRINT: &str = concat!("llm8850-", env!("CARGO_PKG_VERSION"));

/// A whole answer.
#[derive(Debug, Serialize)]
pub struct Completion<'a> {
    #[serde(flatten)]
    pub head: &'a Head,
    pub choices: Vec<Choice>,
    pub usage: UsageReply,
}

#[derive(Debug, Serialize)]
pub struct Choice {
    pub index: usize,
    pub message: MessageReply,
    /// Null unless asked for.
    pub logprobs: Option<LogprobsReply>,
    pub finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
pub struct MessageReply {
    pub role: &'static str,
    /// Never null.
    pub content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<CallReply>,
    pub refusal: Option<String>,
    /// References to the web, of which there are none.
    pub annotations: [(); 0],
}

/// A tool's call, or a piece of one.
#[derive(Debug, Serialize)]
pub struct CallReply {
    /// Where pieces are told apart by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// With the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    pub function: FunctionReply,
}

#[derive(Debug, Serialize)]
pub struct FunctionReply {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON text.
    pub arguments: String,
}

impl CallReply {
    /// `piece` of a choice's call in the answer with this id.
    pub fn new(answer: &str, choice: usize, piece: CallPiece) -> Self {
        let id = || {
            let random = answer.rsplit('-').next().unwrap_or(answer);
            format!("call_{random}{choice}_{}", piece.index)
        };
        let first = piece.name.is_some();
        Self {
            index: Some(piece.index),
            id: first.then(id),
            kind: first.then_some("function"),
            function: FunctionReply { name: piece.name, arguments: piece.arguments },
        }
    }
}

/// A piece of an answer.
#[derive(Debug, Serialize)]
pub struct Chunk<'a> {
    #[serde(flatten)]
    pub head: &'a Head,
    /// Empty in the chunk that carries the usage.
    pub choices: Vec<ChunkChoice>,
    /// Absent unless asked for; null until the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<UsageReply>>,
}

#[derive(Debug, Serialize)]
pub struct ChunkChoice {
    pub index: usize,
    pub delta: DeltaReply,
    pub logprobs: Option<LogprobsReply>,
    pub finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
pub struct DeltaReply {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<CallReply>,
}

impl DeltaReply {
    /// What a choice of the answer with this id said.
    pub fn new(answer: &str, choice: usize, delta: Delta) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let calls = delta.calls.into_iter().map(|piece| CallReply::new(answer, choice, piece));
        Self {
            role: None,
            content: some(delta.content),
            reasoning_content: some(delta.reasoning),
            tool_calls: calls.collect(),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct UsageReply {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub total_tokens: u32,
    pub prompt_tokens_details: PromptDetails,
    pub completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Serialize)]
pub struct PromptDetails {
    pub cached_tokens: u32,
    pub audio_tokens: u32,
}

#[derive(Debug, Serialize)]
pub struct CompletionDetails {
    pub reasoning_tokens: u32,
    pub audio_tokens: u32,
    pub accepted_prediction_tokens: u32,
    pub rejected_prediction_tokens: u32,
}

impl From<Usage> for UsageReply {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens, audio_tokens: 0 },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning_tokens,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
        }
    }
}

#[derive(Debug, Serialize)]
pub struct LogprobsReply {
    pub content: Vec<TokenReply>,
    pub refusal: Option<Vec<TokenReply>>,
}

impl From<TokenLogprobs> for LogprobsReply {
    fn from(token: TokenLogprobs) -> Self {
        Self { content: vec![token.into()], refusal: None }
    }
}
