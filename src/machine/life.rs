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
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        hello: Duration::from_secs(30),
        stop: Duration::from_secs(10),
        term: Duration::from_secs(5),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn life(state: State) -> Life {
        Life { policy: POLICY, state, backoff: Backoff::default() }
    }

    fn ending(means: Means, until: u64, last: bool) -> State {
        State::Ending { means, until: at(until), term: at(5), served: at(0), last }
    }

    /// What each event does in each state, at second 100.
    #[test]
    fn the_table_of_states_and_events() {
        use Action::{Ask, Finish, Kill, Spawn, Terminate, Unlink};
        use Event::{Broken, Exited, Hello, Loading, Ready, Stop, Tick};
        use Means::{Asked, Killed, Terminated};
        type Row = (State, [(Event, State, &'static [Action]); 7]);

        const OUT: &[Action] = &[Unlink, Terminate];
        let early = State::Waiting { until: at(101) };
        let due = State::Waiting { until: at(100) };
        let again = State::Waiting { until: at(100) };
        let begun = State::Starting { until: at(130) };
        let starting = State::Starting { until: at(101) };
        let silent = State::Starting { until: at(100) };
        let ready = State::Ready { since: at(100) };
        let stopping = ending(Asked, 110, true);
        let going = ending(Terminated, 105, false);
        let patient = State::Ending { means: Asked, until: at(160), term: at(30), served: at(0), last: true };
        let slowly =
            State::Ending { means: Terminated, until: at(130), term: at(30), served: at(0), last: false };
        let over = State::Stopped;

        let mut rows: Vec<Row> = Vec::new();
        for (state, tick) in [(early, (Tick, early, &[] as &[_])), (due, (Tick, begun, &[Spawn]))] {
            let same = |e| (e, state, &[] as &[_]);
            let stop = (Stop, over, &[Finish] as &[_]);
            rows.push((
                state,
                [tick, same(Hello), same(Loading), same(Ready), same(Broken), same(Exited), stop],
            ));
        }
        for (state, tick) in [(starting, (Tick, starting, &[] as &[_])), (silent, (Tick, going, OUT))] {
            rows.push((
                state,
                [
                    tick,
                    (Hello, State::Loading, &[]),
                    (Loading, going, OUT),
                    (Ready, going, OUT),
                    (Broken, going, OUT),
                    (Exited, again, &[]),
                    (Stop, stopping, &[Ask]),
                ],
            ));
        }
        rows.push((
            State::Loading,
            [
                (Tick, State::Loading, &[]),
                (Hello, slowly, OUT),
                (Loading, State::Loading, &[]),
                (Ready, ready, &[]),
                (Broken, slowly, OUT),
                (Exited, again, &[]),
                (Stop, patient, &[Ask]),
            ],
        ));
        rows.push((
            ready,
            [
                (Tick, ready, &[]),
                (Hello, going, OUT),
                (Loading, going, OUT),
                (Ready, going, OUT),
                (Broken, going, OUT),
                (Exited, again, &[]),
                (Stop, stopping, &[Ask]),
            ],
        ));
        for last in [false, true] {
            let exited = if last { (Exited, over, &[Finish] as &[_]) } else { (Exited, again, &[] as &[_]) };
            let asked = ending(Asked, 101, last);
            let spent = ending(Asked, 100, last);
            let termed = ending(Terminated, 101, last);
            let stubborn = ending(Terminated, 100, last);
            let killed = ending(Killed, 100, last);
            let now_termed = ending(Terminated, 105, last);
            for (state, tick, broken) in [
                (asked, (Tick, asked, &[] as &[_]), (Broken, now_termed, OUT)),
                (spent, (Tick, now_termed, OUT), (Broken, now_termed, OUT)),
                (termed, (Tick, termed, &[]), (Broken, termed, &[])),
                (stubborn, (Tick, ending(Killed, 105, last), &[Kill]), (Broken, stubborn, &[])),
                (killed, (Tick, killed, &[]), (Broken, killed, &[])),
            ] {
                let same = |e| (e, state, &[] as &[_]);
                let State::Ending { means, until, term, served, .. } = state else { unreachable!() };
                let stop = (Stop, State::Ending { means, until, term, served, last: true }, &[] as &[_]);
                rows.push((state, [tick, same(Hello), same(Loading), same(Ready), broken, exited, stop]));
            }
        }
        rows.push((
            over,
            [Tick, Hello, Loading, Ready, Broken, Exited, Stop].map(|event| (event, over, &[] as &[_])),
        ));

        for (from, events) in rows {
            for (event, to, actions) in events {
                let mut life = life(from);
                assert_eq!(life.step(event, at(100), 0.5), actions, "{from:?} × {event:?}");
                assert_eq!(life.state(), to, "{from:?} × {event:?}");
            }
        }
    }

    #[test]
    fn a_worker_that_ignores_everything_is_killed_in_time() {
        let mut life = life(State::Ready { since: at(0) });
        let mut seen = vec![life.step(Event::Stop, at(100), 0.5)];
        while let Some(deadline) = life.deadline() {
            seen.push(life.step(Event::Tick, deadline, 0.5));
            assert!(deadline <= at(115));
        }
        let expected: [&[Action]; 3] =
            [&[Action::Ask], &[Action::Unlink, Action::Terminate], &[Action::Kill]];
        assert_eq!(seen, expected);
        assert_eq!(life.step(Event::Exited, at(150), 0.5), [Action::Finish]);
    }

    #[test]
    fn a_healthy_worker_that_hangs_is_replaced_without_waiting() {
        let mut life = life(State::Ready { since: at(0) });
        life.backoff.fail(at(0), 0.5);
        life.step(Event::Broken, at(100), 0.5);
        life.step(Event::Exited, at(103), 0.5);
        assert_eq!(life.state(), State::Waiting { until: at(103) });
        assert_eq!(life.failures(), 1);
    }

    proptest::proptest! {
        /// Whatever happens, a worker is never spawned while one lives, and a stop is final.
        #[test]
        fn one_worker_at_a_time_and_a_stop_is_final(
            events in proptest::collection::vec((0usize..8, 0u64..40), 1..200),
        ) {
            use Event::{Broken, Exited, Hello, Loading, Ready, Stop, Tick};
            let mut life = Life::new(POLICY);
            let (mut alive, mut stopped, mut now) = (false, false, at(0));
            for (pick, wait) in events {
                now += at(wait);
                let event = [Tick, Tick, Hello, Loading, Ready, Broken, Exited, Stop][pick];
                if event == Exited && !alive {
                    continue;
                }
                stopped |= event == Stop;
                alive &= event != Exited;
                for action in life.step(event, now, 0.5) {
                    if *action == Action::Spawn {
                        proptest::prop_assert!(!alive && !stopped);
                        alive = true;
                    }
                    if *action == Action::Finish {
                        proptest::prop_assert!(!alive && stopped);
                    }
                }
            }
        }
    }
}
