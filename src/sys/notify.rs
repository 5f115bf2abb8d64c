//! What systemd is told: ready, status, still alive.
//!
//! The watchdog is fed from the service's own progress: a sick card never starves it,
//! a hung supervisor always does.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

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

    /// Called with each turn of the service's loop and one line for `systemctl status`.
    pub fn beat(&mut self, line: String) {
        let now = Instant::now();
        let due = |interval| self.fed.is_none_or(|fed| now.duration_since(fed) >= interval);
        if self.interval.is_some_and(due) {
            self.fed = Some(now);
            send(&[NotifyState::Watchdog]);
        }
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
