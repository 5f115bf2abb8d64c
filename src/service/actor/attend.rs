//! What comes from workers, the card helper and the watchers.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::{Actor, Running};
use crate::chat::{self, RequestId};
use crate::detect::Sighting;
use crate::fault::{Failure, Fault};
use crate::link::frame::{Activity, Health, ModelInfo, Report};
use crate::link::spawn::Incoming;
use crate::machine::{Call, CallLimits, Event, Found, Seat};
use crate::recover::Reply;
use crate::service::hands::{Hands, Happening};
use crate::service::job::Progress;
use crate::service::status::Loading;

impl<H: Hands> Actor<H> {
    pub fn hear(&mut self, happening: Happening) {
        match happening {
            Happening::Worker(seat, incoming) => self.hear_worker(seat, incoming),
            Happening::Helper(reply) => self.hear_helper(reply),
            Happening::Sighted(sighting) => self.hear_watcher(sighting),
        }
    }

    fn hear_watcher(&mut self, sighting: Sighting) {
        match sighting {
            Sighting::Trouble(failure) => {
                warn!(code = failure.fault.code(), "{failure}");
                let fault = failure.fault;
                self.blame(failure);
                self.happen(Event::Trouble(fault));
            }
            Sighting::CardPresent => self.happen(Event::Card(true)),
            Sighting::CardMissing => self.happen(Event::Card(false)),
        }
    }

    fn hear_helper(&mut self, reply: Reply) {
        match reply {
            Reply::Step(what) => info!("the card helper: {what}"),
            Reply::Done(facts) => {
                let found = facts.unwrap_or_default();
                let driver = found.node && found.modules.iter().any(|name| name == "axcl_host");
                self.happen(Event::Helped(Found { card: found.pci.is_some(), driver }));
            }
            Reply::Failed(failure) => {
                warn!(code = failure.fault.code(), "{failure}");
                let fault = failure.fault;
                self.blame(failure);
                self.happen(Event::Unhelped(fault));
            }
        }
    }

    fn hear_worker(&mut self, seat: Seat, incoming: Incoming) {
        let linked = self.post(seat).linked;
        match incoming {
            Incoming::Report(report) if linked => self.read(seat, report),
            Incoming::Lost(failure) if linked => self.distrust(seat, failure),
            Incoming::Report(_) | Incoming::Lost(_) => {}
            Incoming::Exited(failure) => self.exited(seat, failure, linked),
        }
    }

    fn exited(&mut self, seat: Seat, failure: Failure, linked: bool) {
        let surprise = linked && self.drain.is_none() && self.parts.machine.life(seat).is_wanted();
        let post = self.post(seat);
        (post.pid, post.pulse, post.loading) = (None, None, None);
        if surprise {
            warn!(code = failure.fault.code(), "the worker ended: {}", failure.detail);
            self.blame(failure.clone());
        } else {
            info!("the worker ended: {}", failure.detail);
        }
        self.detach(seat, Some(&failure));
        self.happen(Event::Exited(seat, failure.fault));
    }

    fn read(&mut self, seat: Seat, report: Report) {
        match report {
            Report::Hello { version, pid } if version == env!("CARGO_PKG_VERSION") => {
                info!(pid, version, "a worker started");
                self.welcome_process(seat);
            }
            Report::Hello { version, .. } => {
                let ours = env!("CARGO_PKG_VERSION");
                let detail = format!("the worker is of version {version}, the supervisor of {ours}");
                self.distrust(seat, Failure::new(Fault::WorkerLink, detail));
            }
            Report::Loading { done, of, what } => {
                self.post(seat).loading = Some(Loading { done, of, what });
                // A further model is none of policy's business.
                if seat == Seat::Cpu || !self.shelf.is_loading() {
                    self.happen(Event::Loading(seat));
                }
            }
            Report::Ready(model) => self.loaded(seat, model),
            Report::Tested { model, tokens } if seat == Seat::Card => self.tested(&model, tokens),
            Report::Added(model) if seat == Seat::Card => self.model_added(model),
            Report::NotAdded { model, failure } if seat == Seat::Card => {
                self.model_not_added(&model, failure)
            }
            Report::Unloaded { model } if seat == Seat::Card => self.model_left(&model),
            Report::Tested { .. } | Report::Added(_) | Report::NotAdded { .. } | Report::Unloaded { .. } => {}
            Report::Health(health) => self.health(seat, health),
            Report::Answer { id, event } => self.answer(seat, id, event),
            Report::Pong { nonce, activity } => self.pong(seat, nonce, &activity),
            Report::Fatal(failure) => self.distrust(seat, failure),
        }
    }

    fn loaded(&mut self, seat: Seat, model: ModelInfo) {
        let now = self.now;
        let post = self.post(seat);
        let took = now.saturating_sub(post.spawned.unwrap_or_default());
        let (name, runtime, seconds) = (model.name.as_str(), model.runtime.as_str(), took.as_secs_f64());
        info!(model = name, context = model.context, runtime, seconds, "the model is loaded");
        post.model = Some(model.clone());
        post.loading = None;
        if seat == Seat::Card {
            self.shelf.opened(model, now);
            self.estimate.loaded(took);
        }
        self.happen(Event::Loaded(seat));
    }

    fn health(&mut self, seat: Seat, health: Health) {
        if seat == Seat::Card {
            self.status.temperature_c = Some(health.temperature_c);
            self.status.card_free_memory_bytes = Some(health.free_memory);
            self.happen(Event::Heat(health.temperature_c));
        }
    }

    fn pong(&mut self, seat: Seat, nonce: u64, activity: &Activity) {
        let worker = &self.parts.worker;
        let floor = self.parts.recovery.stall_s.0;
        let limits = CallLimits { floor, serving: worker.call_s.0, loading: worker.load_call_s.0 };
        let adds = seat == Seat::Card && self.shelf.is_loading();
        let loading = adds || !self.parts.machine.life(seat).ready();
        if seat == Seat::Card {
            for (name, slowest) in &activity.slowest_ms {
                self.habits.learn(name, Duration::from_millis(*slowest));
            }
        }
        let inside = activity.call.as_deref().map(|name| Call {
            name,
            since: Duration::from_millis(activity.since_ms),
            loading,
        });
        let post = match seat {
            Seat::Card => &mut self.card,
            Seat::Cpu => &mut self.cpu,
        };
        let Some(pulse) = &mut post.pulse else { return };
        if let Err(failure) = pulse.pong(nonce, inside, |call| self.habits.limit(call, limits)) {
            self.distrust(seat, failure);
        }
    }

    fn answer(&mut self, seat: Seat, id: RequestId, event: chat::Event) {
        let last = matches!(event, chat::Event::Done(_) | chat::Event::Failed(_));
        if self.cancelled.is_some_and(|(at, cancelled, _)| (at, cancelled) == (seat, id)) {
            self.cancelled.take_if(|_| last);
            return;
        }
        let mine = |run: &&mut Running| run.sent && run.seat == seat && run.job.id == id;
        let Some(run) = self.running.as_mut().filter(mine) else {
            let detail = format!("it answers request {}, which is not its own", id.0);
            return self.distrust(seat, Failure::new(Fault::WorkerLink, detail));
        };
        let before = run.job.tokens();
        let failed = matches!(event, chat::Event::Failed(_));
        if let chat::Event::Started(started) = event
            && run.course.start(started)
        {
            self.parts.metrics.prompt(started.prompt_tokens, started.cached_tokens);
        }
        let progress = run.job.take(event);
        let tokens = run.job.tokens();
        let previous = (tokens > before).then(|| run.token.replace(self.now)).flatten();
        self.status.counters.tokens += (tokens - before) as u64;
        if tokens > before && run.course.token(self.now) {
            self.parts.metrics.first_token(self.now.saturating_sub(run.job.arrived));
        }
        if let Some(previous) = previous {
            let time = self.now.saturating_sub(previous);
            self.parts.metrics.token(time);
            if seat == Seat::Card {
                self.slow |= self.speed.token(time, self.parts.recovery.pace);
            }
        }
        match progress {
            Ok(Progress::Goes) if tokens > before => self.happen(Event::Token(seat)),
            Ok(Progress::Goes) => {}
            Ok(Progress::Ended) => {
                let Some(run) = self.running.take() else { return };
                let took = self.now.saturating_sub(run.since);
                info!(request = id.0, tokens, seconds = took.as_secs_f64(), failed, "answered");
                match failed {
                    true => self.status.counters.failed += 1,
                    false => {
                        self.answered(&run);
                        if run.seat == Seat::Card {
                            self.recent.keep(run.job.into_conversation());
                        }
                    }
                }
            }
            Ok(Progress::Deserted) => {
                let Some(run) = self.running.take() else { return };
                info!(request = id.0, "the client does not read");
                self.status.counters.abandoned += 1;
                self.cancel(&run);
            }
            Err(failure) => self.distrust(seat, failure),
        }
    }

    /// Counts an answer that was given.
    pub(super) fn answered(&mut self, run: &Running) {
        self.estimate.answered(self.now.saturating_sub(run.since));
        self.model_used(run);
        self.status.counters.answered += 1;
        self.status.counters.degraded += u64::from(run.seat == Seat::Cpu);
        if let Some(answered) = run.course.end(run.job.arrived) {
            answered.remember(&mut self.status.answers);
        }
    }

    /// A worker that cannot be relied on any more is replaced.
    pub(super) fn distrust(&mut self, seat: Seat, failure: Failure) {
        if self.is_news(&failure) {
            error!(code = failure.fault.code(), "{failure}");
        } else {
            debug!(code = failure.fault.code(), "{failure}");
        }
        let fault = failure.fault;
        self.detach(seat, Some(&failure));
        self.blame(failure);
        self.happen(Event::Broken(seat, fault));
    }

    /// Whether the journal does not have it yet: what comes again and again in one incident is
    /// told once.
    fn is_news(&self, failure: &Failure) -> bool {
        self.parts.machine.incident().is_none() || self.cause.as_ref() != Some(failure)
    }

    /// Takes the worker's work away from it.
    pub(super) fn detach(&mut self, seat: Seat, cause: Option<&Failure>) {
        self.post(seat).linked = false;
        if seat == Seat::Card {
            self.shelf.cleared(cause, self.now);
        }
        self.cancelled.take_if(|(at, ..)| *at == seat);
        let Some(run) = self.running.as_mut().filter(|run| run.sent && run.seat == seat) else { return };
        run.sent = false;
        let given_up = cause.and_then(|cause| run.job.orphan(cause));
        if let Some(failure) = given_up
            && let Some(run) = self.running.take()
        {
            self.give_up(run, failure);
        }
    }
}
