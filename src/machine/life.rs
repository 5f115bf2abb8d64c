//! The life of a worker: `step(event, now)` changes the state and says what to do.
//!
//! ```text
//! Absent ─▶ Waiting ─▶ Starting ─▶ Loading ─▶ Ready
//!    ▲                     │          │         │
//!    └────── Ending ◀──────┴──────────┴─────────┘      after Stop: Ending ─▶ Stopped
//! ```

use std::time::Duration;

/// A load that is cut off can wedge the card: while loading, patience is this many times longer.
const LOADING_PATIENCE: u32 = 6;

/// The driver may hold a killed process for 50 s; one that is there for longer is stuck.
const KILL_PATIENCE: Duration = Duration::from_secs(75);

/// Where a worker is in its life. Times are since the supervisor's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No worker, and none is due.
    Absent,
    /// No worker; the next one starts at `until`.
    Waiting { until: Duration },
    /// Spawned, has not spoken; given up at `until`.
    Starting { until: Duration },
    /// Loads its model; given up at `until`.
    Loading { until: Duration },
    /// Its model is loaded.
    Ready,
    /// On its way out; the next harder means is used at `until`. `last`: none follows it.
    Ending { means: Means, until: Duration, term: Duration, last: bool },
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
    /// Its model is loaded.
    Ready,
    /// It cannot be trusted any more: it said so, its link broke, its card is sick.
    Broken,
    /// It cannot be trusted any more and has not answered for long: little patience is due.
    Hung,
    /// It is not needed any more.
    Retire,
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
}

/// Deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// From spawn to first frame.
    pub hello: Duration,
    /// From first frame to the loaded model.
    pub load: Duration,
    /// From the stop frame to SIGTERM.
    pub stop: Duration,
    /// From SIGTERM to SIGKILL.
    pub term: Duration,
    /// The same for a worker that hangs.
    pub hung: Duration,
}

/// A state with its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    policy: Policy,
    state: State,
}

impl Life {
    /// No worker yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::Absent }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Whether its model is loaded.
    pub fn ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether a process lives, as far as is known.
    pub fn alive(&self) -> bool {
        !matches!(self.state, State::Absent | State::Waiting { .. } | State::Stopped)
    }

    /// Whether its end would be a surprise.
    pub fn is_wanted(&self) -> bool {
        self.alive() && !matches!(self.state, State::Ending { .. })
    }

    /// A worker is to start at `until`, where none is there.
    pub fn start(&mut self, until: Duration) {
        if self.state == State::Absent {
            self.state = State::Waiting { until };
        }
    }

    /// No worker is to start after all.
    pub fn unstart(&mut self) {
        if let State::Waiting { .. } = self.state {
            self.state = State::Absent;
        }
    }

    /// From when on a killed process counts as stuck in the kernel.
    pub fn stuck_from(&self) -> Option<Duration> {
        match self.state {
            State::Ending { means: Means::Killed, until, .. } => Some(until),
            _ => None,
        }
    }

    /// Whether even SIGKILL did not end it in time.
    pub fn stuck(&self, now: Duration) -> bool {
        self.stuck_from().is_some_and(|from| now >= from)
    }

    /// When the next [`Event::Tick`] is needed.
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Waiting { until } | State::Starting { until } | State::Loading { until } => Some(until),
            State::Ending { means: Means::Asked | Means::Terminated, until, .. } => Some(until),
            State::Ending { means: Means::Killed, .. } | State::Absent | State::Ready | State::Stopped => {
                None
            }
        }
    }

    /// Takes in what happened.
    pub fn step(&mut self, event: Event, now: Duration) -> &'static [Action] {
        use Action::{Ask, Kill, Spawn, Terminate, Unlink};
        match (self.state, event) {
            (State::Stopped, _) => &[],
            (State::Waiting { until }, Event::Tick) if now >= until => {
                self.state = State::Starting { until: now + self.policy.hello };
                &[Spawn]
            }
            (State::Absent | State::Waiting { .. }, Event::Stop) => {
                self.state = State::Stopped;
                &[]
            }
            (State::Waiting { .. }, Event::Retire) => {
                self.state = State::Absent;
                &[]
            }
            (State::Absent | State::Waiting { .. }, _) => &[],

            (State::Ending { last, .. }, Event::Exited) => {
                self.state = if last { State::Stopped } else { State::Absent };
                &[]
            }
            (State::Ending { means, until, term, .. }, Event::Stop) => {
                self.state = State::Ending { means, until, term, last: true };
                &[]
            }
            (State::Ending { means: Means::Asked, until, .. }, Event::Tick) if now < until => &[],
            (State::Ending { means: Means::Asked, .. }, Event::Tick | Event::Broken | Event::Hung) => {
                self.end(Means::Terminated, self.policy.term, now);
                &[Unlink, Terminate]
            }
            (State::Ending { means: Means::Terminated, until, .. }, Event::Tick) if now >= until => {
                self.end(Means::Killed, KILL_PATIENCE, now);
                &[Kill]
            }
            (State::Ending { .. }, _) => &[],

            (_, Event::Exited) => {
                self.state = State::Absent;
                &[]
            }
            (_, Event::Stop | Event::Retire) => {
                self.end(Means::Asked, self.policy.stop, now);
                if let State::Ending { last, .. } = &mut self.state {
                    *last = event == Event::Stop;
                }
                &[Ask]
            }
            (State::Starting { .. }, Event::Hello) => {
                self.state = State::Loading { until: now + self.policy.load };
                &[]
            }
            (State::Starting { until } | State::Loading { until }, Event::Tick) if now < until => &[],
            (State::Loading { .. }, Event::Ready) => {
                self.state = State::Ready;
                &[]
            }
            (State::Loading { .. }, Event::Loading) | (State::Ready, Event::Tick) => &[],
            // Broken, silent for too long, or speaking out of turn.
            (State::Starting { .. } | State::Loading { .. } | State::Ready, event) => {
                let hung = event == Event::Hung && self.state == State::Ready;
                self.end(Means::Terminated, if hung { self.policy.hung } else { self.policy.term }, now);
                &[Unlink, Terminate]
            }
        }
    }

    /// Enters or goes on with [`State::Ending`]; the next means is due after `wait`.
    fn end(&mut self, means: Means, wait: Duration, now: Duration) {
        let patience = if matches!(self.state, State::Loading { .. }) { LOADING_PATIENCE } else { 1 };
        let (term, last) = match self.state {
            State::Ending { term, last, .. } => (term, last),
            _ => (self.policy.term * patience, false),
        };
        let wait = match (self.state, means) {
            (State::Ending { .. }, Means::Terminated) => term,
            _ => wait * patience,
        };
        self.state = State::Ending { means, until: now + wait, term, last };
    }
}

#[cfg(test)]
mod tests;
