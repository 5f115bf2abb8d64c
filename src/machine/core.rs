//! All recovery policy: `step(event, now)` changes the state and says what to do.

use std::time::Duration;

use super::action::{Action, Note};
use super::backoff::Backoff;
use super::errand::Errand;
use super::event::{Event, Seat};
use super::incident::Incident;
use super::ladder::Ladder;
use super::life::{self, Life};

use crate::fault::Fault;

/// What the policy depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    pub card: life::Policy,
    pub cpu: life::Policy,
    /// Whether there is a card helper.
    pub helper: bool,
    /// Whether there is a small model for the CPU.
    pub fallback: bool,
    /// From the test prompt to its answer.
    pub test: Duration,
    /// The test prompt is asked after this long without requests.
    pub test_idle: Duration,
    /// °C.
    pub hot: f32,
    /// °C.
    pub cool: f32,
    /// Divides waits and budgets: for tests.
    pub pace: f64,
}

/// Where the card is, besides its worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Booting,
    /// The helper is at work; given up at `until`.
    Errand {
        errand: Errand,
        until: Duration,
    },
    /// A worker is there, or on its way in or out.
    Working,
    /// Nothing is tried before `until`.
    Resting {
        until: Duration,
    },
    /// The host should go down; given up at `until`.
    Rebooting {
        until: Duration,
    },
}

/// Whether the loaded card has proved that it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    None,
    /// Asked; given up at `until`.
    Asked {
        until: Duration,
    },
    /// As [`Proof::Asked`], of a card that was good until now. `doubt`: it failed once.
    AskedAgain {
        until: Duration,
        doubt: bool,
    },
    Good,
}

/// The state with its history.
#[derive(Clone, Debug)]
pub struct Machine {
    policy: Policy,
    ladder: Ladder,
    mode: Mode,
    card: Life,
    cpu: Life,
    proof: Proof,
    incident: Option<Incident>,
    /// Failures of the card's worker in a row, and of the CPU's.
    backoff: Backoff,
    cpu_backoff: Backoff,
    /// Rests in this incident.
    rests: usize,
    /// When the card proved itself after the last incident.
    healthy: Duration,
    /// The card has been working or testing until then.
    last_work: Duration,
    hot: bool,
    /// Whether the card was ever on the bus: an emulated one never is.
    on_bus: bool,
    stopping: bool,
}

mod recovering;
mod telling;

impl Machine {
    /// Nothing is there yet; the first [`Event::Tick`] begins.
    pub fn new(policy: Policy, ladder: Ladder) -> Self {
        Self {
            policy,
            ladder,
            mode: Mode::Booting,
            card: Life::new(policy.card),
            cpu: Life::new(policy.cpu),
            proof: Proof::None,
            incident: None,
            backoff: Backoff::default(),
            cpu_backoff: Backoff::default(),
            rests: 0,
            healthy: Duration::ZERO,
            last_work: Duration::ZERO,
            hot: false,
            on_bus: false,
            stopping: false,
        }
    }

    /// Takes in what happened; `dice` in 0..1 spreads waits.
    pub fn step(&mut self, event: Event, now: Duration, dice: f64) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Tick { busy } => self.tick(busy, now, dice, &mut out),
            Event::Hello(seat) => self.live(seat, life::Event::Hello, now, dice, &mut out),
            Event::Loading(seat) => self.live(seat, life::Event::Loading, now, dice, &mut out),
            Event::Loaded(seat) => self.loaded(seat, now, dice, &mut out),
            Event::Token(Seat::Card) => self.backoff = Backoff::default(),
            Event::Token(Seat::Cpu) => self.cpu_backoff = Backoff::default(),
            Event::Broken(Seat::Cpu, fault) => self.live(Seat::Cpu, broken(fault), now, dice, &mut out),
            Event::Broken(Seat::Card, fault) => self.trouble(fault, now, dice, &mut out),
            Event::Exited(Seat::Cpu, _) => self.live(Seat::Cpu, life::Event::Exited, now, dice, &mut out),
            Event::Exited(Seat::Card, fault) => {
                // An exit that was asked for is no fault of its own.
                if !self.stopping && !matches!(self.card.state(), life::State::Ending { .. }) {
                    self.see(fault, now, &mut out);
                }
                self.live(Seat::Card, life::Event::Exited, now, dice, &mut out);
            }
            Event::Tested(right) => self.tested(right, now, dice, &mut out),
            Event::Trouble(fault) => {
                if self.mode == Mode::Working && self.card.state() != life::State::Absent {
                    self.trouble(fault, now, dice, &mut out);
                }
            }
            Event::Card(present) => self.card_present(present, now, dice, &mut out),
            Event::Heat(celsius) => self.heat(celsius, &mut out),
            Event::Slow => {
                if self.proof == Proof::Good {
                    self.trouble(Fault::CardSlow, now, dice, &mut out);
                }
            }
            Event::Helped(found) => self.helped(found, now, dice, &mut out),
            Event::Unhelped(fault) => self.unhelped(fault, now, dice, &mut out),
            Event::Stop => self.stop(now, dice, &mut out),
        }
        self.finish(&mut out);
        out
    }

    fn tick(&mut self, busy: Option<Seat>, now: Duration, dice: f64, out: &mut Vec<Action>) {
        if busy == Some(Seat::Card) {
            self.last_work = now;
        }
        self.live(Seat::Card, life::Event::Tick, now, dice, out);
        self.live(Seat::Cpu, life::Event::Tick, now, dice, out);
        if self.stopping {
            return;
        }
        match self.mode {
            Mode::Booting => self.look(now, out),
            Mode::Errand { until, .. } if now >= until => self.unhelped(Fault::Helper, now, dice, out),
            Mode::Resting { until } if now >= until => self.retry(now, dice, out),
            Mode::Rebooting { until } if now >= until => self.unhelped(Fault::HostReboot, now, dice, out),
            Mode::Working if self.card.stuck(now) => self.trouble(Fault::TaskStuck, now, dice, out),
            _ => {}
        }
        match self.proof {
            Proof::Asked { until } | Proof::AskedAgain { until, .. } if now >= until => {
                self.trouble(Fault::CardStall, now, dice, out);
            }
            Proof::Good if busy != Some(Seat::Card) && now >= self.last_work + self.policy.test_idle => {
                self.test(false, now, out);
            }
            _ => {}
        }
        // Once the card answers, the CPU's worker goes as soon as it has nothing left to say.
        if self.serving() == Some(Seat::Card) && busy != Some(Seat::Cpu) {
            let retired = self.cpu.step(life::Event::Retire, now);
            act(Seat::Cpu, retired, out);
        }
    }

    /// Lets a worker's life go on.
    fn live(&mut self, seat: Seat, event: life::Event, now: Duration, dice: f64, out: &mut Vec<Action>) {
        let was = *self.life(seat);
        let life = match seat {
            Seat::Card => &mut self.card,
            Seat::Cpu => &mut self.cpu,
        };
        let actions = life.step(event, now);
        act(seat, actions, out);
        let (before, after) = (was.alive(), self.life(seat).alive());
        if seat == Seat::Card && !self.card.ready() {
            self.proof = Proof::None;
        }
        // A life that decides by itself to end its worker had a reason.
        let begins_to_end = matches!(self.life(seat).state(), life::State::Ending { .. })
            && !matches!(was.state(), life::State::Ending { .. });
        if seat == Seat::Card && begins_to_end && !self.stopping {
            match event {
                life::Event::Tick if matches!(was.state(), life::State::Starting { .. }) => {
                    self.see(Fault::WorkerStart, now, out);
                }
                life::Event::Tick => self.see(Fault::CardStall, now, out),
                life::Event::Hello | life::Event::Loading | life::Event::Ready => {
                    self.see(Fault::WorkerLink, now, out);
                }
                _ => {}
            }
        }
        if before && !after && !self.stopping {
            self.gone(seat, now, dice, out);
        }
    }

    /// A worker's process is gone, and with it all it held.
    fn gone(&mut self, seat: Seat, now: Duration, dice: f64, out: &mut Vec<Action>) {
        match seat {
            Seat::Card if self.mode == Mode::Working => self.climb(now, dice, out),
            Seat::Card => {}
            Seat::Cpu if self.stands_in() => {
                let wait = self.cpu_backoff.fail(dice);
                self.cpu.start(now + self.paced(wait));
            }
            Seat::Cpu => {}
        }
    }

    fn loaded(&mut self, seat: Seat, now: Duration, dice: f64, out: &mut Vec<Action>) {
        self.live(seat, life::Event::Ready, now, dice, out);
        if seat == Seat::Card && self.card.ready() {
            self.test(true, now, out);
        }
    }

    /// Asks the test prompt; `first` after a load.
    fn test(&mut self, first: bool, now: Duration, out: &mut Vec<Action>) {
        let until = now + self.policy.test;
        self.last_work = now;
        self.proof = match (first, self.proof) {
            (true, _) => Proof::Asked { until },
            (false, Proof::AskedAgain { .. }) => Proof::AskedAgain { until, doubt: true },
            (false, _) => Proof::AskedAgain { until, doubt: false },
        };
        out.push(Action::Test);
    }

    fn tested(&mut self, right: bool, now: Duration, dice: f64, out: &mut Vec<Action>) {
        match (self.proof, right) {
            (Proof::Asked { .. } | Proof::AskedAgain { .. }, true) => {
                self.proof = Proof::Good;
                self.last_work = now;
                self.recovered(now, out);
            }
            (Proof::AskedAgain { doubt: false, .. }, false) => self.test(false, now, out),
            (Proof::Asked { .. } | Proof::AskedAgain { .. }, false) => {
                self.trouble(Fault::Golden, now, dice, out);
            }
            (Proof::None | Proof::Good, _) => {}
        }
    }

    fn heat(&mut self, celsius: f32, out: &mut Vec<Action>) {
        let hot = if self.hot { celsius >= self.policy.cool } else { celsius >= self.policy.hot };
        if hot != self.hot {
            self.hot = hot;
            out.push(Action::Note(Note::Heat { hot }));
        }
    }

    fn stop(&mut self, now: Duration, dice: f64, out: &mut Vec<Action>) {
        self.stopping = true;
        self.live(Seat::Card, life::Event::Stop, now, dice, out);
        self.live(Seat::Cpu, life::Event::Stop, now, dice, out);
    }

    fn finish(&self, out: &mut Vec<Action>) {
        let over = |life: &Life| life.state() == life::State::Stopped;
        if self.stopping && over(&self.card) && over(&self.cpu) {
            out.push(Action::Finish);
        }
    }

    fn paced(&self, time: Duration) -> Duration {
        time.div_f64(self.policy.pace)
    }
}

/// How a worker is ended after `fault`.
const fn broken(fault: Fault) -> life::Event {
    match fault {
        Fault::CardStall => life::Event::Hung,
        _ => life::Event::Broken,
    }
}

fn act(seat: Seat, actions: &[life::Action], out: &mut Vec<Action>) {
    out.extend(actions.iter().map(|&action| Action::Worker(seat, action)));
}

#[cfg(test)]
mod tests;
