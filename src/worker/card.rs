//! The card thread: load, answer, unload.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::answer;
use super::exit::is_cards;
use super::inbox::{Inbox, Job, Task};
use super::reports::Reports;
use super::settings::Settings;
use super::test_prompt;
use crate::axcl::{Device, Gauge, Phase, Runtime};
use crate::chat::{Event, TokenId};
use crate::fault::Result;
use crate::inference::pipeline::{Load, Loaded, Pipeline, load};
use crate::link::frame::{Health, ModelInfo, Report};
use crate::model::{Manifest, ModelDir};

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
    let served = attend(&mut session, gauge, inbox, reports);
    gauge.enter(Phase::Unload);
    served
}

fn attend(session: &mut Session, gauge: &Gauge, inbox: &Inbox, reports: &Reports) -> Result<()> {
    session.report_health(reports)?;
    while let Some(task) = inbox.next(session.checkup.due) {
        match task {
            Task::Answer(job) => serve(session, &job, inbox, reports)?,
            Task::Test => {
                let tokens = session.test(&|| inbox.is_wanted())?;
                reports.send(&Report::Tested { tokens });
            }
            Task::Rest => session.report_health(reports)?,
        }
        gauge.enter(Phase::Idle);
    }
    Ok(())
}

/// Answers one request. A fault of the request is told to its client, one of the card is
/// returned.
fn serve(session: &mut Session, job: &Job, inbox: &Inbox, reports: &Reports) -> Result<()> {
    let mut send = |event| {
        if matches!(event, Event::Done(_)) {
            inbox.finished(job.id);
        }
        reports.send(&Report::Answer { id: job.id, event });
    };
    let answered = session.answer(job, &|| inbox.is_stopped(), &mut send, &mut |health| {
        reports.send(&Report::Health(health));
    });
    inbox.finished(job.id);
    match answered {
        Err(failure) if !is_cards(failure.fault) => {
            tracing::warn!(request = job.id.0, %failure, "request failed");
            reports.send(&Report::Answer { id: job.id, event: Event::Failed(failure) });
            Ok(())
        }
        answered => answered,
    }
}

/// When the card is asked how it is.
struct Checkup {
    due: Instant,
}

impl Checkup {
    const INTERVAL: Duration = Duration::from_secs(8);
    /// Asking takes several commands on the card: it may cost a fiftieth of the time.
    const SHARE: u32 = 50;

    /// Asks, and settles when to ask again.
    fn ask(&mut self, device: &Device) -> Result<Health> {
        let began = Instant::now();
        let properties = device.properties()?;
        self.due = Instant::now() + Self::INTERVAL.max(began.elapsed() * Self::SHARE);
        let temperature_c = properties.temperature_millidegrees as f32 / 1000.0;
        Ok(Health { temperature_c, free_memory: properties.free_memory })
    }
}

/// A loaded model, ready to answer. Dropping it unloads the engines, then releases the
/// card, then the runtime.
pub struct Session {
    pipeline: Pipeline,
    device: Device,
    runtime: Runtime,
    model: ModelDir,
    gauge: Arc<Gauge>,
    checkup: Checkup,
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
        let Some(Loaded { pipeline, card_bytes, firmware }) = loaded else { return Ok(None) };
        let version = runtime.version();
        let info = ModelInfo {
            name: settings.name.clone().unwrap_or_else(|| model.name().to_owned()),
            context: pipeline.context(),
            vocabulary: u32::try_from(model.text().vocabulary()).unwrap_or(u32::MAX),
            layers: model.layers(),
            thinks: model.text().thinks(),
            copy_saving: pipeline.copy_saving(),
            chunked: pipeline.chunked(),
            fingerprint: fingerprint(&model, &version, &pipeline),
            runtime: version,
            firmware,
            device: runtime.chip(),
            load_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            card_memory_bytes: card_bytes,
        };
        tracing::info!(model = info.name, load_ms = info.load_ms, "ready");
        let checkup = Checkup { due: Instant::now() };
        Ok(Some(Self { pipeline, device, runtime, model, gauge: Arc::clone(gauge), checkup, info }))
    }

    /// Answers one request; see [`answer`].
    ///
    /// # Errors
    /// As [`answer`].
    pub fn answer(
        &mut self,
        job: &Job,
        stop: &dyn Fn() -> bool,
        send: &mut dyn FnMut(Event),
        health: &mut dyn FnMut(Health),
    ) -> Result<()> {
        self.runtime.mark_begin(job.id.0);
        let Self { pipeline, device, model, gauge, checkup, .. } = self;
        let mut between = || {
            if Instant::now() >= checkup.due {
                health(checkup.ask(device)?);
            }
            Ok(())
        };
        let answered = answer(pipeline, model, gauge, job, stop, send, &mut between);
        self.runtime.mark_end(job.id.0);
        answered
    }

    /// Answers the test prompt; see [`test_prompt::answer`].
    ///
    /// # Errors
    /// As there.
    pub fn test(&mut self, wanted: &dyn Fn() -> bool) -> Result<Vec<TokenId>> {
        test_prompt::answer(&mut self.pipeline, &self.model, &self.gauge, wanted)
    }

    fn report_health(&mut self, reports: &Reports) -> Result<()> {
        let health = self.checkup.ask(&self.device)?;
        reports.send(&Report::Health(health));
        Ok(())
    }
}

/// What the card's answers depend on.
fn fingerprint(model: &ModelDir, runtime: &str, pipeline: &Pipeline) -> String {
    let files = model.manifest().map_or(0, Manifest::checksum);
    let how = if pipeline.copy_saving() { "saving" } else { "plain" };
    format!("{} {files:08x} {runtime} {how} {}", model.name(), env!("CARGO_PKG_VERSION"))
}
