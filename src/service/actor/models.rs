//! Models: brought to the card when a request asks for them, unloaded when nobody does.

use tracing::{info, warn};

use super::{Actor, Running};
use crate::chat::KeepAlive;
use crate::fault::{Failure, Fault};
use crate::link::frame::{Command, ModelInfo};
use crate::machine::Seat;
use crate::service::hands::Hands;
use crate::service::status;

impl<H: Hands> Actor<H> {
    /// Whether the running request can be given to the worker on the card now; what it needs is
    /// set going otherwise.
    pub(super) fn model_is_there(&mut self) -> bool {
        let Some(run) = &self.running else { return false };
        let (model, asked) = (run.job.model().map(str::to_owned), run.job.keep_alive());
        let unload = run.job.is_load() && asked == Some(KeepAlive::NOT);
        if unload || self.shelf.holds(model.as_deref()) {
            self.use_model(model.as_deref(), asked);
            return true;
        }
        match self.shelf.fetch(model.as_deref(), self.now) {
            Ok(command) => self.change_models(command),
            Err(failure) => self.refuse_model(failure),
        }
        false
    }

    /// An answer was given: from now on its model's time counts.
    pub(super) fn model_used(&mut self, run: &Running) {
        if run.seat == Seat::Card {
            self.use_model(run.job.model(), run.job.keep_alive());
        }
    }

    fn use_model(&mut self, model: Option<&str>, asked: Option<KeepAlive>) {
        let settings = self.parts.settings.borrow();
        self.shelf.used(model, asked, &settings.models, self.now);
    }

    /// A request that only wanted its model loaded is answered.
    pub(super) fn answer_load(&mut self, run: Running) {
        self.status.counters.answered += 1;
        run.job.conclude_load();
    }

    fn change_models(&mut self, command: Command) {
        if let Command::Load { model, .. } = &command {
            info!(model, "a model is loaded on demand");
        }
        if let Err(failure) = self.parts.hands.command(Seat::Card, command) {
            self.distrust(Seat::Card, failure);
        }
    }

    /// The running request's model cannot be had.
    fn refuse_model(&mut self, failure: Failure) {
        if let Some(run) = self.running.take() {
            self.give_up(run, failure);
        }
    }

    /// Unloads what nobody wants any more, and brings the first model back where nothing is left:
    /// the next request is not to wait for it.
    pub(super) fn tidy_models(&mut self) {
        let serving = self.parts.machine.serving() == Some(Seat::Card);
        if !serving || self.running.is_some() || self.cancelled.is_some() || self.shelf.is_changing() {
            return;
        }
        let queue = &self.queue;
        let wanted = |model: Option<&str>| queue.wants(model);
        if let Some(command) = self.shelf.tidy(self.now, wanted) {
            self.change_models(command);
        } else if self.shelf.is_empty()
            && self.queue.is_empty()
            && let Ok(command) = self.shelf.fetch(None, self.now)
        {
            self.change_models(command);
        }
    }

    /// A load that never ends.
    pub(super) fn check_load(&mut self) {
        let limit = self.parts.recovery.load_s.0;
        if let Some(since) = self.shelf.loading_since()
            && self.now >= since + limit
        {
            let detail = format!("a model was not loaded within {} s", limit.as_secs());
            self.distrust(Seat::Card, Failure::new(Fault::CardStall, detail));
        }
    }

    pub(super) fn model_added(&mut self, info: ModelInfo) {
        self.card.loading = None;
        let (model, seconds) = (info.name.clone(), info.load_ms as f64 / 1000.0);
        match self.shelf.added(info) {
            Some(test) => {
                info!(model, seconds, "the model is loaded");
                self.trial = Default::default();
                self.change_models(test);
            }
            None => self.out_of_turn(&format!("it loaded {model}, which nobody asked for")),
        }
    }

    pub(super) fn model_not_added(&mut self, model: &str, failure: Failure) {
        self.card.loading = None;
        match self.shelf.not_added(model, failure, self.now) {
            Some(failure) => {
                warn!(code = failure.fault.code(), model, "{failure}");
                self.status.last_failure = Some(failure.clone());
                let waits = |run: &Running| !run.sent && self.shelf.is(run.job.model(), model);
                if self.running.as_ref().is_some_and(waits) {
                    self.refuse_model(failure);
                }
            }
            None => self.out_of_turn(&format!("it could not load {model}, which nobody asked for")),
        }
    }

    pub(super) fn model_left(&mut self, model: &str) {
        if self.shelf.left(model) {
            info!(model, "a model was unloaded");
        } else {
            self.out_of_turn(&format!("it unloaded {model}, which was not there"));
        }
    }

    fn out_of_turn(&mut self, detail: &str) {
        self.distrust(Seat::Card, Failure::new(Fault::WorkerLink, detail));
    }

    /// A model that was just loaded answered the test prompt.
    pub(super) fn model_tested(&mut self, right: bool) {
        if right {
            self.shelf.proved(self.now);
        } else {
            let failure = Failure::new(Fault::Golden, "by a model that was just loaded");
            self.distrust(Seat::Card, failure);
        }
    }

    /// What is told of the models.
    pub(super) fn tell_models(&mut self) {
        let now = self.now;
        let models = self.shelf.seen().map(|seen| status::Installed {
            name: seen.name.to_owned(),
            loaded: seen.loaded,
            expires_s: seen.until.map(|until| until.saturating_sub(now).as_secs()),
            info: seen.info.cloned(),
        });
        self.status.models = models.collect();
    }
}
