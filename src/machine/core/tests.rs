//! Stories in virtual time.

mod rests;

use super::super::errand::Verb;
use super::super::event::Found;
use super::super::state::{Rung, State};
use super::*;
use Rung::{R1, R2, R3, R4, R5};

const LIFE: life::Policy = life::Policy {
    hello: Duration::from_secs(30),
    load: Duration::from_secs(900),
    stop: Duration::from_secs(10),
    term: Duration::from_secs(5),
    hung: Duration::from_secs(2),
};

const POLICY: Policy = Policy {
    card: LIFE,
    cpu: LIFE,
    helper: true,
    fallback: false,
    test: Duration::from_secs(120),
    test_idle: Duration::from_secs(600),
    hot: 80.0,
    cool: 70.0,
    pace: 1.0,
};

const ALL_THERE: Found = Found { card: true, driver: true };

/// A machine with a clock, and what it did.
struct Story {
    machine: Machine,
    now: Duration,
    notes: Vec<Note>,
    verbs: Vec<Verb>,
    tests: usize,
    interrupted: usize,
    finished: bool,
}

impl Story {
    fn new(policy: Policy) -> Self {
        Self::after(policy, Ladder::default())
    }

    fn after(policy: Policy, ladder: Ladder) -> Self {
        let (notes, verbs) = (Vec::new(), Vec::new());
        let machine = Machine::new(policy, ladder);
        Self {
            machine,
            now: Duration::from_secs(1000),
            notes,
            verbs,
            tests: 0,
            interrupted: 0,
            finished: false,
        }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let actions = self.machine.step(event, self.now, 0.5);
        for action in &actions {
            match *action {
                Action::Note(note) => self.notes.push(note),
                Action::Help(verb) => self.verbs.push(verb),
                Action::Test => self.tests += 1,
                Action::Interrupt => self.interrupted += 1,
                Action::Finish => self.finished = true,
                Action::Worker(..) => {}
            }
        }
        actions
    }

    fn tick(&mut self) -> Vec<Action> {
        self.on(Event::Tick { busy: None })
    }

    fn wait(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        self.tick()
    }

    /// Time passes until a worker is started.
    fn until_spawn(&mut self, seat: Seat) {
        for _ in 0..100_000 {
            if self.tick().contains(&Action::Worker(seat, life::Action::Spawn)) {
                return;
            }
            self.now = self.machine.deadline().map_or(self.now, |at| at.max(self.now));
        }
        panic!("no worker was started: {:?}", self.machine);
    }

    fn load(&mut self, seat: Seat) {
        self.on(Event::Hello(seat));
        self.on(Event::Loading(seat));
        self.on(Event::Loaded(seat));
    }

    /// The next worker of the card starts, loads and proves itself.
    fn comes_back(&mut self) {
        self.until_spawn(Seat::Card);
        self.load(Seat::Card);
        self.on(Event::Tested(true));
        assert_eq!(self.machine.state(false), State::Ready);
    }

    fn boot(&mut self) {
        self.tick();
        if self.machine.helping() == Some(Verb::Probe) {
            self.on(Event::Helped(ALL_THERE));
        }
        self.comes_back();
    }

    /// The worker on the card ends with this fault.
    fn breaks(&mut self, fault: Fault) {
        self.on(Event::Broken(Seat::Card, fault));
        self.on(Event::Exited(Seat::Card, Fault::WorkerExit));
    }

    /// The helper does all it is asked until it is done.
    fn helper_succeeds(&mut self) {
        while self.machine.helping().is_some() {
            self.on(Event::Helped(ALL_THERE));
        }
    }

    fn rungs(&self) -> Vec<Rung> {
        let rungs = self.notes.iter().filter_map(|note| match note {
            Note::Rung(rung, _) => Some(*rung),
            _ => None,
        });
        rungs.collect()
    }

    fn state(&self) -> State {
        self.machine.state(false)
    }
}

#[test]
fn at_boot_card_and_driver_are_looked_for_and_the_driver_loaded() {
    let mut story = Story::new(POLICY);
    assert_eq!(story.state(), State::Booting);
    story.tick();
    assert_eq!((story.state(), story.machine.helping()), (State::Probing, Some(Verb::Probe)));
    story.on(Event::Helped(Found { card: true, driver: false }));
    assert_eq!(story.machine.helping(), Some(Verb::ModulesIn));
    story.on(Event::Helped(Found::default()));
    story.until_spawn(Seat::Card);
    assert_eq!(story.state(), State::Loading);
    story.load(Seat::Card);
    assert_eq!((story.state(), story.machine.serving(), story.tests), (State::Loading, None, 1));
    story.on(Event::Tested(true));
    assert_eq!((story.state(), story.machine.serving()), (State::Ready, Some(Seat::Card)));
    assert!(story.notes.is_empty(), "a boot is no incident");
}

#[test]
fn an_unreachable_helper_does_not_keep_the_card_from_being_used() {
    let mut story = Story::new(POLICY);
    story.tick();
    story.on(Event::Unhelped(Fault::Helper));
    story.comes_back();
}

#[test]
fn a_worker_that_dies_is_replaced_thrice_and_then_the_ladder_is_climbed() {
    let mut story = Story::new(POLICY);
    story.boot();
    while story.interrupted == 0 {
        story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
        story.helper_succeeds();
        if story.interrupted == 0 {
            story.until_spawn(Seat::Card);
            story.load(Seat::Card);
        }
    }
    assert_eq!(story.rungs(), [R1, R1, R1, R2, R2, R3, R3, R4, R4, R5]);
    use Verb::{BusReset, CardReboot, HostReboot, ModulesIn, ModulesOut, Probe};
    let driver = [ModulesOut, ModulesIn];
    let slot = [ModulesOut, BusReset, ModulesIn];
    let mut expected = vec![Probe, CardReboot, CardReboot];
    expected.extend([driver, driver].concat());
    expected.extend([slot, slot].concat());
    expected.push(HostReboot);
    assert_eq!(story.verbs, expected);
}

#[test]
fn the_waits_before_workers_grow() {
    let mut story = Story::new(POLICY);
    story.boot();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let before = story.now;
        story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
        story.until_spawn(Seat::Card);
        waits.push((story.now - before).as_secs());
        story.load(Seat::Card);
    }
    assert_eq!(waits, [0, 2, 10]);
    story.on(Event::Tested(true));
    story.on(Event::Token(Seat::Card));
    assert_eq!(story.machine.failures(), 0, "a token is proof enough");
}

#[test]
fn evidence_picks_the_rung() {
    for (fault, rung, verb) in [
        (Fault::CardDead, R2, Verb::CardReboot),
        (Fault::CardDriver, R3, Verb::ModulesOut),
        (Fault::CardLink, R4, Verb::ModulesOut),
    ] {
        let mut story = Story::new(POLICY);
        story.boot();
        story.on(Event::Trouble(fault));
        assert_eq!(story.verbs, [Verb::Probe], "first the worker must be gone");
        story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
        assert_eq!((story.rungs(), story.verbs.last()), (vec![rung], Some(&verb)), "{fault}");
        assert_eq!(story.state(), State::Recovering(rung));
        story.helper_succeeds();
        story.comes_back();
        let Some(Note::Recovered { rung: by, fault: from, .. }) = story.notes.last() else { panic!() };
        assert_eq!((*by, *from), (Some(rung), fault));
    }
}

#[test]
fn a_second_stall_is_the_cards() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.breaks(Fault::CardStall);
    story.until_spawn(Seat::Card);
    story.on(Event::Hello(Seat::Card));
    story.breaks(Fault::CardStall);
    assert_eq!(story.rungs(), [R1, R2]);
}

#[test]
fn after_refused_connections_the_next_attempt_waits_a_minute() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
    story.until_spawn(Seat::Card);
    story.on(Event::Hello(Seat::Card));
    let before = story.now;
    story.breaks(Fault::CardPorts);
    story.until_spawn(Seat::Card);
    assert_eq!((story.now - before).as_secs(), 60);
}

#[test]
fn a_wrong_answer_when_idle_is_asked_again_before_the_worker_goes() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.wait(599);
    assert_eq!(story.tests, 1);
    story.wait(1);
    assert_eq!((story.tests, story.machine.serving()), (2, Some(Seat::Card)), "it goes on serving");
    story.on(Event::Tested(false));
    assert_eq!((story.state(), story.tests, story.machine.serving()), (State::Suspect, 3, None));
    story.on(Event::Tested(true));
    assert_eq!(story.state(), State::Ready);
    story.wait(600);
    story.on(Event::Tested(false));
    story.on(Event::Tested(false));
    story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
    assert_eq!(story.rungs(), [R1]);
}

#[test]
fn a_busy_card_is_not_tested() {
    let mut story = Story::new(POLICY);
    story.boot();
    for _ in 0..20 {
        story.now += Duration::from_secs(300);
        story.on(Event::Tick { busy: Some(Seat::Card) });
    }
    assert_eq!(story.tests, 1);
    story.wait(600);
    assert_eq!(story.tests, 2);
}

#[test]
fn a_test_without_an_answer_is_a_stall() {
    let mut story = Story::new(POLICY);
    story.tick();
    story.on(Event::Helped(ALL_THERE));
    story.until_spawn(Seat::Card);
    story.load(Seat::Card);
    story.wait(120);
    assert!(story.notes.contains(&Note::Incident(Fault::CardStall)));
}
