//! Answers in the older shape, `text_completion`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::http::answer::TokenReply;
use crate::http::openai::reply::{Head, UsageReply};

/// A whole answer, or a piece of one.
#[derive(Debug, Serialize)]
pub struct Completion<'a> {
    #[serde(flatten)]
    pub head: &'a Head,
    /// Empty in the piece that carries the usage.
    pub choices: Vec<Choice>,
    /// Absent from a stream unless asked for; null until its last piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<UsageReply>>,
}

#[derive(Debug, Serialize)]
pub struct Choice {
    pub index: usize,
    pub text: String,
    /// Null unless asked for.
    pub logprobs: Option<Logprobs>,
    pub finish_reason: Option<&'static str>,
}

/// Log-probabilities as lists, one entry per token in each.
#[derive(Debug, Default, Serialize)]
pub struct Logprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    /// The alternatives and the token itself.
    top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Where each token begins, in characters of the answer.
    text_offset: Vec<usize>,
}

impl Logprobs {
    /// Of tokens that begin at `offset`, which goes on to their end.
    pub fn new(tokens: Vec<TokenReply>, offset: &mut usize) -> Self {
        let mut lists = Self::default();
        for TokenReply { chosen, top_logprobs } in tokens {
            let mut top: BTreeMap<String, f32> =
                top_logprobs.into_iter().map(|other| (other.token, other.logprob)).collect();
            top.insert(chosen.token.clone(), chosen.logprob);
            lists.top_logprobs.push(top);
            lists.text_offset.push(*offset);
            *offset += chosen.token.chars().count();
            lists.token_logprobs.push(chosen.logprob);
            lists.tokens.push(chosen.token);
        }
        lists
    }
}
