//! The card with what is loaded on it: one model or several, side by side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::answer;
use super::checkup::Checkup;
use super::inbox::Job;
use super::settings::{Package, Settings};
use super::test_prompt;
use crate::axcl::{Device, Gauge, Phase, Runtime};
use crate::chat::{Delta, Event, Request, TokenId};
use crate::fault::{Failure, Fault, Result};
use crate::inference::pipeline::{Load, Loaded, Pipeline, Purpose, load};
use crate::inference::{Prepared, continuation, prepare};
use crate::link::frame::{Health, ModelInfo};
use crate::model::{Manifest, ModelDir, ModelFiles};

/// So many tokens of the next prompt are computed ahead.
const WORTH_AHEAD: usize = 16;

/// A loaded model, ready to answer.
struct Mounted {
    pipeline: Pipeline,
    model: ModelDir,
    info: ModelInfo,
}

/// What a load needs to know of the world.
pub struct Watch<'a> {
    /// Whether to give up.
    pub stop: &'a dyn Fn() -> bool,
    /// Told how many of how many steps are done, and what comes next.
    pub report: &'a mut dyn FnMut(u32, u32, &str),
}

/// The card and its models. Dropping it unloads the engines, then releases the card, then
/// the runtime.
pub struct Session {
    /// The one used last is the last.
    models: Vec<Mounted>,
    device: Device,
    runtime: Runtime,
    gauge: Arc<Gauge>,
    checkup: Checkup,
    settings: Settings,
}

impl Session {
    /// Opens model, runtime and card, and loads; `None` if the watch said stop meanwhile.
    ///
    /// # Errors
    /// What [`ModelFiles::open`], [`Runtime::open`], [`Device::open`] and [`load`] say.
    pub fn open(settings: &Settings, gauge: &Arc<Gauge>, watch: &mut Watch<'_>) -> Result<Option<Self>> {
        let began = Instant::now();
        let first = ModelFiles::open(&settings.model.dir, settings.model.descriptor.as_ref())?;
        let json = settings.runtime_config.as_deref();
        let runtime = Runtime::open(&settings.runtime, json, Arc::clone(gauge))?;
        let device = Device::open(&runtime, settings.device)?;
        let checkup = Checkup::new(Instant::now(), Duration::ZERO);
        let (mut settings, gauge) = (settings.clone(), Arc::clone(gauge));
        settings.model.name.get_or_insert_with(|| first.name().to_owned());
        let mut session = Self { models: Vec::new(), device, runtime, gauge, checkup, settings };
        let package = session.settings.model.clone();
        Ok(session.mount(&package, first, began, watch)?.then_some(session))
    }

    /// Loads a model; false if the watch said stop meanwhile.
    fn mount(
        &mut self,
        package: &Package,
        files: ModelFiles,
        began: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<bool> {
        let Settings { path, prefix_slots, verify, .. } = self.settings;
        let how = Load { path, context: package.context, prefix_slots, verify };
        let loaded = load(&self.device, &files, how, watch.stop, watch.report)?;
        let Some(Loaded { pipeline, text, card_bytes, free_bytes, firmware }) = loaded else {
            return Ok(false);
        };
        let model = ModelDir::new(files, text);
        let version = self.runtime.version();
        let info = ModelInfo {
            name: package.name.clone().unwrap_or_else(|| model.files().name().to_owned()),
            context: pipeline.context(),
            vocabulary: u32::try_from(model.text().vocabulary()).unwrap_or(u32::MAX),
            layers: model.files().layers(),
            thinks: model.text().thinks(),
            copy_saving: pipeline.copy_saving(),
            chunked: pipeline.chunked(),
            fingerprint: fingerprint(model.files(), &version, &pipeline),
            runtime: version,
            firmware,
            device: self.runtime.chip(),
            load_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            card_memory_bytes: card_bytes,
        };
        tracing::info!(model = info.name, load_ms = info.load_ms, "ready");
        self.models.push(Mounted { pipeline, model, info });
        self.share_saved();
        self.grow(free_bytes)?;
        Ok(true)
    }

    /// What memory is left, `free` bytes, keeps more conversations, first those of the model used last.
    fn grow(&mut self, mut free: u64) -> Result<()> {
        self.models.iter_mut().rev().try_for_each(|mounted| mounted.pipeline.grow(&mut free))
    }

    /// Gives up every model's conversations but the last one's; whether there were others.
    fn shrink(&mut self) -> Result<bool> {
        let mut others = 0;
        for mounted in &mut self.models {
            others += mounted.pipeline.shrink()?;
        }
        Ok(others > 0)
    }

    /// Every model has an equal share of what the host keeps: of a quarter of its memory, or less.
    fn share_saved(&mut self) {
        let machine = rustix::system::sysinfo();
        let quarter = u64::from(machine.mem_unit).saturating_mul(machine.totalram) / 4;
        let share = self.settings.saved_bytes.min(quarter) / self.models.len().max(1) as u64;
        self.models.iter_mut().for_each(|mounted| mounted.pipeline.save_at_most(share));
    }

    /// Loads the installed model `name` beside the others. Where it does not fit, conversations are given
    /// up, then models named in `evict` one by one, which `gone` is told; `None` if the watch said stop.
    ///
    /// # Errors
    /// As [`Session::open`]; what was unloaded stays so.
    pub fn add(
        &mut self,
        name: &str,
        evict: &[String],
        gone: &mut dyn FnMut(&str),
        watch: &mut Watch<'_>,
    ) -> Result<Option<&ModelInfo>> {
        let unknown = || {
            let detail = format!("{name} is not among the models this worker was started with");
            Failure::new(Fault::ModelMissing, detail)
        };
        let installed = |package: &&Package| package.name.as_deref() == Some(name);
        let package = self.settings.packages().find(installed).cloned().ok_or_else(unknown)?;
        if self.place(name).is_none() {
            let mut evict = evict.iter();
            let began = Instant::now();
            loop {
                let files = ModelFiles::open(&package.dir, package.descriptor.as_ref())?;
                match self.mount(&package, files, began, watch) {
                    Ok(true) => break,
                    Ok(false) => return Ok(None),
                    Err(failure) if failure.fault == Fault::CardMemory && self.shrink()? => {
                        tracing::info!(%failure, "further prefix slots were given up for it");
                    }
                    Err(failure) if failure.fault == Fault::CardMemory => {
                        let next = evict.find(|name| self.place(name).is_some()).ok_or(failure)?;
                        self.unload(next);
                        gone(next);
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(self.models.last().map(|mounted| &mounted.info))
    }

    /// Unloads a model.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.unload(name);
        let free = self.device.properties()?.free_memory;
        self.grow(free)
    }

    fn unload(&mut self, name: &str) {
        if let Some(at) = self.place(name) {
            tracing::info!(model = name, "unloaded");
            self.models.remove(at);
            self.share_saved();
        }
    }

    /// Answers one request; see [`answer`].
    ///
    /// # Errors
    /// As [`answer`], and [`Fault::Internal`] where its model is not loaded.
    pub fn answer(
        &mut self,
        job: &Job,
        stop: &dyn Fn() -> bool,
        send: &mut dyn FnMut(Event),
        health: &mut dyn FnMut(Health),
    ) -> Result<()> {
        self.runtime.mark_begin(job.id.0);
        self.use_now(self.place_for(&job.request))?;
        let Self { models, device, gauge, checkup, .. } = self;
        let mut between = || {
            if checkup.is_overdue(Instant::now()) {
                health(ask(device, checkup)?);
            }
            Ok(())
        };
        let Mounted { pipeline, model, .. } = models.last_mut().ok_or_else(not_loaded)?;
        let answered = answer(pipeline, model, gauge, job, stop, send, &mut between);
        self.runtime.mark_end(job.id.0);
        self.checkup.answered(Instant::now());
        answered
    }

    /// Has the card compute what the answer `said` to a request has left on a card before, until something
    /// else is `wanted`.
    ///
    /// # Errors
    /// What the pipeline says.
    pub fn warm(&mut self, request: &Request, said: &[TokenId], wanted: &dyn Fn() -> bool) -> Result<()> {
        let at = self.place_for(request);
        // Its model may be gone, and whether it can be answered again is not the question.
        if at.is_none() || wanted() {
            return Ok(());
        }
        self.use_now(at)?;
        let Mounted { pipeline, model, .. } = self.models.last_mut().ok_or_else(not_loaded)?;
        let (text, defaults) = (model.text(), model.files().sampling_defaults());
        let Ok(Prepared { mut prompt, cue, .. }) = prepare(text, defaults, request, pipeline.window(), &[])
        else {
            return Ok(());
        };
        prompt.extend_from_slice(said);
        self.gauge.enter(Phase::Ahead);
        let purpose = Purpose::Answer { cue: cue + said.len() };
        if pipeline.compute_while(&prompt, purpose, &|| !wanted())? {
            tracing::info!(tokens = prompt.len(), "a conversation is on the card again");
        }
        Ok(())
    }

    /// Has the card compute what the next prompt of this conversation begins with, after the answer
    /// `said`, until something else is `wanted`.
    ///
    /// # Errors
    /// What the pipeline says.
    pub fn look_ahead(&mut self, job: &Job, said: &Delta, wanted: &dyn Fn() -> bool) -> Result<()> {
        let Mounted { pipeline, model, .. } = self.models.last_mut().ok_or_else(not_loaded)?;
        let Some(prefix) = continuation(model.text(), &job.request, pipeline.window(), said) else {
            return Ok(());
        };
        // A few tokens cost the next prompt no chunk more.
        if pipeline.chunked() && pipeline.missing(&prefix) < WORTH_AHEAD {
            return Ok(());
        }
        self.gauge.enter(Phase::Ahead);
        pipeline.compute_while(&prefix, Purpose::Ahead, &|| !wanted()).map(drop)
    }

    /// Saves the conversation that has to leave the card next, until something else is `wanted`.
    ///
    /// # Errors
    /// What the pipeline says.
    pub fn save_ahead(&mut self, wanted: &dyn Fn() -> bool) -> Result<()> {
        self.gauge.enter(Phase::Ahead);
        let last = self.models.last_mut();
        last.map_or(Ok(()), |mounted| mounted.pipeline.save_ahead(&|| !wanted()))
    }

    /// Has a model answer the test prompt: `name`, or the one used last. Says which did.
    ///
    /// # Errors
    /// As [`test_prompt::answer`], and [`Fault::Internal`] where it is not loaded.
    pub fn test(&mut self, name: Option<&str>, wanted: &dyn Fn() -> bool) -> Result<(String, Vec<TokenId>)> {
        if let Some(name) = name {
            self.use_now(self.place(name))?;
        }
        let Mounted { pipeline, model, info } = self.models.last_mut().ok_or_else(not_loaded)?;
        let tokens = test_prompt::answer(pipeline, model, &self.gauge, wanted)?;
        Ok((info.name.clone(), tokens))
    }

    /// What is loaded; the model used last is the last.
    pub fn loaded(&self) -> impl Iterator<Item = &ModelInfo> {
        self.models.iter().map(|mounted| &mounted.info)
    }

    /// Asks the card how it is.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn health(&mut self) -> Result<Health> {
        ask(&self.device, &mut self.checkup)
    }

    /// When the card is to be asked again.
    pub fn checkup_due(&self) -> Instant {
        self.checkup.due()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.loaded().position(|info| info.name == name)
    }

    /// Where the model is that a request asks for.
    fn place_for(&self, request: &Request) -> Option<usize> {
        request.model.as_ref().map_or_else(|| self.first(), |name| self.place(name))
    }

    /// Where the model is that was loaded from the start.
    fn first(&self) -> Option<usize> {
        self.place(self.settings.model.name.as_deref()?)
    }

    /// Puts a model where the one used last is.
    fn use_now(&mut self, at: Option<usize>) -> Result<()> {
        let at = at.filter(|&at| at < self.models.len()).ok_or_else(not_loaded)?;
        let mounted = self.models.remove(at);
        self.models.push(mounted);
        Ok(())
    }
}

/// Asks the card how it is, and notes when.
fn ask(device: &Device, checkup: &mut Checkup) -> Result<Health> {
    let asked = Instant::now();
    let properties = device.properties()?;
    *checkup = Checkup::new(asked, asked.elapsed());
    let temperature_c = properties.temperature_millidegrees as f32 / 1000.0;
    Ok(Health { temperature_c, free_memory: properties.free_memory })
}

fn not_loaded() -> Failure {
    Failure::new(Fault::Internal, "the request's model is not loaded")
}

/// What the card's answers depend on.
fn fingerprint(model: &ModelFiles, runtime: &str, pipeline: &Pipeline) -> String {
    let files = model.manifest().map_or(0, Manifest::checksum);
    let how = if pipeline.copy_saving() { "saving" } else { "plain" };
    format!("{} {files:08x} {runtime} {how} {}", model.name(), env!("CARGO_PKG_VERSION"))
}
