//! What is told about the service.

use serde::Serialize;

use crate::fault::Failure;
use crate::link::frame::ModelInfo;

/// What the service is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The first worker has not spoken yet.
    #[default]
    Starting,
    /// A worker loads the model.
    Loading,
    /// Requests are answered at once.
    Ready,
    /// A request is being answered.
    Busy,
    /// A worker ended or is being ended; the next one follows.
    Recovering,
    /// No new requests are taken.
    Stopping,
}

/// How far a load is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Loading {
    pub done: u32,
    pub of: u32,
    pub what: String,
}

/// Counts since the start of the supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests taken.
    pub requests: u64,
    /// Requests turned away.
    pub refused: u64,
    /// Requests whose answer ended by itself.
    pub answered: u64,
    /// Requests whose client left.
    pub abandoned: u64,
    /// Requests that ended with an error.
    pub failed: u64,
    /// Tokens generated.
    pub tokens: u64,
    /// Workers started after the first.
    pub restarts: u64,
    /// Answers continued by another worker.
    pub resumes: u64,
}

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    pub phase: Phase,
    /// Whether a request would be answered now: a model is loaded and its worker answers.
    pub ready: bool,
    pub model: Option<ModelInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loading: Option<Loading>,
    /// Requests that wait.
    pub queue: usize,
    /// Whether a request is being answered.
    pub running: bool,
    pub worker_pid: Option<u32>,
    /// Workers that failed in a row.
    pub failures: u32,
    /// Why the last worker ended.
    #[serde(serialize_with = "told")]
    pub last_failure: Option<Failure>,
    pub counters: Counters,
}

/// A failure for readers: its code and its words.
fn told<S: serde::Serializer>(failure: &Option<Failure>, to: S) -> Result<S::Ok, S::Error> {
    failure
        .as_ref()
        .map(|f| serde_json::json!({"code": f.fault.code(), "message": f.to_string()}))
        .serialize(to)
}
