//! A machine with two slots, power cuts and people, in memory.

use proptest::prelude::*;

use super::super::*;

/// A machine with two slots, and a firmware that does what the Raspberry Pi's does.
pub struct World {
    pub record: Record,
    pub autoboot: Option<Slot>,
    /// Whether each slot's present contents answer.
    pub works: [bool; 2],
    /// Whether each slot's present contents were ever judged good.
    pub proved: [bool; 2],
    pub running: Slot,
    pub tryboot: bool,
    pub network: bool,
    /// The state partition takes no writes.
    pub full: bool,
    /// The firmware's sector takes no writes.
    pub stuck: bool,
    pub restarts: u32,
    /// What the firmware was made to start, and whether that was ever judged good.
    pub commits: Vec<(Slot, bool)>,
}

pub fn index(slot: Slot) -> usize {
    usize::from(slot == Slot::B)
}

impl World {
    /// Slot A runs and was judged good.
    pub fn new() -> Self {
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

    pub fn facts(&self) -> Facts {
        let version = format!("1.{}", index(self.running));
        let (running, tryboot, committed) = (self.running, self.tryboot, self.autoboot);
        Facts { running, tryboot, committed, version, floor: "0.9".into() }
    }

    /// As the keeper does; `cut` ends it before that step.
    pub fn carry_out(&mut self, decision: Decision, cut: usize) {
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

    pub fn boot(&mut self, tryboot: bool) {
        self.restarts += 1;
        assert!(self.restarts <= 4, "it restarts for ever: {:?}", self.record);
        let committed = self.autoboot.unwrap_or(Slot::A);
        self.tryboot = tryboot && self.autoboot.is_some();
        self.running = if self.tryboot { committed.other() } else { committed };
        self.carry_out(start(&self.record, &self.facts()), 3);
    }

    /// Also a watchdog's reset: nothing of what was asked for is left.
    pub fn power_cycle(&mut self) {
        self.restarts = 0;
        self.boot(false);
    }

    pub fn judge(&mut self) {
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
    pub fn install(&mut self, works: bool, steps: usize) {
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

    pub fn works(&self) -> bool {
        self.works[index(self.running)]
    }
}

#[derive(Clone, Debug)]
pub enum Event {
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

pub fn events() -> impl Strategy<Value = Event> {
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

pub fn apply(world: &mut World, event: &Event) {
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
