use proptest::prelude::*;

use super::*;

/// A machine with two slots, and a firmware that does what the Raspberry Pi's does.
struct World {
    record: Record,
    autoboot: Option<Slot>,
    /// Whether each slot's present contents answer.
    works: [bool; 2],
    /// Whether each slot's present contents were ever judged good.
    proved: [bool; 2],
    running: Slot,
    tryboot: bool,
    network: bool,
    /// The state partition takes no writes.
    full: bool,
    /// The firmware's sector takes no writes.
    stuck: bool,
    restarts: u32,
    /// What the firmware was made to start, and whether that was ever judged good.
    commits: Vec<(Slot, bool)>,
}

fn index(slot: Slot) -> usize {
    usize::from(slot == Slot::B)
}

impl World {
    /// Slot A runs and was judged good.
    fn new() -> Self {
        let mut world = Self {
            record: Record::default(),
            autoboot: Some(Slot::A),
            works: [true, false],
            proved: [false, false],
            running: Slot::A,
            tryboot: false,
            network: true,
            full: false,
            stuck: false,
            restarts: 0,
            commits: Vec::new(),
        };
        world.power_cycle();
        world.judge();
        world
    }

    fn facts(&self) -> Facts {
        let version = format!("1.{}", index(self.running));
        let (running, tryboot, committed) = (self.running, self.tryboot, self.autoboot);
        Facts { running, tryboot, committed, version, floor: "0.9".into() }
    }

    /// As the keeper does; `cut` ends it before that step.
    fn carry_out(&mut self, decision: Decision, cut: usize) {
        if let Some(slot) = decision.commit.filter(|_| cut > 0) {
            if self.stuck {
                return;
            }
            self.autoboot = Some(slot);
            self.commits.push((slot, self.proved[index(slot)]));
        }
        let saved = cut > 1 && !self.full;
        if saved {
            self.record = decision.record;
        }
        match decision.restart.filter(|_| cut > 2) {
            Some(Restart::Trial) if saved => self.boot(true),
            Some(Restart::Plain) => self.boot(false),
            _ => {}
        }
    }

    fn boot(&mut self, tryboot: bool) {
        self.restarts += 1;
        assert!(self.restarts <= 4, "it restarts for ever: {:?}", self.record);
        let committed = self.autoboot.unwrap_or(Slot::A);
        self.tryboot = tryboot && self.autoboot.is_some();
        self.running = if self.tryboot { committed.other() } else { committed };
        self.carry_out(start(&self.record, &self.facts()), 3);
    }

    /// Also a watchdog's reset: nothing of what was asked for is left.
    fn power_cycle(&mut self) {
        self.restarts = 0;
        self.boot(false);
    }

    fn judge(&mut self) {
        self.restarts = 0;
        let (facts, slot) = (self.facts(), self.running);
        let verdict = Verdict { network: self.network, ..Verdict::default() };
        if self.works[index(slot)] && objection(&self.record, &facts, &verdict).is_none() {
            self.proved[index(slot)] = true;
            self.carry_out(judged_good(&self.record, &facts, verdict), 3);
        } else {
            self.carry_out(overdue(&self.record, &facts, "no answer"), 3);
        }
    }

    /// RAUC's calls around the writing; a power cut ends it after `steps` of them.
    fn install(&mut self, works: bool, steps: usize) {
        self.restarts = 0;
        let target = self.running.other();
        if installable(&self.record, &self.facts()).is_err() {
            return;
        }
        let Ok(decision) = set_state(&self.record, &self.facts(), target, false) else { return };
        self.carry_out(decision, 3);
        if self.full {
            // The backend's failure ends the installation before anything is written.
            return;
        }
        (self.works[index(target)], self.proved[index(target)]) = (works && steps > 1, false);
        assert_ne!(self.autoboot, Some(target), "what is started by itself was overwritten");
        if steps > 1 {
            let decision = set_primary(&self.record, &self.facts(), target).unwrap();
            self.carry_out(decision, 3);
        }
        match begin_trial(&self.record, &self.facts()) {
            Ok(decision) if steps > 2 => self.carry_out(decision, 3),
            _ => self.power_cycle(),
        }
    }

    fn works(&self) -> bool {
        self.works[index(self.running)]
    }
}

#[derive(Clone, Debug)]
enum Event {
    PowerCycle,
    Judge,
    Install {
        works: bool,
        steps: usize,
    },
    LoseRecord,
    LoseSector,
    /// The next verdict's steps are cut short by a power cut.
    Cut {
        steps: usize,
    },
    Network(bool),
    Full(bool),
    Stuck(bool),
    SetState {
        slot: Slot,
        good: bool,
    },
    SetPrimary(Slot),
}

fn events() -> impl Strategy<Value = Event> {
    let slot = prop_oneof![Just(Slot::A), Just(Slot::B)];
    prop_oneof![
        4 => Just(Event::PowerCycle),
        4 => Just(Event::Judge),
        4 => (any::<bool>(), 1..=3_usize).prop_map(|(works, steps)| Event::Install { works, steps }),
        1 => Just(Event::LoseRecord),
        1 => Just(Event::LoseSector),
        2 => (0..3_usize).prop_map(|steps| Event::Cut { steps }),
        1 => any::<bool>().prop_map(Event::Network),
        1 => any::<bool>().prop_map(Event::Full),
        1 => any::<bool>().prop_map(Event::Stuck),
        1 => (slot.clone(), any::<bool>()).prop_map(|(slot, good)| Event::SetState { slot, good }),
        1 => slot.prop_map(Event::SetPrimary),
    ]
}

fn apply(world: &mut World, event: &Event) {
    match event {
        Event::PowerCycle => world.power_cycle(),
        Event::Judge => world.judge(),
        Event::Install { works, steps } => world.install(*works, *steps),
        Event::LoseRecord => world.record = Record::default(),
        Event::LoseSector => {
            world.autoboot = None;
            world.power_cycle();
        }
        Event::Cut { steps } => {
            world.restarts = 0;
            let facts = world.facts();
            let verdict = Verdict { network: world.network, ..Verdict::default() };
            if world.works() && objection(&world.record, &facts, &verdict).is_none() {
                world.proved[index(world.running)] = true;
                world.carry_out(judged_good(&world.record, &facts, verdict), *steps);
            } else {
                world.carry_out(overdue(&world.record, &facts, "no answer"), *steps);
            }
            world.power_cycle();
        }
        Event::Network(there) => world.network = *there,
        Event::Full(full) => world.full = *full,
        Event::Stuck(stuck) => world.stuck = *stuck,
        Event::SetState { slot, good } => {
            // A person judges rightly.
            if !good || world.running == *slot && world.works() {
                if *good {
                    world.proved[index(*slot)] = true;
                }
                if let Ok(decision) = set_state(&world.record, &world.facts(), *slot, *good) {
                    world.carry_out(decision, 3);
                }
            }
        }
        Event::SetPrimary(slot) => {
            if let Ok(decision) = set_primary(&world.record, &world.facts(), *slot) {
                world.carry_out(decision, 3);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_a_working_slot_is_reached_and_nothing_unproved_is_committed(
        happens in proptest::collection::vec(events(), 0..40)
    ) {
        let mut world = World::new();
        for event in &happens {
            let before = world.commits.len();
            // Where the sector is lost the firmware's choice is written, whatever is known of it.
            let lost = world.autoboot.is_none() || matches!(event, Event::LoseSector);
            apply(&mut world, event);
            let proved = world.commits.iter().skip(before).all(|&(_, proved)| proved);
            prop_assert!(lost || proved, "after {event:?}: {:?}", world.commits);
        }
        // Where both the sector and the record are lost nobody knows what is in the other slot.
        let happened = |wanted: fn(&Event) -> bool| happens.iter().any(wanted);
        let unknown = happened(|e| matches!(e, Event::LoseSector))
            && happened(|e| matches!(e, Event::LoseRecord | Event::Full(true)));
        (world.full, world.stuck, world.network) = (false, false, true);
        let reached = (0..12).any(|_| {
            world.power_cycle();
            world.judge();
            world.works() && Some(world.running) == world.autoboot
        });
        prop_assert!(reached || unknown, "{:?} {:?}", world.record, world.works);
    }

    #[test]
    fn a_committed_slot_that_breaks_is_left_once_for_one_that_was_good(
        power_cycles in 3..12_usize, judged in any::<bool>()
    ) {
        let mut world = World::new();
        world.install(true, 3);
        world.judge();
        prop_assert_eq!((world.running, world.autoboot), (Slot::B, Some(Slot::B)));
        world.works = [true, false];
        for _ in 0..=power_cycles {
            world.power_cycle();
            if judged {
                world.judge();
            }
        }
        prop_assert!(world.running == Slot::A && !world.record.is_good(Slot::B));
        prop_assert_eq!(world.commits.iter().filter(|(slot, _)| *slot == Slot::A).count(), 1);
    }
}

#[test]
fn with_no_slot_that_works_it_stays_where_it_is_in_the_end() {
    let mut world = World::new();
    world.install(true, 3);
    world.judge();
    world.works = [false, false];
    for _ in 0..30 {
        world.power_cycle();
        world.judge();
    }
    assert_eq!((world.running, world.commits.len()), (Slot::A, 2), "one commit of B, one back to A");
}

#[test]
fn a_trial_survives_one_power_cut_and_not_two() {
    let mut world = World::new();
    world.install(true, 3);
    assert_eq!((world.running, world.tryboot), (Slot::B, true));
    world.power_cycle();
    assert_eq!((world.running, world.tryboot), (Slot::B, true), "tried again by the old slot");
    assert_eq!(world.autoboot, Some(Slot::A));
    world.power_cycle();
    assert_eq!(world.running, Slot::A);
    assert_eq!(world.record.b.why, "it was started 2 times and came to no verdict");
    world.power_cycle();
    assert_eq!(world.running, Slot::A);
}

#[test]
fn a_trial_that_is_not_judged_good_is_left_with_the_reason() {
    let mut world = World::new();
    world.install(false, 3);
    world.judge();
    assert_eq!((world.running, world.tryboot, world.record.trial.is_none()), (Slot::A, false, true));
    assert_eq!((world.record.b.state, world.record.b.why.as_str()), (State::Bad, "no answer"));
}

#[test]
fn a_trial_without_a_network_is_good_only_where_there_was_none_before() {
    let mut world = World::new();
    world.network = false;
    world.install(true, 3);
    world.judge();
    assert_eq!(world.autoboot, Some(Slot::A), "the old slot had a network");
    world.judge();
    world.install(true, 3);
    world.judge();
    assert_eq!(world.autoboot, Some(Slot::B), "the old slot had none either");
}

#[test]
fn a_trial_whose_record_is_lost_is_judged_all_the_same() {
    for works in [true, false] {
        let mut world = World::new();
        world.install(works, 3);
        world.record = Record::default();
        world.carry_out(start(&world.record, &world.facts()), 3);
        assert_eq!(world.record.trial, Some(Trial { slot: Slot::B, attempts: ATTEMPTS }));
        world.judge();
        assert_eq!(world.autoboot, Some(if works { Slot::B } else { Slot::A }));
        assert!(world.works());
    }
}

#[test]
fn a_verdict_cut_short_after_the_sector_was_written_holds() {
    let mut world = World::new();
    world.install(true, 3);
    apply(&mut world, &Event::Cut { steps: 1 });
    assert_eq!((world.running, world.tryboot, &world.record.trial), (Slot::B, false, &None));
}

#[test]
fn a_lost_sector_is_written_again_for_what_was_good() {
    let mut world = World::new();
    world.install(true, 3);
    world.judge();
    apply(&mut world, &Event::LoseSector);
    assert_eq!((world.running, world.autoboot), (Slot::A, Some(Slot::B)));
    world.power_cycle();
    assert_eq!(world.running, Slot::B);
}

#[test]
fn a_slot_that_the_firmware_chose_itself_is_committed_when_it_is_good() {
    let mut facts = World::new().facts();
    facts.committed = Some(Slot::B);
    let record = World::new().record;
    assert_eq!(settle(&record, &facts).2, Role::Stray);
    assert_eq!(start(&record, &facts).restart, None);
    assert!(installable(&record, &facts).is_err());
    assert_eq!(overdue(&record, &facts, "x").restart, None);
    assert_eq!(judged_good(&record, &facts, Verdict::default()).commit, Some(Slot::A));
}

#[test]
fn nothing_is_said_of_a_slot_that_would_leave_none_to_start() {
    let mut world = World::new();
    let refused =
        |world: &World, slot, good| set_state(&world.record, &world.facts(), slot, good).unwrap_err();
    assert_eq!(refused(&world, Slot::A, false), "slot a stays: slot b was never judged good");
    assert!(refused(&world, Slot::B, true).contains("only what runs"));
    world.install(true, 3);
    assert!(refused(&world, Slot::A, false).contains("wait until slot b is judged"));
    assert!(set_primary(&world.record, &world.facts(), Slot::B).unwrap_err().contains("on trial"));
    assert_eq!(primary(&world.record, &world.facts()), Slot::B);
}

#[test]
fn a_trial_can_be_called_off_and_its_floor_holds_only_when_it_is_good() {
    let mut world = World::new();
    assert_eq!(world.record.floor, "0.9");
    world.carry_out(set_primary(&world.record, &world.facts(), Slot::B).unwrap(), 3);
    assert_eq!(primary(&world.record, &world.facts()), Slot::B);
    world.carry_out(set_primary(&world.record, &world.facts(), Slot::A).unwrap(), 3);
    assert_eq!(begin_trial(&world.record, &world.facts()).unwrap_err(), "no slot is to be tried");
    world.power_cycle();
    assert_eq!(world.running, Slot::A);
}

#[test]
fn versions_are_compared_by_their_numbers() {
    for (this, than, expected) in [
        ("0.10.0", "0.9.9", true),
        ("0.1.0", "0.1", false),
        ("1.0", "1.0.0", false),
        ("v2", "1.9", true),
        ("1.2.3-rc1", "1.2.3", false),
        ("", "0.1", false),
        ("0.1", "", true),
    ] {
        assert_eq!(newer(this, than), expected, "{this} {than}");
    }
}
