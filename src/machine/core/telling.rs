//! What the machine tells of itself.

use std::time::Duration;

use super::super::errand::{Purpose, Verb};
use super::super::event::Seat;
use super::super::incident::Incident;
use super::super::life::{self, Life};
use super::super::state::{Rung, State};
use super::{Machine, Mode, Proof};
use crate::fault::Fault;

impl Machine {
    /// Which worker requests are given to; `None`: they wait, or are refused.
    pub fn serving(&self) -> Option<Seat> {
        let good = matches!(self.proof, Proof::Good | Proof::AskedAgain { doubt: false, .. });
        match () {
            // Nobody would hear the end of the answer.
            () if self.going_down() => None,
            () if self.card.ready() && good => (!self.hot).then_some(Seat::Card),
            () if self.cpu.ready() => Some(Seat::Cpu),
            () => None,
        }
    }

    /// Whether the host is being restarted.
    fn going_down(&self) -> bool {
        match self.mode {
            Mode::Errand { errand, .. } => errand.purpose == Purpose::Climb(Rung::R5),
            Mode::Rebooting { .. } => true,
            _ => false,
        }
    }

    /// What people, clients and lights are told; `busy`: a request is being answered.
    pub fn state(&self, busy: bool) -> State {
        match (self.serving(), self.mode) {
            _ if self.stopping => State::Stopping,
            (Some(Seat::Card), _) if busy => State::Busy,
            (Some(Seat::Card), _) => State::Ready,
            (Some(Seat::Cpu), _) => State::Degraded,
            (None, Mode::Booting) => State::Booting,
            (None, Mode::Errand { errand, .. }) => match errand.purpose {
                Purpose::Look => State::Probing,
                Purpose::Climb(rung) => State::Recovering(rung),
            },
            (None, Mode::Rebooting { .. }) => State::Recovering(Rung::R5),
            (None, Mode::Resting { .. }) => match &self.incident {
                Some(incident) if incident.latest == Fault::CardAbsent => State::NoCard,
                _ => State::Parked,
            },
            (None, Mode::Working) => match (self.card.state(), self.proof) {
                (life::State::Ready, Proof::Good) => State::ThermalHold,
                (life::State::Ready, Proof::AskedAgain { .. }) => State::Suspect,
                (life::State::Ready | life::State::Loading { .. } | life::State::Starting { .. }, _) => {
                    State::Loading
                }
                _ => match &self.incident {
                    Some(incident) => State::Recovering(incident.rung.unwrap_or(Rung::R1)),
                    // On its way to the first worker.
                    None => State::Loading,
                },
            },
        }
    }

    /// Whether the small model on the CPU stands in for the card.
    pub fn degraded(&self) -> bool {
        self.serving() == Some(Seat::Cpu)
    }

    /// The incident under way.
    pub fn incident(&self) -> Option<&Incident> {
        self.incident.as_ref()
    }

    /// A worker's life.
    pub fn life(&self, seat: Seat) -> &Life {
        match seat {
            Seat::Card => &self.card,
            Seat::Cpu => &self.cpu,
        }
    }

    /// Failures of the card's worker in a row.
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// What the helper is at.
    pub fn helping(&self) -> Option<Verb> {
        match &self.mode {
            Mode::Errand { errand, .. } => errand.verb(),
            _ => None,
        }
    }

    /// When nothing is tried before, the time it will be.
    pub fn resting(&self) -> Option<Duration> {
        match self.mode {
            Mode::Resting { until } => Some(until),
            _ => None,
        }
    }

    /// How long until the next worker starts, as far as that is set.
    pub fn wait(&self, now: Duration) -> Duration {
        match self.card.state() {
            life::State::Waiting { until } => until.saturating_sub(now),
            _ => Duration::ZERO,
        }
    }

    /// When the next [`Event::Tick`] is needed.
    pub fn deadline(&self) -> Option<Duration> {
        let lives = [self.card.deadline(), self.cpu.deadline()].into_iter().flatten();
        if self.stopping {
            return lives.min();
        }
        let mode = match self.mode {
            Mode::Booting => Some(Duration::ZERO),
            Mode::Errand { until, .. } | Mode::Resting { until } | Mode::Rebooting { until } => Some(until),
            Mode::Working => self.card.stuck_from(),
        };
        let proof = match self.proof {
            Proof::Asked { until } | Proof::AskedAgain { until, .. } => Some(until),
            Proof::Good => Some(self.last_work + self.policy.test_idle),
            Proof::None => None,
        };
        lives.chain(mode).chain(proof).min()
    }
}
