//! What systemd is told: ready, status, still alive.
//!
//! The watchdog is fed from the service's own progress: a sick card never starves it,
//! a hung supervisor always does.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::service::{Phase, Status};

/// Speaks to systemd where it listens.
pub struct Notifier {
    /// Half of what the unit allows between two signs of life.
    interval: Option<Duration>,
    fed: Option<Instant>,
    told: String,
}

impl Notifier {
    /// Reads what systemd asks for from the environment.
    pub fn from_environment() -> Self {
        Self { interval: sd_notify::watchdog_enabled().map(|time| time / 2), fed: None, told: String::new() }
    }

    /// Called with each turn of the service's loop.
    pub fn beat(&mut self, status: &Status) {
        let now = Instant::now();
        let due = |interval| self.fed.is_none_or(|fed| now.duration_since(fed) >= interval);
        if self.interval.is_some_and(due) {
            self.fed = Some(now);
            send(&[NotifyState::Watchdog]);
        }
        let line = describe(status);
        if line != self.told {
            send(&[NotifyState::Status(&line)]);
            self.told = line;
        }
    }
}

/// Tells that the service can be reached.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Tells that it is about to end.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Tells that the configuration is being read again; [`ready`] follows.
pub fn reloading() {
    if let Ok(since) = NotifyState::monotonic_usec_now() {
        send(&[NotifyState::Reloading, since]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell; with it, its watchdog notices silence.
    let _ = sd_notify::notify(states);
}

/// One line for `systemctl status`.
fn describe(status: &Status) -> String {
    let model = status.model.as_ref().map_or("the model", |model| model.name.as_str());
    match status.phase {
        Phase::Starting => "Starting".into(),
        Phase::Loading => match &status.loading {
            Some(loading) => format!("Loading {}/{}: {}", loading.done, loading.of, loading.what),
            None => "Loading".into(),
        },
        Phase::Ready | Phase::Busy => format!("Answering with {model}, {} waiting", status.queue),
        Phase::Recovering => match &status.last_failure {
            Some(failure) => format!("Recovering from {}", failure.fault),
            None => "Recovering".into(),
        },
        Phase::Stopping => "Stopping".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Failure, Fault};
    use crate::service::Loading;

    #[test]
    fn the_status_line_says_what_is_going_on() {
        let mut status = Status { phase: Phase::Loading, ..Status::default() };
        status.loading = Some(Loading { done: 3, of: 30, what: "layer 2".into() });
        assert_eq!(describe(&status), "Loading 3/30: layer 2");
        status.phase = Phase::Recovering;
        status.last_failure = Some(Failure::new(Fault::WorkerExit, "signal 9"));
        assert_eq!(describe(&status), "Recovering from E-WORKER-EXIT");
        status.phase = Phase::Ready;
        assert_eq!(describe(&status), "Answering with the model, 0 waiting");
    }
}
