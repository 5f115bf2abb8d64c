//! The common language between HTTP dialects, service, link and worker: what is
//! asked, under which parameters, and what comes back. Data only, no I/O.

mod event;
mod request;

pub use event::{Delta, Done, Event, Finish, Started, Timings, Token, TokenChoice, TokenLogprobs, Usage};
pub use request::{Input, Limits, Message, Overflow, Request, Role, Sampling, Think, ToolCall};

use serde::{Deserialize, Serialize};

/// Identifies a request between supervisor and worker; unique for the life of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A token's number in the model's vocabulary.
pub type TokenId = u32;
