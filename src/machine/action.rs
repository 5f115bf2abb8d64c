//! What policy wants done.

use std::time::Duration;

use super::errand::Verb;
use super::event::Seat;
use super::life;
use super::state::Rung;
use crate::fault::Fault;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// About a worker's process.
    Worker(Seat, life::Action),
    /// Ask the card's worker the test prompt.
    Test,
    /// Send the helper.
    Help(Verb),
    /// The host is about to be restarted: end every request with a proper error.
    Interrupt,
    /// Something for journal and ledger.
    Note(Note),
    /// No worker is left and none will be.
    Finish,
}

/// What journal and ledger are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// An incident began.
    Incident(Fault),
    /// A rung is used.
    Rung(Rung, Fault),
    /// A rung's act failed.
    RungFailed(Rung, Fault),
    /// The card answers again.
    Recovered { rung: Option<Rung>, fault: Fault, took: Duration },
    /// The ladder is spent, or only a person can help; tried again after `wait`.
    Resting { fault: Fault, wait: Duration },
    /// The card is tried again.
    Retrying(Fault),
    /// The card is too hot, or cool again.
    Heat { hot: bool },
}
