//! The worker's side of the task: what comes from it, and what is done to it.

use std::time::Duration;

use tracing::{error, info, warn};

use super::super::job::Progress;
use super::super::status::Loading;
use super::Actor;
use crate::chat::{self, RequestId};
use crate::fault::{Failure, Fault};
use crate::link::frame::{Activity, Command, ModelInfo, Report};
use crate::link::spawn::{Incoming, Worker};
use crate::machine::{Action, Call, CallLimits, Event, Pulse};
use crate::sys::chance;

impl Actor {
    pub(super) fn hear(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Report(report) if self.linked => self.read(report),
            Incoming::Lost(failure) if self.linked => self.distrust(failure),
            Incoming::Report(_) | Incoming::Lost(_) => {}
            Incoming::Exited(failure) => {
                let surprise = self.linked && self.drain.is_none();
                self.detach(&failure);
                self.worker = None;
                self.pulse = None;
                self.status.worker_pid = None;
                if self.drain.is_some() {
                    info!("the worker ended: {}", failure.detail);
                } else {
                    warn!(code = failure.fault.code(), "the worker ended: {}", failure.detail);
                }
                if surprise {
                    self.status.last_failure = Some(failure);
                }
                self.happen(Event::Exited);
            }
        }
    }

    fn read(&mut self, report: Report) {
        match report {
            Report::Hello { version, pid } if version == env!("CARGO_PKG_VERSION") => {
                info!(pid, version, "a worker started");
                self.pulse = Some(Pulse::new(self.clock.now()));
                self.happen(Event::Hello);
            }
            Report::Hello { version, .. } => {
                let ours = env!("CARGO_PKG_VERSION");
                let detail = format!("the worker is of version {version}, the supervisor of {ours}");
                self.distrust(Failure::new(Fault::WorkerLink, detail));
            }
            Report::Loading { done, of, what } => {
                self.status.loading = Some(Loading { done, of, what });
                self.happen(Event::Loading);
            }
            Report::Ready(model) => self.welcome(model),
            Report::Answer { id, event } => self.answer(id, event),
            Report::Pong { nonce, activity } => self.pong(nonce, &activity),
            Report::Fatal(failure) => self.distrust(failure),
        }
    }

    fn welcome(&mut self, model: ModelInfo) {
        self.happen(Event::Ready);
        if !self.life.ready() {
            return;
        }
        let took = self.clock.now().saturating_sub(self.spawned.unwrap_or_default());
        self.estimate.loaded(took);
        let (runtime, seconds) = (model.runtime.as_str(), took.as_secs_f64());
        info!(model = model.name, context = model.context, runtime, seconds, "the model is ready");
        self.status.model = Some(model);
        self.status.loading = None;
        self.queue.admit();
    }

    fn pong(&mut self, nonce: u64, activity: &Activity) {
        let Some(pulse) = &mut self.pulse else { return };
        let worker = &self.launch.worker;
        let limits = CallLimits { serving: worker.call_s.0, loading: worker.load_call_s.0 };
        let inside = activity.call.as_deref().map(|name| Call {
            name,
            since: Duration::from_millis(activity.since_ms),
            loading: !self.life.ready(),
        });
        if let Err(failure) = pulse.pong(nonce, inside, limits) {
            self.distrust(failure);
        }
    }

    fn answer(&mut self, id: RequestId, event: chat::Event) {
        let last = matches!(event, chat::Event::Done(_) | chat::Event::Failed(_));
        if self.cancelled.is_some_and(|(cancelled, _)| cancelled == id) {
            self.cancelled.take_if(|_| last);
            return;
        }
        let Some(run) = self.running.as_mut().filter(|run| run.sent && run.job.id == id) else {
            let detail = format!("it answers request {}, which is not its own", id.0);
            return self.distrust(Failure::new(Fault::WorkerLink, detail));
        };
        let before = run.job.tokens();
        let failed = matches!(event, chat::Event::Failed(_));
        let progress = run.job.take(event);
        let tokens = run.job.tokens();
        self.status.counters.tokens += (tokens - before) as u64;
        match progress {
            Ok(Progress::Goes) if tokens > before => self.happen(Event::Token),
            Ok(Progress::Goes) => {}
            Ok(Progress::Ended) => {
                let Some(run) = self.running.take() else { return };
                let took = self.clock.now().saturating_sub(run.since);
                self.estimate.answered(took);
                info!(request = id.0, tokens, seconds = took.as_secs_f64(), failed, "answered");
                let ended = &mut self.status.counters;
                *(if failed { &mut ended.failed } else { &mut ended.answered }) += 1;
            }
            Ok(Progress::Deserted) => {
                let Some(run) = self.running.take() else { return };
                info!(request = id.0, "the client does not read");
                self.status.counters.abandoned += 1;
                self.cancel(&run);
            }
            Err(failure) => self.distrust(failure),
        }
    }

    /// A worker that cannot be relied on any more is replaced.
    pub(super) fn distrust(&mut self, failure: Failure) {
        error!(code = failure.fault.code(), "{failure}");
        self.detach(&failure);
        self.status.last_failure = Some(failure);
        self.happen(Event::Broken);
    }

    /// Takes the worker's work away from it.
    fn detach(&mut self, cause: &Failure) {
        self.linked = false;
        self.cancelled = None;
        let Some(run) = self.running.as_mut().filter(|run| run.sent) else { return };
        run.sent = false;
        if let Some(failure) = run.job.orphan(cause)
            && let Some(run) = self.running.take()
        {
            self.give_up(run, failure);
        }
    }

    /// Lets the worker's life go on and does what follows.
    pub(super) fn happen(&mut self, event: Event) {
        for action in self.life.step(event, self.clock.now(), chance::fraction()) {
            match (action, &mut self.worker) {
                (Action::Spawn, _) => self.spawn(),
                (Action::Finish, _) => info!("stopped"),
                (Action::Ask, Some(worker)) => {
                    if let Err(failure) = worker.command(Command::Stop) {
                        self.distrust(failure);
                    }
                }
                (Action::Unlink, Some(worker)) => {
                    worker.unlink();
                    self.blame(event);
                }
                (Action::Terminate, Some(worker)) => worker.terminate(),
                (Action::Kill, Some(worker)) => {
                    warn!(pid = worker.pid, "the worker does not end and is killed");
                    worker.kill();
                }
                (_, None) => {}
            }
        }
    }

    /// Records why a worker is ended, where that is its life's own decision.
    fn blame(&mut self, event: Event) {
        if !self.linked || self.drain.is_some() {
            return;
        }
        let failure = match event {
            Event::Tick => {
                let limit = self.launch.worker.hello_s;
                Failure::new(Fault::WorkerStart, format!("it did not speak within {limit} s"))
            }
            _ => Failure::new(Fault::WorkerLink, format!("it reported {event:?} out of turn")),
        };
        error!(code = failure.fault.code(), "{failure}");
        self.detach(&failure);
        self.status.last_failure = Some(failure);
    }

    fn spawn(&mut self) {
        if self.spawned.replace(self.clock.now()).is_some() {
            self.status.counters.restarts += 1;
        }
        self.status.loading = None;
        match Worker::spawn(&self.launch.program, &self.launch.config, &self.launch.worker.env) {
            Ok(worker) => {
                self.status.worker_pid = Some(worker.pid);
                self.worker = Some(worker);
                self.linked = true;
            }
            Err(failure) => {
                error!(code = failure.fault.code(), "{failure}");
                self.status.last_failure = Some(failure);
                self.happen(Event::Exited);
            }
        }
    }
}

/// What the worker brings next; nothing while there is none.
pub(super) async fn next(worker: &mut Option<Worker>) -> Incoming {
    match worker {
        Some(worker) => worker.next().await,
        None => std::future::pending().await,
    }
}
