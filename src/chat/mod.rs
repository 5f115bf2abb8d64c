//! The common language between HTTP dialects, service, link and worker: what is
//! asked, under which parameters, and what comes back. Data only, no I/O.

mod event;
mod request;

pub use event::{
    CallPiece, Delta, Done, Event, Finish, Started, Timings, Token, TokenChoice, TokenLogprobs, Usage,
};
pub use request::{
    Format, Input, KeepAlive, Limits, Message, Overflow, Priority, Request, Role, Sampling, Think, Tool,
    ToolCall, ToolChoice, Tools,
};

use serde::{Deserialize, Serialize};

/// Identifies a request between supervisor and worker; unique for the life of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A token's number in the model's vocabulary.
pub type TokenId = u32;
