//! Policy's decisions carried out, and told.

use std::time::Duration;

use tracing::{error, info, warn};

use super::Actor;
use crate::fault::{Failure, Fault};
use crate::link::frame::Command;
use crate::machine::{Action, Event, Note, Pulse, Seat, State, life};
use crate::service::hands::Hands;
use crate::service::ticket::Refused;

/// After a restart of the host it takes about this long until the model answers.
const HOST_RESTART: Duration = Duration::from_secs(180);

impl<H: Hands> Actor<H> {
    /// Lets policy take in what happened and does what follows.
    pub(super) fn happen(&mut self, event: Event) {
        let actions = self.parts.machine.step(event, self.now, self.dice);
        for action in actions {
            self.carry_out(action);
        }
        self.tell_transition();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Worker(seat, action) => self.handle_worker(seat, action),
            Action::Test => self.ask_test(),
            Action::Help(verb) => {
                info!(verb = verb.name(), "the card helper is sent");
                self.parts.hands.help(verb);
            }
            Action::Interrupt => {
                let failure = Failure::new(Fault::Interrupted, "the host is being restarted");
                self.end_all(&Refused { failure, retry_after: HOST_RESTART, position: None });
            }
            Action::Note(note) => self.note(note),
            Action::Finish => {
                if !std::mem::replace(&mut self.finished, true) {
                    info!("stopped");
                }
            }
        }
    }

    fn handle_worker(&mut self, seat: Seat, action: life::Action) {
        match action {
            life::Action::Spawn => self.spawn(seat),
            life::Action::Ask => {
                if let Err(failure) = self.parts.hands.command(seat, Command::Stop) {
                    self.distrust(seat, failure);
                }
            }
            life::Action::Unlink => {
                self.parts.hands.unlink(seat);
                let cause = self.cause.clone();
                self.detach(seat, cause.as_ref());
            }
            life::Action::Terminate => self.parts.hands.terminate(seat),
            life::Action::Kill => {
                let pid = self.post(seat).pid;
                warn!(pid, "the worker does not end and is killed");
                self.parts.hands.kill(seat);
            }
        }
    }

    fn spawn(&mut self, seat: Seat) {
        let now = self.now;
        let post = self.post(seat);
        let again = post.spawned.replace(now).is_some();
        (post.loading, post.pulse, post.warm) = (None, None, false);
        if again {
            self.status.counters.restarts += 1;
        }
        match self.parts.hands.spawn(seat) {
            Ok(pid) => {
                let post = self.post(seat);
                (post.pid, post.linked) = (Some(pid), true);
            }
            Err(failure) => {
                error!(code = failure.fault.code(), "{failure}");
                let fault = failure.fault;
                self.blame(failure);
                self.happen(Event::Exited(seat, fault));
            }
        }
    }

    /// Remembers what the present incident last saw.
    pub(super) fn blame(&mut self, failure: Failure) {
        self.cause = Some(failure.clone());
        self.status.last_failure = Some(failure);
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Incident(fault) => {
                if self.cause.as_ref().is_none_or(|cause| cause.fault != fault) {
                    // Policy's own finding: nobody reported it.
                    self.blame(Failure::new(fault, own_words(fault)));
                }
                let cause = self.cause.as_ref().map(ToString::to_string).unwrap_or_default();
                error!(code = fault.code(), "an incident begins: {cause}");
                self.status.counters.incidents += 1;
            }
            Note::Rung(rung, fault) => {
                warn!(code = fault.code(), rung = %rung, "recovering: {}", rung.act());
                self.parts.metrics.rung(rung, fault);
            }
            Note::RungFailed(rung, fault) => {
                let cause = self.cause.as_ref().map(ToString::to_string).unwrap_or_default();
                error!(code = fault.code(), rung = %rung, "{rung} failed: {cause}");
            }
            Note::Recovered { rung, fault, took } => {
                let by = rung.map_or_else(|| "itself".to_owned(), |rung| rung.to_string());
                info!(code = fault.code(), rung = by, seconds = took.as_secs_f64(), "recovered by {by}");
                self.status.counters.recoveries += 1;
                self.parts.metrics.recovered(rung, fault, took);
            }
            Note::Resting { fault, wait } => {
                let seconds = wait.as_secs();
                error!(code = fault.code(), seconds, "the card is left alone; next try in {seconds} s");
            }
            Note::Retrying(fault) => info!(code = fault.code(), "the card is tried again"),
            Note::Heat { hot: true } => warn!(code = Fault::CardHot.code(), "the card is too hot: it rests"),
            Note::Heat { hot: false } => info!(code = Fault::CardHot.code(), "the card is cool again"),
        }
        self.parts.hands.record(&note, self.cause.as_ref());
        if let Note::Recovered { .. } = note {
            self.cause = None;
        }
    }

    /// One line per change of state; what changes with each request is not worth one.
    fn tell_transition(&mut self) {
        let state = match self.parts.machine.state(false) {
            _ if self.drain.is_some() => State::Stopping,
            state => state,
        };
        let before = std::mem::replace(&mut self.told, state);
        if before != state {
            let code = self.parts.machine.incident().map(|incident| incident.latest.code());
            let (from, to) = (before.name(), state.name());
            info!(from, to, code, "{from} -> {to}");
        }
    }

    /// A worker spoke for the first time.
    pub(super) fn welcome_process(&mut self, seat: Seat) {
        let now = self.now;
        self.post(seat).pulse = Some(Pulse::new(now));
        self.happen(Event::Hello(seat));
    }
}

/// What policy finds by itself.
const fn own_words(fault: Fault) -> &'static str {
    match fault {
        Fault::WorkerStart => "it did not speak in time",
        Fault::CardStall => "the load or the test prompt took too long",
        Fault::WorkerLink => "the worker spoke out of turn",
        Fault::TaskStuck => "a killed worker does not end",
        Fault::CardAbsent => "it is not on the bus",
        Fault::CardLink => "it is not on the bus any more",
        Fault::Golden => "the test prompt was answered wrongly",
        _ => "see the lines before",
    }
}
