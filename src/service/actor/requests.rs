//! Requests: admitted, held, given to a worker, ended.

use std::time::Duration;

use tracing::{info, warn};

use super::{Actor, Course, Running};
use crate::chat::RequestId;
use crate::fault::{Failure, Fault};
use crate::link::frame::Command;
use crate::machine::{Event, Rung, Seat, State};
use crate::service::hands::Hands;
use crate::service::job::Job;
use crate::service::ticket::Refused;

impl<H: Hands> Actor<H> {
    pub(super) fn admit(&mut self, mut job: Job) {
        if self.drain.is_some() {
            self.status.counters.refused += 1;
            return job.refuse(Refused::stopping());
        }
        if let Some(refused) = self.crowded(&job) {
            self.status.counters.refused += 1;
            return job.refuse(refused);
        }
        if self.parts.machine.serving().is_some() {
            job.admit();
        } else {
            match self.patience(&job) {
                Some(hold) => job.hold = hold,
                None => {
                    self.status.counters.refused += 1;
                    return job.refuse(Refused { position: Some(self.ahead() + 1), ..self.not_ready() });
                }
            }
            self.status.counters.held += 1;
        }
        self.status.counters.requests += 1;
        self.queue.push(job);
    }

    /// How many requests a new one would wait for.
    fn ahead(&self) -> usize {
        self.queue.len() + self.aside.len() + usize::from(self.running.is_some())
    }

    /// Why there is no place for another request. Together they may hold as much as one may.
    fn crowded(&self, job: &Job) -> Option<Refused> {
        let limits = &self.parts.settings.borrow().limits;
        let ahead = self.ahead();
        let begun: usize = self.running.iter().chain(&self.aside).map(|run| run.job.size()).sum();
        let held = self.queue.size() + begun;
        let detail = if ahead > limits.queue {
            format!("{ahead} requests are at hand")
        } else if ahead > 0 && held + job.size() > limits.body_bytes {
            format!(
                "the {ahead} requests at hand are {held} bytes long, and this one does not fit beside them"
            )
        } else {
            return None;
        };
        let failure = Failure::new(Fault::Busy, detail);
        Some(Refused { failure, retry_after: self.estimate.place(), position: Some(ahead + 1) })
    }

    /// Until when a new request waits for a worker; `None`: it is not worth it.
    fn patience(&self, job: &Job) -> Option<Duration> {
        let ready = self.now + self.until_ready();
        match self.parts.machine.state(false) {
            State::Parked | State::NoCard if !self.stand_in_comes() => None,
            // The connection will not outlive the host's restart.
            State::Recovering(Rung::R5) => None,
            // What takes its known course is waited for, if the caller's time allows.
            State::Loading | State::Recovering(_) | State::Suspect if ready > job.due => None,
            State::Loading | State::Recovering(_) | State::Suspect => Some(job.hold.max(ready)),
            _ => Some(job.hold),
        }
    }

    fn stand_in_comes(&self) -> bool {
        self.parts.machine.life(Seat::Cpu).alive()
    }

    /// Ends what waited or ran for too long, or waits in vain.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        for job in self.queue.take(|job| job.held() && now >= job.hold) {
            self.status.counters.refused += 1;
            job.refuse(self.not_ready());
        }
        for job in self.queue.take(|job| now >= job.due) {
            self.status.counters.failed += 1;
            let detail = format!("request {} waited in the queue until its time was over", job.id.0);
            job.fail(Failure::new(Fault::Timeout, detail));
        }
        if let Some(run) = self.running.take_if(|run| now >= run.job.due) {
            self.overdue(run);
        }
        self.expire_aside();
        if self.parts.machine.serving().is_some() || self.stand_in_comes() {
            return;
        }
        let Some(next_try) = self.parts.machine.resting() else { return };
        for job in self.queue.take(|job| job.held() || next_try >= job.due) {
            self.status.counters.refused += 1;
            job.refuse(self.not_ready());
        }
        if let Some(run) = self.running.take_if(|run| !run.sent && next_try >= run.job.deadline) {
            self.give_up(run, self.not_ready().failure);
        }
    }

    /// A running answer's time is over. One with a deadline of its own ends with what there is.
    fn overdue(&mut self, run: Running) {
        if self.now < run.job.deadline && run.job.tokens() > 0 {
            info!(
                request = run.job.id.0,
                tokens = run.job.tokens(),
                "answered as far as its deadline let it"
            );
            self.answered(&run);
            self.cancel(&run);
            return run.job.conclude(run.course.timings(run.since));
        }
        let detail = format!("request {} ended after {} tokens", run.job.id.0, run.job.tokens());
        self.give_up(run, Failure::new(Fault::Timeout, detail));
    }

    /// Ends what waits for the card in vain.
    fn expire_aside(&mut self) {
        let (now, next_try) = (self.now, self.parts.machine.resting().unwrap_or_default());
        let over = |run: &Running| now >= run.job.due || next_try >= run.job.deadline;
        while let Some(at) = self.aside.iter().position(over) {
            let Some(run) = self.aside.remove(at) else { return };
            if next_try < run.job.deadline {
                self.overdue(run);
                continue;
            }
            let detail = format!("{} tokens came before the card was given up", run.job.tokens());
            self.give_up(run, Failure::new(Fault::Interrupted, detail));
        }
    }

    /// Ends the running request from outside.
    pub(super) fn give_up(&mut self, run: Running, failure: Failure) {
        warn!(request = run.job.id.0, code = failure.fault.code(), "{failure}");
        self.status.counters.failed += 1;
        self.cancel(&run);
        run.job.fail(failure);
    }

    pub(super) fn cancel(&mut self, run: &Running) {
        if run.sent {
            self.cancelled = Some((run.seat, run.job.id, self.now));
            if let Err(failure) = self.parts.hands.command(run.seat, Command::Cancel { id: run.job.id }) {
                self.distrust(run.seat, failure);
            }
        }
    }

    pub(super) fn abandon(&mut self, id: RequestId) {
        if self.queue.remove(id).is_some() {
            self.status.counters.abandoned += 1;
            return;
        }
        let aside = self.aside.iter().position(|run| run.job.id == id);
        let running = self.running.take_if(|run| run.job.id == id);
        if let Some(run) = running.or_else(|| self.aside.remove(aside?)) {
            info!(request = id.0, tokens = run.job.tokens(), "the client left");
            self.status.counters.abandoned += 1;
            self.cancel(&run);
        }
    }

    pub(super) fn stop(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(self.now + self.parts.settings.borrow().limits.drain_s.0);
        info!(waiting = self.queue.len(), "stopping");
        for job in self.queue.take(Job::held) {
            self.status.counters.refused += 1;
            job.refuse(Refused::stopping());
        }
    }

    pub(super) fn finish_drain(&mut self) {
        let Some(until) = self.drain else { return };
        if self.now >= until {
            self.end_all(&Refused::stopping());
        }
        if self.running.is_none() && self.queue.is_empty() && self.aside.is_empty() {
            self.happen(Event::Stop);
        }
    }

    /// Ends every request.
    pub(super) fn end_all(&mut self, why: &Refused) {
        for job in self.queue.take(|_| true) {
            self.status.counters.failed += 1;
            job.refuse(why.clone());
        }
        for run in self.running.take().into_iter().chain(std::mem::take(&mut self.aside)) {
            self.give_up(run, why.failure.clone());
        }
    }

    /// Gives the serving worker its next request, or a new worker the request of the last one.
    pub(super) fn dispatch(&mut self) {
        while self.dispatch_one() {}
    }

    /// Whether a request ended at once, so that the next may be given.
    fn dispatch_one(&mut self) -> bool {
        let Some(seat) = self.parts.machine.serving() else { return false };
        self.queue.admit();
        let changing = seat == Seat::Card && self.shelf.is_changing();
        if changing || self.cancelled.is_some_and(|(at, ..)| at == seat) {
            return false;
        }
        if let Some(run) = self.running.take_if(|run| !run.sent && run.strange_to(seat)) {
            self.set_aside(run);
        }
        if self.running.is_none() {
            self.running = self.next(seat);
        }
        if self.running.as_ref().is_none_or(|run| run.sent) {
            return false;
        }
        if seat == Seat::Card && !self.model_is_there() {
            // Either its model is on its way, or it was refused.
            return self.running.is_none();
        }
        if let Some(run) = self.running.take_if(|run| run.job.is_load()) {
            self.answer_load(run);
            return true;
        }
        let Some(mut run) = self.running.take() else { return false };
        if run.job.tokens() > 0 {
            self.status.counters.resumes += 1;
            info!(request = run.job.id.0, tokens = run.job.tokens(), "continuing an answer");
        }
        (run.seat, run.sent, run.token) = (seat, true, None);
        let sent = self.parts.hands.command(seat, run.job.command());
        self.running = Some(run);
        if let Err(failure) = sent {
            self.distrust(seat, failure);
        }
        false
    }

    /// A worker that was just proved gets the conversations of the one before.
    pub(super) fn warm(&mut self) {
        let proved = self.parts.machine.serving() == Some(Seat::Card);
        if !proved || std::mem::replace(&mut self.card.warm, true) {
            return;
        }
        for command in self.recent.commands() {
            if let Err(failure) = self.parts.hands.command(Seat::Card, command) {
                return self.distrust(Seat::Card, failure);
            }
        }
    }

    /// Whose turn it is.
    fn next(&mut self, seat: Seat) -> Option<Running> {
        let back = self.aside.iter().position(|run| !run.strange_to(seat));
        if let Some(run) = back.and_then(|at| self.aside.remove(at)) {
            return Some(run);
        }
        let (shelf, since) = (&self.shelf, self.now);
        let job = self.queue.pop(|job| seat == Seat::Cpu || shelf.holds(job.model()))?;
        self.parts.metrics.dispatched(since.saturating_sub(job.arrived));
        Some(Running { job, seat, sent: false, since, token: None, course: Course::default() })
    }

    /// Tokens of one model mean nothing to the other: an answer of which the client has seen
    /// nothing begins anew, one that is half told waits for the model that began it.
    fn set_aside(&mut self, mut run: Running) {
        if run.job.restart() {
            run.course = Course::default();
            self.status.counters.restarted_answers += 1;
            self.running = Some(run);
        } else {
            info!(request = run.job.id.0, tokens = run.job.tokens(), "a half told answer waits for the card");
            self.aside.push_back(run);
        }
    }

    /// How long until a worker is ready, as far as can be told.
    fn until_ready(&self) -> Duration {
        let machine = &self.parts.machine;
        if let Some(until) = machine.resting()
            && !self.stand_in_comes()
        {
            return until.saturating_sub(self.now);
        }
        let loading = match machine.state(false) {
            State::Loading => self.now.saturating_sub(self.card.spawned.unwrap_or_default()),
            _ => Duration::ZERO,
        };
        self.estimate.ready(machine.state(false), machine.wait(self.now), loading)
    }

    pub(super) fn not_ready(&self) -> Refused {
        let detail = match (&self.status.last_failure, self.parts.machine.state(false)) {
            (_, State::ThermalHold) => "the card is too hot and rests".into(),
            (Some(failure), state) => format!("the service is {}: {failure}", state.name()),
            (None, state) => format!("the service is {}", state.name()),
        };
        let failure = Failure::new(Fault::NotReady, detail.trim_end_matches('.'));
        let retry_after = self.until_ready().max(Duration::from_secs(1));
        Refused { failure, retry_after, position: None }
    }
}
