//! The card thread: load, answer, unload.

use std::sync::Arc;
use std::time::Instant;

use super::answer::answer;
use super::exit::is_cards;
use super::inbox::{Inbox, Job};
use super::reports::Reports;
use super::settings::Settings;
use crate::axcl::{Device, Gauge, Phase, Runtime};
use crate::chat::Event;
use crate::fault::Result;
use crate::inference::pipeline::{Load, Loaded, Pipeline, load};
use crate::link::frame::{ModelInfo, Report};
use crate::model::ModelDir;

/// The whole life of the card thread; a stop ends it well.
///
/// # Errors
/// Whatever makes it impossible to load or to go on.
pub fn run(settings: &Settings, gauge: &Arc<Gauge>, inbox: &Inbox, reports: &Reports) -> Result<()> {
    let mut report =
        |done, of, what: &str| reports.send(&Report::Loading { done, of, what: what.to_owned() });
    let Some(mut session) = Session::open(settings, gauge, &|| inbox.is_stopped(), &mut report)? else {
        return Ok(());
    };
    reports.send(&Report::Ready(session.info.clone()));
    gauge.enter(Phase::Idle);
    while let Some(job) = inbox.next() {
        let answered = session.answer(&job, &|| inbox.is_stopped(), &mut |event| {
            if matches!(event, Event::Done(_)) {
                inbox.finished(job.id);
            }
            reports.send(&Report::Answer { id: job.id, event });
        });
        inbox.finished(job.id);
        match answered {
            Err(failure) if is_cards(failure.fault) => {
                gauge.enter(Phase::Unload);
                return Err(failure);
            }
            Err(failure) => {
                tracing::warn!(request = job.id.0, %failure, "request failed");
                reports.send(&Report::Answer { id: job.id, event: Event::Failed(failure) });
            }
            Ok(()) => {}
        }
        gauge.enter(Phase::Idle);
    }
    gauge.enter(Phase::Unload);
    Ok(())
}

/// A loaded model, ready to answer. Dropping it unloads the engines, then releases the
/// card, then the runtime.
pub struct Session {
    pipeline: Pipeline,
    runtime: Runtime,
    model: ModelDir,
    gauge: Arc<Gauge>,
    /// What was loaded.
    pub info: ModelInfo,
}

impl Session {
    /// Opens model, runtime and card, and loads; `None` if `stop` said so meanwhile.
    ///
    /// # Errors
    /// What [`ModelDir::open`], [`Runtime::open`], [`Device::open`] and [`load`] say.
    pub fn open(
        settings: &Settings,
        gauge: &Arc<Gauge>,
        stop: &dyn Fn() -> bool,
        report: &mut dyn FnMut(u32, u32, &str),
    ) -> Result<Option<Self>> {
        let began = Instant::now();
        let model = ModelDir::open(&settings.model_dir, settings.descriptor.as_ref())?;
        let json = settings.runtime_config.as_deref();
        let runtime = Runtime::open(&settings.runtime, json, Arc::clone(gauge))?;
        let device = Device::open(&runtime, settings.device)?;
        let how = Load { path: settings.path, context: settings.context, verify: settings.verify };
        let loaded = load(&device, &model, how, stop, report)?;
        let Some(Loaded { pipeline, card_bytes }) = loaded else { return Ok(None) };
        let info = ModelInfo {
            name: settings.name.clone().unwrap_or_else(|| model.name().to_owned()),
            context: pipeline.context(),
            vocabulary: u32::try_from(model.text().vocabulary()).unwrap_or(u32::MAX),
            layers: model.layers(),
            thinks: model.text().thinks(),
            copy_saving: pipeline.copy_saving(),
            chunked: pipeline.chunked(),
            runtime: runtime.version(),
            device: runtime.chip(),
            load_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            card_memory_bytes: card_bytes,
        };
        tracing::info!(model = info.name, load_ms = info.load_ms, "ready");
        Ok(Some(Self { pipeline, runtime, model, gauge: Arc::clone(gauge), info }))
    }

    /// Answers one request; see [`answer`].
    ///
    /// # Errors
    /// As [`answer`].
    pub fn answer(&mut self, job: &Job, stop: &dyn Fn() -> bool, send: &mut dyn FnMut(Event)) -> Result<()> {
        self.runtime.mark_begin(job.id.0);
        let answered = answer(&mut self.pipeline, &self.model, &self.gauge, job, stop, send);
        self.runtime.mark_end(job.id.0);
        answered
    }
}
