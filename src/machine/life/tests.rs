use super::*;

const POLICY: Policy = Policy {
    hello: Duration::from_secs(30),
    load: Duration::from_secs(900),
    stop: Duration::from_secs(10),
    term: Duration::from_secs(5),
    hung: Duration::from_secs(2),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ending(means: Means, until: u64, term: u64, last: bool) -> State {
    State::Ending { means, until: at(until), term: at(term), last }
}

const EVENTS: [Event; 9] = [
    Event::Tick,
    Event::Hello,
    Event::Loading,
    Event::Ready,
    Event::Broken,
    Event::Hung,
    Event::Retire,
    Event::Exited,
    Event::Stop,
];

/// What each event does in each state, at second 100; what is not named changes nothing.
#[test]
fn the_table_of_states_and_events() {
    use Action::{Ask, Kill, Spawn, Terminate, Unlink};
    use Event::{Broken, Exited, Hello, Hung, Loading, Ready, Retire, Stop, Tick};
    use Means::{Asked, Killed, Terminated};
    type Change = (Event, State, &'static [Action]);

    const OUT: &[Action] = &[Unlink, Terminate];
    const NO: &[Action] = &[];
    let loading = State::Loading { until: at(1000) };
    let going = ending(Terminated, 105, 5, false);
    let slowly = ending(Terminated, 130, 30, false);
    let rows: Vec<(State, Vec<Change>)> = vec![
        (State::Stopped, vec![]),
        (State::Absent, vec![(Stop, State::Stopped, NO)]),
        (State::Waiting { until: at(101) }, vec![(Retire, State::Absent, NO), (Stop, State::Stopped, NO)]),
        (
            State::Waiting { until: at(100) },
            vec![
                (Tick, State::Starting { until: at(130) }, &[Spawn]),
                (Retire, State::Absent, NO),
                (Stop, State::Stopped, NO),
            ],
        ),
        (
            State::Starting { until: at(101) },
            vec![
                (Hello, State::Loading { until: at(1000) }, NO),
                (Loading, going, OUT),
                (Ready, going, OUT),
                (Broken, going, OUT),
                (Hung, going, OUT),
                (Retire, ending(Asked, 110, 5, false), &[Ask]),
                (Exited, State::Absent, NO),
                (Stop, ending(Asked, 110, 5, true), &[Ask]),
            ],
        ),
        (
            State::Starting { until: at(100) },
            vec![
                (Tick, going, OUT),
                (Hello, State::Loading { until: at(1000) }, NO),
                (Loading, going, OUT),
                (Ready, going, OUT),
                (Broken, going, OUT),
                (Hung, going, OUT),
                (Retire, ending(Asked, 110, 5, false), &[Ask]),
                (Exited, State::Absent, NO),
                (Stop, ending(Asked, 110, 5, true), &[Ask]),
            ],
        ),
        (
            loading,
            vec![
                (Hello, slowly, OUT),
                (Ready, State::Ready, NO),
                (Broken, slowly, OUT),
                (Hung, slowly, OUT),
                (Retire, ending(Asked, 160, 30, false), &[Ask]),
                (Exited, State::Absent, NO),
                (Stop, ending(Asked, 160, 30, true), &[Ask]),
            ],
        ),
        (State::Loading { until: at(100) }, vec![(Tick, slowly, OUT)]),
        (
            State::Ready,
            vec![
                (Hello, going, OUT),
                (Loading, going, OUT),
                (Ready, going, OUT),
                (Broken, going, OUT),
                (Hung, ending(Terminated, 102, 5, false), OUT),
                (Retire, ending(Asked, 110, 5, false), &[Ask]),
                (Exited, State::Absent, NO),
                (Stop, ending(Asked, 110, 5, true), &[Ask]),
            ],
        ),
        (
            ending(Asked, 101, 5, false),
            vec![
                (Broken, going, OUT),
                (Hung, going, OUT),
                (Exited, State::Absent, NO),
                (Stop, ending(Asked, 101, 5, true), NO),
            ],
        ),
        (
            ending(Asked, 100, 5, true),
            vec![
                (Tick, ending(Terminated, 105, 5, true), OUT),
                (Broken, ending(Terminated, 105, 5, true), OUT),
                (Hung, ending(Terminated, 105, 5, true), OUT),
                (Exited, State::Stopped, NO),
            ],
        ),
        (
            ending(Terminated, 101, 5, false),
            vec![(Exited, State::Absent, NO), (Stop, ending(Terminated, 101, 5, true), NO)],
        ),
        (
            ending(Terminated, 100, 5, false),
            vec![
                (Tick, ending(Killed, 175, 5, false), &[Kill]),
                (Exited, State::Absent, NO),
                (Stop, ending(Terminated, 100, 5, true), NO),
            ],
        ),
        (
            ending(Killed, 100, 5, false),
            vec![(Exited, State::Absent, NO), (Stop, ending(Killed, 100, 5, true), NO)],
        ),
    ];
    for (state, changes) in rows {
        // The overdue load is only there for its deadline.
        let only_tick = state == State::Loading { until: at(100) };
        for event in EVENTS.into_iter().filter(|&event| !only_tick || event == Tick) {
            let (after, actions) = changes
                .iter()
                .find(|(on, ..)| *on == event)
                .map_or((state, NO), |&(_, after, actions)| (after, actions));
            let mut life = Life { policy: POLICY, state };
            let got = life.step(event, at(100));
            assert_eq!((life.state, got), (after, actions), "{event:?} in {state:?}");
        }
    }
}

#[test]
fn a_start_is_only_set_where_no_worker_is() {
    let mut life = Life::new(POLICY);
    assert_eq!(life.deadline(), None);
    life.start(at(5));
    assert_eq!(life.deadline(), Some(at(5)));
    life.start(at(9));
    assert_eq!(life.deadline(), Some(at(5)), "the first counts");
    life.unstart();
    assert_eq!(life.state(), State::Absent);
    life.start(at(9));
    life.step(Event::Tick, at(9));
    assert!(life.alive());
    life.unstart();
    assert!(life.alive(), "a living worker is not undone");
}

#[test]
fn a_killed_process_that_does_not_end_counts_as_stuck() {
    let mut life = Life { policy: POLICY, state: State::Ready };
    life.step(Event::Broken, at(0));
    life.step(Event::Tick, at(5));
    assert_eq!(life.stuck_from(), Some(at(80)));
    assert!(!life.stuck(at(79)) && life.stuck(at(80)));
    assert_eq!(life.deadline(), None);
}
