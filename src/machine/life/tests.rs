use super::*;

const POLICY: Policy =
    Policy { hello: Duration::from_secs(30), stop: Duration::from_secs(10), term: Duration::from_secs(5) };

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
    use Event::{Broken, Exited, Hello, Loading, Ready, Stop, Tick, Token};
    use Means::{Asked, Killed, Terminated};
    type Row = (State, [(Event, State, &'static [Action]); 8]);

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
            [tick, same(Hello), same(Loading), same(Ready), same(Token), same(Broken), same(Exited), stop],
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
                (Token, going, OUT),
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
            (Token, slowly, OUT),
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
            (Token, ready, &[]),
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
            rows.push((
                state,
                [tick, same(Hello), same(Loading), same(Ready), same(Token), broken, exited, stop],
            ));
        }
    }
    rows.push((
        over,
        [Tick, Hello, Loading, Ready, Token, Broken, Exited, Stop].map(|event| (event, over, &[] as &[_])),
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
    let expected: [&[Action]; 3] = [&[Action::Ask], &[Action::Unlink, Action::Terminate], &[Action::Kill]];
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

#[test]
fn a_worker_that_generated_a_token_is_replaced_without_waiting() {
    let mut life = life(State::Ready { since: at(0) });
    for _ in 0..5 {
        life.backoff.fail(at(0), 0.5);
    }
    life.step(Event::Token, at(1), 0.5);
    life.step(Event::Exited, at(2), 0.5);
    assert_eq!(life.state(), State::Waiting { until: at(2) });
}

proptest::proptest! {
    /// Whatever happens, a worker is never spawned while one lives, and a stop is final.
    #[test]
    fn one_worker_at_a_time_and_a_stop_is_final(
        events in proptest::collection::vec((0usize..9, 0u64..40), 1..200),
    ) {
        use Event::{Broken, Exited, Hello, Loading, Ready, Stop, Tick, Token};
        let mut life = Life::new(POLICY);
        let (mut alive, mut stopped, mut now) = (false, false, at(0));
        for (pick, wait) in events {
            now += at(wait);
            let event = [Tick, Tick, Hello, Loading, Ready, Token, Broken, Exited, Stop][pick];
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
