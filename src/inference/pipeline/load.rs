//! From a model directory to a pipeline: engines onto the card; meanwhile files are verified and the text side is read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use super::geometry::Geometry;
use super::stack::Stack;
use super::{PathMode, Pipeline, memory};
use crate::axcl::{Device, Engine, Phase, Properties, version};
use crate::fault::{Failure, Fault, Result};
use crate::model::{Manifest, ModelFiles, Text};

/// How a model is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub path: PathMode,
    /// Use at most this many tokens of context.
    pub context: Option<u32>,
    /// Conversations the card keeps at most.
    pub prefix_slots: usize,
    /// Compare the files with their manifest.
    pub verify: bool,
}

/// A loaded model.
pub struct Loaded {
    pub pipeline: Pipeline,
    pub text: Text,
    /// Card memory it takes, in bytes.
    pub card_bytes: u64,
    /// What is left there.
    pub free_bytes: u64,
    /// The card's firmware.
    pub firmware: String,
}

/// Loads `model`; `report` is told how many of how many steps are done and what comes next.
/// Between two engines `stop` is asked whether to give up: then there is no pipeline.
///
/// # Errors
/// As [`ModelFiles::text`]; [`Fault::CardMemory`] if it does not fit, [`Fault::ModelChecksum`] naming a damaged file,
/// [`Fault::ModelInvalid`] and [`Fault::ModelEngine`] for engines that cannot be used,
/// [`Fault::Versions`] for a library and a firmware of two releases, [`Fault::CardCall`] otherwise.
pub fn load(
    device: &Device,
    model: &ModelFiles,
    how: Load,
    stop: &dyn Fn() -> bool,
    report: &mut dyn FnMut(u32, u32, &str),
) -> Result<Option<Loaded>> {
    let give_up = AtomicBool::new(false);
    thread::scope(|scope| {
        let text = Beside::new(scope.spawn(|| model.text()));
        let manifest = model.manifest().filter(|_| how.verify);
        let verifier = manifest.map(|m| Beside::new(scope.spawn(|| verify(m, model.path(), &give_up))));
        let loaded = load_engines(device, model, how, Watch { stop, report, text, verifier });
        give_up.store(true, Ordering::Release);
        loaded
    })
}

/// What a load keeps an eye on.
struct Watch<'a, 'scope> {
    stop: &'a dyn Fn() -> bool,
    report: &'a mut dyn FnMut(u32, u32, &str),
    text: Beside<'scope, Text>,
    verifier: Option<Beside<'scope, ()>>,
}

impl Watch<'_, '_> {
    /// Gives up where other threads found why.
    fn check(&mut self) -> Result<()> {
        self.text.look(false)?;
        self.verifier.as_mut().map_or(Ok(()), |verifier| verifier.look(false))
    }
}

/// What another thread does beside the load.
struct Beside<'scope, T> {
    thread: Option<ScopedJoinHandle<'scope, Result<T>>>,
    done: Option<T>,
}

impl<'scope, T> Beside<'scope, T> {
    fn new(thread: ScopedJoinHandle<'scope, Result<T>>) -> Self {
        Self { thread: Some(thread), done: None }
    }

    /// Takes the result over if it is there already, or if it must be.
    fn look(&mut self, wait: bool) -> Result<()> {
        if let Some(thread) = self.thread.take_if(|thread| wait || thread.is_finished()) {
            let panicked = |_| Err(Failure::new(Fault::Internal, "a thread beside the load panicked"));
            self.done = Some(thread.join().unwrap_or_else(panicked)?);
        }
        Ok(())
    }

    /// The result, once it is there.
    fn wait(mut self) -> Result<T> {
        self.look(true)?;
        self.done.ok_or_else(|| Failure::new(Fault::Internal, "a thread beside the load left no result"))
    }
}

/// Compares every file with the manifest, as long as anyone cares.
fn verify(manifest: &Manifest, directory: &Path, give_up: &AtomicBool) -> Result<()> {
    for name in manifest.files() {
        if give_up.load(Ordering::Acquire) {
            break;
        }
        manifest.check(directory, name)?;
    }
    Ok(())
}

fn load_engines(
    device: &Device,
    model: &ModelFiles,
    how: Load,
    mut watch: Watch<'_, '_>,
) -> Result<Option<Loaded>> {
    let gauge = device.runtime().gauge();
    gauge.enter(Phase::Load);
    let began = Instant::now();
    // The post engine first: it is the largest, and a file needs its size once more while
    // it loads.
    let files: Vec<PathBuf> =
        std::iter::once(model.post_file()).chain((0..model.layers()).map(|i| model.layer_file(i))).collect();
    let sizes: Vec<u64> = files.iter().map(|f| size(f)).collect::<Result<_>>()?;
    let Properties { firmware, free_memory: free, .. } = device.properties()?;
    version::check(&device.runtime().version(), &firmware)?;
    memory::check(model.name(), memory::peak(&sizes, 0), free)?;

    let steps = u32::try_from(files.len()).unwrap_or(u32::MAX).saturating_add(2);
    let mut engines: Vec<Engine> = Vec::with_capacity(files.len());
    let mut geometry: Option<Geometry> = None;
    for (number, file) in files.iter().enumerate() {
        watch.check()?;
        if (watch.stop)() {
            return Ok(None);
        }
        let done = u32::try_from(number).unwrap_or(u32::MAX);
        (watch.report)(done, steps, &file_name(file));
        if let Some(next) = files.get(number + 1) {
            read_ahead(next);
        }
        let engine =
            Engine::load(device, file).map_err(|failure| damaged(model, how, file).unwrap_or(failure))?;
        // The first engine is the post engine, all others are layers.
        if number > 0 {
            let found = Geometry::read(engine.io(), engine.name())?;
            check_geometry(&found, geometry.as_ref(), model, engine.name())?;
            if geometry.is_none() {
                let buffers = found.buffer_bytes(files.len() - 1);
                memory::check(model.name(), memory::peak(&sizes, buffers), free)?;
            }
            geometry = Some(found);
        }
        engines.push(engine);
    }
    let (Some((post, layers)), Some(geometry)) = (engines.split_first(), geometry) else {
        return Err(Failure::new(Fault::ModelInvalid, format!("{} has no layers", model.name())));
    };
    tracing::info!(engines = engines.len(), seconds = began.elapsed().as_secs_f64(), "on the card");
    (watch.report)(steps.saturating_sub(2), steps, "buffers and self-test");
    gauge.enter(Phase::SelfTest);
    let stack = Stack::new(device, geometry, layers, post)?;
    if stack.vocabulary() > model.vocabulary() {
        let detail = format!(
            "{}: {} logits, but the embedding table has {} rows",
            post.name(),
            stack.vocabulary(),
            model.vocabulary()
        );
        return Err(Failure::new(Fault::ModelInvalid, detail));
    }
    let embeddings = model.embeddings()?;
    // Not waited for.
    let _ = embeddings.warm();
    let pipeline = Pipeline::new(stack, embeddings, how)?;
    let free_bytes = device.properties()?.free_memory;
    gauge.enter(Phase::Verify);
    (watch.report)(steps.saturating_sub(1), steps, "checksums");
    let text = watch.text.wait()?;
    watch.verifier.map_or(Ok(()), Beside::wait)?;
    (watch.report)(steps, steps, "ready");
    Ok(Some(Loaded { pipeline, text, card_bytes: free.saturating_sub(free_bytes), free_bytes, firmware }))
}

/// The file's own damage, where that is why the card refused it.
fn damaged(model: &ModelFiles, how: Load, file: &Path) -> Option<Failure> {
    let manifest = model.manifest().filter(|_| how.verify)?;
    manifest.check(model.path(), &file_name(file)).err()
}

fn check_geometry(found: &Geometry, first: Option<&Geometry>, model: &ModelFiles, name: &str) -> Result<()> {
    let invalid = |detail: String| Err(Failure::new(Fault::ModelInvalid, detail));
    if found.hidden_bytes != model.hidden() * size_of::<half::bf16>() {
        return invalid(format!(
            "{name}: hidden states of {} bytes, but embeddings of {} values",
            found.hidden_bytes,
            model.hidden()
        ));
    }
    match first {
        Some(first) if first != found => {
            invalid(format!("{name}: its tensors differ from those of the first layer"))
        }
        _ => Ok(()),
    }
}

fn size(file: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(file);
    metadata
        .map(|m| m.len())
        .map_err(|e| Failure::new(Fault::ModelMissing, format!("{}: {e}", file.display())))
}

/// Asks the kernel to have the next file in memory by the time it is needed. Only a hint.
fn read_ahead(file: &Path) {
    if let Ok(file) = File::open(file) {
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
    }
}

fn file_name(file: &Path) -> String {
    file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}
