//! A world in virtual time: workers, a card that breaks, a helper, a host that restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Dice;
use super::worker::{Process, Spoke};
use crate::chat::TokenId;
use crate::detect::Sighting;
use crate::fault::{Failure, Fault, Result};
use crate::link::frame::{Command, Health, Report};
use crate::link::spawn::Incoming;
use crate::machine::{Note, Rung, Seat, Verb};
use crate::recover::Reply;
use crate::recover::verb::Facts;
use crate::service::hands::{Hands, Happening};

/// What a break of the card looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// The worker ends.
    Crash,
    /// A call does not return.
    Stall,
    /// Nothing answers pings.
    Silence,
    /// The worker talks nonsense.
    Nonsense,
    /// The kernel reports the card dead; calls do not return.
    Dead,
    /// The link is gone; calls fail.
    Link,
    /// The test prompt is answered wrongly.
    Wrong,
    /// Impossible logits.
    Output,
    /// Connections are refused.
    Ports,
    /// Card memory is missing.
    Memory,
    /// The load never ends.
    LoadHang,
    /// The firmware is not accepted.
    Firmware,
    /// The card is not on the bus.
    Missing,
    /// Too hot; cools down by itself.
    Hot,
    /// A file of the model is damaged; a person mends it.
    Model,
}

impl Symptom {
    pub const ALL: [Self; 15] = [
        Self::Crash,
        Self::Stall,
        Self::Silence,
        Self::Nonsense,
        Self::Dead,
        Self::Link,
        Self::Wrong,
        Self::Output,
        Self::Ports,
        Self::Memory,
        Self::LoadHang,
        Self::Firmware,
        Self::Missing,
        Self::Hot,
        Self::Model,
    ];
}

/// A break under way.
#[derive(Clone, Copy, Debug)]
pub struct Break {
    pub symptom: Symptom,
    /// The lowest rung that mends it; `None`: only time does.
    pub heals: Option<Rung>,
    /// When it mends itself.
    pub until: Duration,
}

/// What comes at some time.
enum Coming {
    /// From the process with this number.
    Process(Seat, u64, Spoke),
    Helper(u64, Verb, Reply),
    Sighted(Sighting),
    Reboot,
}

/// What the world hands to the service, or does to the host.
pub enum Next {
    Happening(Happening),
    /// The host went down and is up again: the supervisor starts anew.
    Reboot,
    /// Nothing of interest.
    Nothing,
}

pub struct World {
    pub now: Duration,
    pub dice: Dice,
    pub broken: Option<Break>,
    pub modules: bool,
    /// Further models asked for.
    pub loads: u64,
    /// How many models fit the card.
    room: usize,
    card: Option<Process>,
    cpu: Option<Process>,
    processes: u64,
    errands: u64,
    /// By time, then by order of entry.
    coming: BTreeMap<(Duration, u64), Coming>,
    entries: u64,
    golden: Option<Vec<TokenId>>,
    /// Rungs used, over all boots.
    pub used: Vec<(Rung, Duration)>,
    pub boots: Vec<Duration>,
    /// What must never happen.
    pub violations: Vec<String>,
    pub notes: Vec<(Duration, Note)>,
}

impl World {
    pub fn new(mut dice: Dice, now: Duration) -> Self {
        let room = dice.pick(&[1, 2, 3]);
        Self {
            now,
            room,
            loads: 0,
            dice,
            broken: None,
            modules: false,
            card: None,
            cpu: None,
            processes: 0,
            errands: 0,
            coming: BTreeMap::new(),
            entries: 0,
            golden: None,
            used: Vec::new(),
            boots: vec![now],
            violations: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn seat(&mut self, seat: Seat) -> &mut Option<Process> {
        match seat {
            Seat::Card => &mut self.card,
            Seat::Cpu => &mut self.cpu,
        }
    }

    fn after(&mut self, wait: Duration, coming: Coming) {
        self.entries += 1;
        self.coming.insert((self.now + wait, self.entries), coming);
    }

    /// When something comes.
    pub fn due(&self) -> Option<Duration> {
        self.coming.first_key_value().map(|((at, _), _)| *at)
    }

    /// The symptom in force, unless it has mended.
    pub fn symptom(&mut self) -> Option<Symptom> {
        self.broken.take_if(|broken| self.now >= broken.until);
        self.broken.map(|broken| broken.symptom)
    }

    /// The card breaks.
    pub fn strike(&mut self, broken: Break) {
        self.broken = Some(broken);
        let sighting = match broken.symptom {
            Symptom::Dead => Some(Sighting::Trouble(Failure::new(Fault::CardDead, "device 1: dead!"))),
            Symptom::Link => Some(Sighting::Trouble(Failure::new(Fault::CardLink, "its id reads ffff"))),
            Symptom::Missing => Some(Sighting::CardMissing),
            _ => None,
        };
        if let Some(sighting) = sighting {
            let wait = self.dice.millis(100, 5000);
            self.after(wait, Coming::Sighted(sighting));
        }
        let pid = self.card.as_ref().map(|process| process.number);
        if let Some(number) = pid {
            let spoke = match broken.symptom {
                Symptom::Crash => Spoke::Exit,
                Symptom::Nonsense => {
                    Spoke::Says(Report::Pong { nonce: 1 << 60, activity: Default::default() })
                }
                Symptom::Output => Spoke::Says(Report::Fatal(Failure::new(Fault::CardOutput, "NaN"))),
                Symptom::Link => Spoke::Says(Report::Fatal(Failure::new(Fault::CardCall, "offline"))),
                Symptom::Hot => Spoke::Says(Report::Health(Health { temperature_c: 91.0, free_memory: 0 })),
                _ => return,
            };
            self.after(Duration::from_millis(1), Coming::Process(Seat::Card, number, spoke));
        }
    }

    /// An act that mends everything up to `rung`.
    fn mend(&mut self, rung: Rung) {
        let was = self.broken.map(|broken| broken.symptom);
        self.broken.take_if(|broken| broken.heals.is_some_and(|heals| heals <= rung));
        if was == Some(Symptom::Missing) && self.broken.is_none() {
            self.after(Duration::from_secs(2), Coming::Sighted(Sighting::CardPresent));
        }
    }

    /// Lets the next thing come.
    pub fn next(&mut self) -> Next {
        let Some((_, coming)) = self.coming.pop_first() else { return Next::Nothing };
        match coming {
            Coming::Process(seat, number, spoke) => self.process_speaks(seat, number, spoke),
            Coming::Helper(number, verb, reply) if number == self.errands => {
                if let Reply::Done(_) = reply {
                    self.done(verb);
                }
                Next::Happening(Happening::Helper(reply))
            }
            Coming::Helper(..) => Next::Nothing,
            Coming::Sighted(sighting) => Next::Happening(Happening::Sighted(sighting)),
            Coming::Reboot => {
                self.coming.clear();
                (self.card, self.cpu) = (None, None);
                self.modules = false;
                self.mend(Rung::R5);
                self.boots.push(self.now);
                Next::Reboot
            }
        }
    }

    fn process_speaks(&mut self, seat: Seat, number: u64, spoke: Spoke) -> Next {
        let symptom = self.symptom().filter(|_| seat == Seat::Card);
        let (mut dice, now) = (self.dice.clone(), self.now);
        let Some(process) = self.seat(seat).as_mut().filter(|process| process.number == number) else {
            return Next::Nothing;
        };
        if matches!(spoke, Spoke::Exit) {
            *self.seat(seat) = None;
            if seat == Seat::Card {
                self.mend(Rung::R1);
            }
            let exited = Incoming::Exited(Failure::new(Fault::WorkerExit, "exit status 1"));
            return Next::Happening(Happening::Worker(seat, exited));
        }
        let (said, follow) = process.speak(spoke, symptom, now, &mut dice);
        let linked = process.linked;
        self.dice = dice;
        for (wait, spoke) in follow {
            self.after(wait, Coming::Process(seat, number, spoke));
        }
        match said {
            Some(report) if linked => Next::Happening(Happening::Worker(seat, Incoming::Report(report))),
            _ => Next::Nothing,
        }
    }

    fn done(&mut self, verb: Verb) {
        match verb {
            Verb::Probe => {}
            Verb::CardReboot => self.mend(Rung::R2),
            Verb::ModulesOut => self.modules = false,
            Verb::ModulesIn => {
                self.modules = true;
                self.mend(Rung::R3);
            }
            Verb::BusReset => self.mend(Rung::R4),
            Verb::HostReboot => self.after(Duration::from_secs(5), Coming::Reboot),
        }
    }

    fn answer(&mut self, verb: Verb) -> (Duration, Reply) {
        let symptom = self.symptom();
        let failed = |fault| Reply::Failed(Failure::new(fault, "simulated"));
        if verb != Verb::Probe && self.dice.one_in(12) {
            // It hangs, and is given up at its deadline.
            return (verb.deadline(), failed(verb.fault()));
        }
        let wait = self.dice.millis(200, 20_000);
        let reply = match (verb, symptom) {
            (Verb::Probe, Some(Symptom::Missing)) => Reply::Done(Some(Facts::default())),
            (Verb::Probe, _) => Reply::Done(Some(Facts {
                pci: Some("0001:01:00.0".into()),
                modules: if self.modules { vec!["axcl_host".into()] } else { Vec::new() },
                node: self.modules,
                firmware: true,
                holders: Vec::new(),
            })),
            (Verb::BusReset, Some(Symptom::Missing)) if !self.heals_at(Rung::R4) => failed(Fault::Bus),
            (Verb::ModulesIn, Some(Symptom::Firmware)) if !self.heals_at(Rung::R3) => failed(Fault::Firmware),
            (Verb::CardReboot, _) if !self.modules => failed(Fault::CardDriver),
            _ => Reply::Done(None),
        };
        (wait, reply)
    }

    fn heals_at(&self, rung: Rung) -> bool {
        self.broken.is_some_and(|broken| broken.heals.is_some_and(|heals| heals <= rung))
    }

    fn violation(&mut self, what: String) {
        self.violations.push(format!("{:?}: {what}", self.now));
    }
}

impl Hands for World {
    fn spawn(&mut self, seat: Seat) -> Result<u32> {
        if self.seat(seat).is_some() {
            self.violation(format!("a second worker for {seat:?}"));
        }
        self.processes += 1;
        let number = self.processes;
        let load = self.dice.millis(500, 60_000);
        let (stubborn, room) = (self.dice.one_in(8), self.room);
        let process = Process::new(number, seat, load, stubborn, room);
        *self.seat(seat) = Some(process);
        self.after(Duration::from_millis(50), Coming::Process(seat, number, Spoke::Begin));
        Ok(u32::try_from(number).unwrap())
    }

    fn command(&mut self, seat: Seat, command: Command) -> Result<()> {
        self.loads += u64::from(matches!(command, Command::Load { .. }));
        if let Some(process) = self.seat(seat) {
            let number = process.number;
            self.after(
                Duration::from_millis(1),
                Coming::Process(seat, number, Spoke::Hears(Box::new(command))),
            );
        }
        Ok(())
    }

    fn unlink(&mut self, seat: Seat) {
        if let Some(process) = self.seat(seat) {
            process.linked = false;
        }
    }

    fn terminate(&mut self, seat: Seat) {
        let symptom = self.symptom().filter(|_| seat == Seat::Card);
        let wait = self.dice.millis(50, 4000);
        if let Some(process) = self.seat(seat)
            && !process.deaf(symptom)
        {
            let number = process.number;
            self.after(wait, Coming::Process(seat, number, Spoke::Exit));
        }
    }

    fn kill(&mut self, seat: Seat) {
        let held = self.dice.one_in(6);
        let wait = if held { self.dice.millis(1000, 200_000) } else { Duration::from_millis(5) };
        if let Some(process) = self.seat(seat) {
            let number = process.number;
            self.after(wait, Coming::Process(seat, number, Spoke::Exit));
        }
    }

    fn help(&mut self, verb: Verb) {
        let disturbs = matches!(verb, Verb::CardReboot | Verb::ModulesOut | Verb::ModulesIn | Verb::BusReset);
        if disturbs && self.card.is_some() {
            self.violation(format!("{} under a living worker", verb.name()));
        }
        if verb == Verb::BusReset && self.modules {
            self.violation("the slot was reset with modules loaded".into());
        }
        self.errands += 1;
        let (wait, reply) = self.answer(verb);
        let number = self.errands;
        self.after(wait, Coming::Helper(number, verb, reply));
    }

    fn record(&mut self, note: &Note, _cause: Option<&Failure>) {
        self.notes.push((self.now, *note));
        if let Note::Rung(rung, _) = note {
            self.used.push((*rung, self.now));
        }
    }

    fn golden(&self, _fingerprint: &str) -> Option<Vec<TokenId>> {
        self.golden.clone()
    }

    fn keep_golden(&mut self, _fingerprint: &str, tokens: &[TokenId]) {
        self.golden = Some(tokens.to_vec());
    }
}
