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

impl Status {
    /// One line for `systemctl status`.
    pub fn line(&self) -> String {
        let model = self.model.as_ref().map_or("the model", |model| model.name.as_str());
        match self.phase {
            Phase::Starting => "Starting".into(),
            Phase::Loading => match &self.loading {
                Some(loading) => format!("Loading {}/{}: {}", loading.done, loading.of, loading.what),
                None => "Loading".into(),
            },
            Phase::Ready | Phase::Busy => format!("Answering with {model}, {} waiting", self.queue),
            Phase::Recovering => match &self.last_failure {
                Some(failure) => format!("Recovering from {}", failure.fault),
                None => "Recovering".into(),
            },
            Phase::Stopping => "Stopping".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Failure, Fault};

    #[test]
    fn the_status_line_says_what_is_going_on() {
        let mut status = Status { phase: Phase::Loading, ..Status::default() };
        status.loading = Some(Loading { done: 3, of: 30, what: "layer 2".into() });
        assert_eq!(status.line(), "Loading 3/30: layer 2");
        status.phase = Phase::Recovering;
        status.last_failure = Some(Failure::new(Fault::WorkerExit, "signal 9"));
        assert_eq!(status.line(), "Recovering from E-WORKER-EXIT");
        status.phase = Phase::Ready;
        assert_eq!(status.line(), "Answering with the model, 0 waiting");
    }
}
