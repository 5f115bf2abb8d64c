//! The life of a worker: `step(event, now)` changes the state and says what to do.
//!
//! ```text
//! Waiting ─▶ Starting ─▶ Loading ─▶ Ready
//!    ▲           │           │        │
//!    └── Ending ◀┴───────────┴────────┘      after Stop: Ending ─▶ Stopped
//! ```

use std::time::Duration;

use super::Backoff;

/// A load that is cut off can wedge the card: while loading, patience is this many times longer.
const LOADING_PATIENCE: u32 = 6;

/// Where a worker is in its life. Times are since the supervisor's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No worker; the next one starts at `until`.
    Waiting { until: Duration },
    /// Spawned, has not spoken; given up at `until`.
    Starting { until: Duration },
    /// Loads its model.
    Loading,
    /// Answers requests.
    Ready { since: Duration },
    /// On its way out; the next harder means is used at `until`. `served` is how long it
    /// was ready, `last` whether none follows it.
    Ending { means: Means, until: Duration, term: Duration, served: Duration, last: bool },
    /// No worker, and none will be.
    Stopped,
}

/// What was last done to end a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Asked by a stop frame.
    Asked,
    /// SIGTERM.
    Terminated,
    /// SIGKILL; there is nothing harder.
    Killed,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The worker's first frame.
    Hello,
    /// It made progress loading.
    Loading,
    /// Its model answers.
    Ready,
    /// It generated a token: proof that the card computes.
    Token,
    /// It cannot be trusted any more: it said so, its link broke, or it hangs.
    Broken,
    /// Its process ended, or could not be started.
    Exited,
    /// The supervisor wants to end.
    Stop,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker.
    Spawn,
    /// Send the stop frame.
    Ask,
    /// Close the link: no frame of this worker counts from now on.
    Unlink,
    /// Send SIGTERM.
    Terminate,
    /// Send SIGKILL.
    Kill,
    /// The last worker is gone.
    Finish,
}

/// Deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// From spawn to first frame.
    pub hello: Duration,
    /// From the stop frame to SIGTERM.
    pub stop: Duration,
    /// From SIGTERM to SIGKILL.
    pub term: Duration,
}

/// A state with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    policy: Policy,
    state: State,
    backoff: Backoff,
}

impl Life {
    /// No worker yet; the first [`Event::Tick`] starts one.
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::Waiting { until: Duration::ZERO }, backoff: Backoff::default() }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// Whether requests can be given to the worker.
    pub fn ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// When the next [`Event::Tick`] is needed.
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Waiting { until } | State::Starting { until } => Some(until),
            State::Ending { means: Means::Asked | Means::Terminated, until, .. } => Some(until),
            State::Ending { means: Means::Killed, .. }
            | State::Loading
            | State::Ready { .. }
            | State::Stopped => None,
        }
    }

    /// Takes in what happened; `dice` in 0..1 spreads back-offs.
    pub fn step(&mut self, event: Event, now: Duration, dice: f64) -> &'static [Action] {
        use Action::{Ask, Finish, Kill, Spawn, Terminate, Unlink};
        match (self.state, event) {
            (State::Stopped, _) => &[],

            (State::Waiting { until }, Event::Tick) if now >= until => {
                self.state = State::Starting { until: now + self.policy.hello };
                &[Spawn]
            }
            (State::Waiting { .. }, Event::Stop) => {
                self.state = State::Stopped;
                &[Finish]
            }
            (State::Waiting { .. }, _) => &[],

            (State::Ending { last: false, served, .. }, Event::Exited) => self.wait(served, now, dice),
            (State::Ending { last: true, .. }, Event::Exited) => {
                self.state = State::Stopped;
                &[Finish]
            }
            (State::Ending { means, until, term, served, .. }, Event::Stop) => {
                self.state = State::Ending { means, until, term, served, last: true };
                &[]
            }
            (State::Ending { means: Means::Asked, until, .. }, Event::Tick) if now >= until => {
                self.end(Means::Terminated, now)
            }
            (State::Ending { means: Means::Asked, .. }, Event::Broken) => self.end(Means::Terminated, now),
            (State::Ending { means: Means::Terminated, until, .. }, Event::Tick) if now >= until => {
                self.end(Means::Killed, now);
                &[Kill]
            }
            (State::Ending { .. }, _) => &[],

            (_, Event::Exited) => self.wait(self.served(now), now, dice),
            (_, Event::Stop) => {
                self.end(Means::Asked, now);
                &[Ask]
            }
            (State::Starting { .. }, Event::Hello) => {
                self.state = State::Loading;
                &[]
            }
            (State::Starting { until }, Event::Tick) if now < until => &[],
            (State::Loading, Event::Ready) => {
                self.state = State::Ready { since: now };
                &[]
            }
            (State::Ready { .. }, Event::Token) => {
                self.backoff = Backoff::default();
                &[]
            }
            (State::Loading, Event::Loading | Event::Tick) | (State::Ready { .. }, Event::Tick) => &[],
            // Broken, silent for too long, or speaking out of turn.
            (State::Starting { .. } | State::Loading | State::Ready { .. }, _) => {
                self.end(Means::Terminated, now);
                &[Unlink, Terminate]
            }
        }
    }

    fn served(&self, now: Duration) -> Duration {
        match self.state {
            State::Ready { since } => now.saturating_sub(since),
            State::Ending { served, .. } => served,
            _ => Duration::ZERO,
        }
    }

    fn wait(&mut self, served: Duration, now: Duration, dice: f64) -> &'static [Action] {
        self.state = State::Waiting { until: now + self.backoff.fail(served, dice) };
        &[]
    }

    /// Enters or goes on with [`State::Ending`].
    fn end(&mut self, means: Means, now: Duration) -> &'static [Action] {
        let patience = if self.state == State::Loading { LOADING_PATIENCE } else { 1 };
        let (term, last) = match self.state {
            State::Ending { term, last, .. } => (term, last),
            _ => (self.policy.term * patience, means == Means::Asked),
        };
        let wait = if means == Means::Asked { self.policy.stop * patience } else { term };
        self.state = State::Ending { means, until: now + wait, term, served: self.served(now), last };
        &[Action::Unlink, Action::Terminate]
    }
}

#[cfg(test)]
mod tests;
