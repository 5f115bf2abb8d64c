//! What is told about the service.

use std::collections::VecDeque;

use serde::Serialize;

use crate::fault::Failure;
use crate::link::frame::ModelInfo;
use crate::machine::{Rung, State};

use super::course::Answered;

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
    /// Answers begun anew on another model, before their client had seen anything.
    pub restarted_answers: u64,
    /// Requests that came while no worker was ready and were held.
    pub held: u64,
    /// Requests answered by the small model on the CPU.
    pub degraded: u64,
    /// Clients told a configured sentence instead of an error.
    pub spoken_fallbacks: u64,
    /// Incidents begun.
    pub incidents: u64,
    /// Incidents that ended with a card that answers.
    pub recoveries: u64,
}

/// The incident under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// What was seen last.
    pub code: &'static str,
    /// What it began with.
    pub first: &'static str,
    /// The last rung used.
    pub rung: Option<Rung>,
    /// Since it began.
    pub seconds: u64,
}

/// An installed model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Installed {
    pub name: String,
    /// Whether it is on the card.
    pub loaded: bool,
    /// Until it is unloaded, if nobody uses it; nothing where it stays, or is not there.
    pub expires_s: Option<u64>,
    /// As it was when it was last loaded.
    #[serde(skip)]
    pub info: Option<ModelInfo>,
}

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    #[serde(flatten)]
    pub state: State,
    /// Whether a request would be answered now: a model is loaded, has proved itself, and its
    /// worker answers.
    pub ready: bool,
    /// The small model on the CPU answers instead of the card.
    pub degraded: bool,
    /// The card computes much slower than usual.
    pub slow: bool,
    /// The card's temperature, °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f32>,
    /// Free memory of the card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card_free_memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// Seconds until the card is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_s: Option<u64>,
    /// The model that is loaded from the start, or what stands in for it.
    pub model: Option<ModelInfo>,
    /// Every installed model, that one first.
    pub models: Vec<Installed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loading: Option<Loading>,
    /// Requests that wait.
    pub queue: usize,
    /// Whether a request is being answered.
    pub running: bool,
    pub worker_pid: Option<u32>,
    /// Workers that failed in a row.
    pub failures: u32,
    /// What went wrong last.
    #[serde(serialize_with = "told")]
    pub last_failure: Option<Failure>,
    pub counters: Counters,
    /// The last answers, newest first.
    pub answers: VecDeque<Answered>,
}

/// A failure for readers: its code, its words together and one by one.
fn told<S: serde::Serializer>(failure: &Option<Failure>, to: S) -> Result<S::Ok, S::Error> {
    failure
        .as_ref()
        .map(|f| {
            serde_json::json!({
                "code": f.fault.code(),
                "message": f.to_string(),
                "meaning": f.fault.meaning(),
                "detail": f.detail,
                "remedy": f.fault.remedy(),
            })
        })
        .serialize(to)
}

impl Status {
    /// One line for `systemctl status`.
    pub fn line(&self) -> String {
        let model = self.model.as_ref().map_or("the model", |model| model.name.as_str());
        let failure = || self.last_failure.as_ref().map_or("", |failure| failure.fault.code());
        match (self.state, &self.loading) {
            (State::Loading, Some(loading)) => {
                format!("Loading {}/{}: {}", loading.done, loading.of, loading.what)
            }
            (State::Ready | State::Busy, _) => format!("Answering with {model}, {} waiting", self.queue),
            (State::Degraded, _) => {
                format!("Degraded: answering with {model} on the CPU, {} waiting; {}", self.queue, failure())
            }
            (State::Recovering(rung), _) => format!("Recovering from {}: {}", failure(), rung.act()),
            (State::Parked | State::NoCard | State::ThermalHold, _) => {
                format!("Not answering ({}): {}", self.state.name(), failure())
            }
            (state, _) => state.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Failure, Fault};

    #[test]
    fn the_status_line_says_what_is_going_on() {
        let mut status = Status { state: State::Loading, ..Status::default() };
        status.loading = Some(Loading { done: 3, of: 30, what: "layer 2".into() });
        assert_eq!(status.line(), "Loading 3/30: layer 2");
        status.state = State::Recovering(Rung::R1);
        status.last_failure = Some(Failure::new(Fault::WorkerExit, "signal 9"));
        assert_eq!(status.line(), "Recovering from E-WORKER-EXIT: the worker is replaced");
        status.state = State::Ready;
        assert_eq!(status.line(), "Answering with the model, 0 waiting");
    }
}
