//! From a fault to the card that answers again, or to a rest.

use std::time::Duration;

use super::super::action::{Action, Note};
use super::super::backoff::{Backoff, HEALTHY};
use super::super::errand::{Errand, Purpose};
use super::super::event::{Found, Seat};
use super::super::incident::Incident;
use super::super::ladder::{Call, call};
use super::super::life;
use super::super::state::Rung;
use super::{Machine, Mode, broken};
use crate::fault::Fault;

/// The helper reports its own deadlines; this much later it is given up.
const HELPER_GRACE: Duration = Duration::from_secs(30);
/// How long after its order the host must be down.
const REBOOT: Duration = Duration::from_secs(150);
/// Connections refused by the card are not asked for again before this.
const PORTS: Duration = Duration::from_secs(60);
/// Someone else's program on the card is given this long to end.
const HELD: Duration = Duration::from_secs(60);
/// Rests of a spent ladder; the last one repeats.
const RESTS: [u64; 4] = [1800, 3600, 7200, 21_600];
/// Rests where only a person can help.
const PERSONS_RESTS: [u64; 5] = [5, 30, 60, 300, 600];
/// Rests where there is no helper to climb with.
const ALONE: Duration = Duration::from_secs(60);

impl Machine {
    /// Notes a fault.
    pub(super) fn see(&mut self, fault: Fault, now: Duration, out: &mut Vec<Action>) {
        if let Some(incident) = &mut self.incident {
            return incident.see(fault);
        }
        if now.saturating_sub(self.healthy) >= self.paced(HEALTHY) {
            self.backoff = Backoff::default();
        }
        self.incident = Some(Incident::new(fault, now));
        out.push(Action::Note(Note::Incident(fault)));
    }

    /// The card cannot be trusted any more.
    pub(super) fn trouble(&mut self, fault: Fault, now: Duration, dice: f64, out: &mut Vec<Action>) {
        if self.stopping {
            return;
        }
        self.see(fault, now, out);
        match self.card.state() {
            _ if self.mode != Mode::Working => {}
            life::State::Absent | life::State::Waiting { .. } => {
                self.card.unstart();
                self.climb(now, dice, out);
            }
            // Even SIGKILL does not end it: only the host's restart will.
            life::State::Ending { means: life::Means::Killed, .. } if fault == Fault::TaskStuck => {
                self.climb(now, dice, out);
            }
            _ => self.live(Seat::Card, broken(fault), now, dice, out),
        }
    }

    /// Takes the next rung, or rests. No worker is on the card, or one that nothing ends.
    pub(super) fn climb(&mut self, now: Duration, dice: f64, out: &mut Vec<Action>) {
        let Some(incident) = &self.incident else { return self.card.start(now) };
        let (fault, time) = (incident.latest, now.mul_f64(self.policy.pace));
        let rung = match incident.range() {
            None => None,
            Some((_, last)) if self.card.alive() => self.ladder.choose(Rung::R5, last, time),
            Some((first, last)) if self.policy.helper => self.ladder.choose(first, last, time),
            // Without helper and stand-in there is nothing better than the next worker.
            Some(_) if !self.policy.fallback => Some(Rung::R1),
            Some(_) => self.ladder.choose(Rung::R1, Rung::R1, time),
        };
        let Some(rung) = rung.filter(|&rung| rung == Rung::R1 || self.policy.helper) else {
            return self.rest(now, out);
        };
        self.ladder.take(rung, time);
        if let Some(incident) = &mut self.incident {
            incident.used(rung);
        }
        out.push(Action::Note(Note::Rung(rung, fault)));
        if rung != Rung::R1 {
            if rung == Rung::R5 {
                out.push(Action::Interrupt);
            }
            return self.send(Errand::new(Purpose::Climb(rung)), now, out);
        }
        let wait = self.backoff.fail(dice);
        let wait = if fault == Fault::CardPorts { wait.max(PORTS) } else { wait };
        self.mode = Mode::Working;
        self.card.start(now + self.paced(wait));
    }

    /// Looks for card and driver before the first worker.
    pub(super) fn look(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.policy.helper {
            self.send(Errand::new(Purpose::Look), now, out);
        } else {
            self.mode = Mode::Working;
            self.card.start(now);
        }
    }

    /// Sends the helper to the errand's present verb, or ends the errand.
    fn send(&mut self, errand: Errand, now: Duration, out: &mut Vec<Action>) {
        match (errand.verb(), errand.purpose) {
            (Some(verb), _) => {
                let until = now + self.paced(verb.deadline()) + HELPER_GRACE;
                self.mode = Mode::Errand { errand, until };
                out.push(Action::Help(verb));
            }
            (None, Purpose::Climb(Rung::R5)) => {
                self.mode = Mode::Rebooting { until: now + self.paced(REBOOT) }
            }
            (None, _) => {
                self.mode = Mode::Working;
                self.card.start(now);
            }
        }
    }

    pub(super) fn helped(&mut self, found: Found, now: Duration, dice: f64, out: &mut Vec<Action>) {
        let Mode::Errand { mut errand, .. } = self.mode else { return };
        if self.stopping {
            return;
        }
        let probed = errand.purpose == Purpose::Look && !errand.loads_driver();
        errand.advance();
        match () {
            () if probed && !found.card => {
                self.mode = Mode::Working;
                self.trouble(Fault::CardAbsent, now, dice, out);
            }
            () => {
                if probed && !found.driver {
                    errand.load_driver();
                }
                self.send(errand, now, out);
            }
        }
    }

    pub(super) fn unhelped(&mut self, fault: Fault, now: Duration, dice: f64, out: &mut Vec<Action>) {
        let rung = match self.mode {
            _ if self.stopping => return,
            Mode::Errand { errand, .. } => match errand.purpose {
                Purpose::Climb(rung) => rung,
                Purpose::Look => {
                    self.mode = Mode::Working;
                    return match fault {
                        // Nobody to look: the worker will say what is wrong.
                        Fault::Helper => self.card.start(now),
                        _ => self.trouble(fault, now, dice, out),
                    };
                }
            },
            Mode::Rebooting { .. } => Rung::R5,
            Mode::Booting | Mode::Working | Mode::Resting { .. } => return,
        };
        out.push(Action::Note(Note::RungFailed(rung, fault)));
        self.mode = Mode::Working;
        if let Some(incident) = &mut self.incident {
            match call(fault) {
                Call::Person => incident.hopeless(rung, fault),
                Call::Climb { .. } => incident.failed(rung),
            }
        }
        match rung {
            Rung::R5 => self.rest(now, out),
            _ => self.climb(now, dice, out),
        }
    }

    /// Leaves the card alone for a while; the small model on the CPU stands in.
    fn rest(&mut self, now: Duration, out: &mut Vec<Action>) {
        let Some(incident) = &self.incident else { return };
        let fault = incident.latest;
        let nth = |list: &[u64]| list.get(self.rests).or(list.last()).copied().map(Duration::from_secs);
        let wait = match incident.range() {
            _ if fault == Fault::CardHeld => Some(HELD),
            None => nth(&PERSONS_RESTS),
            Some(_) if !self.policy.helper => Some(ALONE),
            Some(_) => nth(&RESTS),
        };
        let wait = self.paced(wait.unwrap_or_default());
        self.mode = Mode::Resting { until: now + wait };
        self.rests += 1;
        out.push(Action::Note(Note::Resting { fault, wait }));
        if self.stands_in() {
            self.cpu.start(now);
        }
    }

    /// The rest is over.
    pub(super) fn retry(&mut self, now: Duration, dice: f64, out: &mut Vec<Action>) {
        let Some(incident) = &mut self.incident else { return };
        incident.renew();
        let (fault, range) = (incident.latest, incident.range());
        out.push(Action::Note(Note::Retrying(fault)));
        self.mode = Mode::Working;
        match range {
            _ if self.card.alive() => self.climb(now, dice, out),
            Some(_) if fault == Fault::CardAbsent => self.look(now, out),
            Some(_) if self.policy.helper => self.climb(now, dice, out),
            _ => self.card.start(now),
        }
    }

    /// The card proved itself.
    pub(super) fn recovered(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.rests = 0;
        self.healthy = now;
        if let Some(Incident { rung, first: fault, since, .. }) = self.incident.take() {
            out.push(Action::Note(Note::Recovered { rung, fault, took: now.saturating_sub(since) }));
        }
    }

    pub(super) fn card_present(&mut self, present: bool, now: Duration, dice: f64, out: &mut Vec<Action>) {
        let absent = self.incident.as_ref().is_some_and(|incident| incident.latest == Fault::CardAbsent);
        let lost = std::mem::replace(&mut self.on_bus, present) && !present;
        match self.mode {
            Mode::Resting { .. } if present && absent => self.retry(now, dice, out),
            Mode::Working if lost && self.card.alive() => self.trouble(Fault::CardLink, now, dice, out),
            _ => {}
        }
    }

    /// Whether the small model on the CPU should answer until the card does.
    pub(super) fn stands_in(&self) -> bool {
        self.policy.fallback && self.rests > 0 && !self.stopping
    }
}
