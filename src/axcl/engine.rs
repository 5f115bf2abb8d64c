//! Engines on the card and the binding of their tensors to card memory.

use std::path::Path;
use std::rc::Rc;

use super::abi::{Function, Handle, Symbols};
use super::device::Device;
use super::io_info::{IoInfo, TensorInfo};
use super::memory::Region;
use super::runtime::c_path;
use super::stream::Stream;
use crate::fault::{Failure, Fault, Result};

/// A loaded engine with one execution context; unloaded when the last handle goes.
#[derive(Clone)]
pub struct Engine(Rc<Inner>);

struct Inner {
    device: Device,
    /// Never 0: that is what a failed load leaves.
    id: u64,
    context: u64,
    info: Handle,
    io: IoInfo,
    name: String,
}

impl Engine {
    /// Loads the engine file at `path` onto the card. Needs its size once more while loading.
    ///
    /// # Errors
    /// [`Fault::ModelMissing`] if it cannot be read, [`Fault::CardMemory`] if it does not
    /// fit, [`Fault::ModelEngine`] if the card refuses it.
    pub fn load(device: &Device, path: &Path) -> Result<Self> {
        // The runtime answers "success" for a file it may not open: look first.
        std::fs::File::open(path)
            .map_err(|e| Failure::new(Fault::ModelMissing, format!("{}: {e}", path.display())))?;
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let runtime = device.runtime();
        let text = c_path(path)?;
        let mut id = 0;
        runtime.call(
            Function::EngineLoadFromFile,
            // SAFETY: a NUL-terminated string; writes one number.
            |s| unsafe { (s.engine_load_from_file)(text.as_ptr(), &raw mut id) },
            || path.display().to_string(),
        )?;
        if id == 0 {
            let detail = format!("{}: the runtime could not open the file", path.display());
            return Err(Failure::new(Fault::ModelEngine, detail));
        }
        let null = std::ptr::null_mut();
        let mut inner =
            Inner { device: device.clone(), id, context: 0, info: null, io: IoInfo::default(), name };
        runtime.call(
            Function::EngineCreateContext,
            // SAFETY: writes one number.
            |s| unsafe { (s.engine_create_context)(id, &raw mut inner.context) },
            || path.display().to_string(),
        )?;
        runtime.call(
            Function::EngineGetIOInfo,
            // SAFETY: writes one handle.
            |s| unsafe { (s.engine_get_io_info)(id, &raw mut inner.info) },
            || path.display().to_string(),
        )?;
        inner.io = IoInfo::read(runtime, inner.info, &inner.name)?;
        Ok(Self(Rc::new(inner)))
    }

    /// Its tensors.
    pub fn io(&self) -> &IoInfo {
        &self.0.io
    }

    /// Its file's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A fresh set of bindings for one shape group.
    ///
    /// # Errors
    /// [`Fault::Internal`] if there is no such group, [`Fault::CardCall`] otherwise.
    pub fn binding(&self, group: usize) -> Result<Binding> {
        let number = u32::try_from(group).ok().filter(|_| group < self.0.io.groups);
        let number = number.ok_or_else(|| {
            Failure::new(Fault::Internal, format!("{} has no shape group {group}", self.0.name))
        })?;
        let mut io: Handle = std::ptr::null_mut();
        self.0.device.runtime().note(
            Function::EngineCreateIO,
            // SAFETY: the info handle lives as long as the engine; writes one handle.
            |s| unsafe { (s.engine_create_io)(self.0.info, &raw mut io) },
            || self.0.name.clone(),
        )?;
        Ok(Binding {
            engine: self.clone(),
            group: number,
            io,
            inputs: vec![None; self.0.io.inputs.len()],
            outputs: vec![None; self.0.io.outputs.len()],
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let runtime = self.device.runtime();
        if !self.info.is_null() {
            // SAFETY: ours, destroyed once; no binding is left, since each holds the engine.
            let destroy = |s: &Symbols| unsafe { (s.engine_destroy_io_info)(self.info) };
            runtime.release(Function::EngineDestroyIOInfo, destroy, || self.name.clone());
        }
        // SAFETY: takes a number; ours, unloaded once.
        let unload = |s: &Symbols| unsafe { (s.engine_unload)(self.id) };
        runtime.release(Function::EngineUnload, unload, || self.name.clone());
    }
}

/// Which memory each tensor of one shape group of an engine uses. Keeps that memory alive.
pub struct Binding {
    engine: Engine,
    group: u32,
    io: Handle,
    inputs: Vec<Option<Region>>,
    outputs: Vec<Option<Region>>,
}

impl Binding {
    /// The shape group.
    pub fn group(&self) -> usize {
        self.group as usize
    }

    /// Binds input number `index` to `region`, which must have exactly its size.
    ///
    /// # Errors
    /// [`Fault::Internal`] if it has not; [`Fault::CardCall`] if the runtime refuses.
    pub fn input(&mut self, index: usize, region: &Region) -> Result<()> {
        self.fits(&self.engine.io().inputs, index, region)?;
        self.set(Function::EngineSetInputBufferByIndex, index, region)?;
        if let Some(slot) = self.inputs.get_mut(index) {
            *slot = Some(region.clone());
        }
        Ok(())
    }

    /// Binds output number `index` to `region`, which must have exactly its size.
    ///
    /// # Errors
    /// As [`Self::input`].
    pub fn output(&mut self, index: usize, region: &Region) -> Result<()> {
        self.fits(&self.engine.io().outputs, index, region)?;
        self.set(Function::EngineSetOutputBufferByIndex, index, region)?;
        if let Some(slot) = self.outputs.get_mut(index) {
            *slot = Some(region.clone());
        }
        Ok(())
    }

    /// Runs the engine and waits for it.
    ///
    /// # Errors
    /// [`Fault::CardCall`]; [`Fault::Internal`] if a tensor is unbound.
    pub fn execute(&self) -> Result<()> {
        self.complete()?;
        let engine = &*self.engine.0;
        engine.device.runtime().call(
            Function::EngineExecute,
            // SAFETY: engine, context and io live; all tensors are bound to live memory.
            |s| unsafe { (s.engine_execute)(engine.id, engine.context, self.group, self.io) },
            || format!("{} group {}", engine.name, self.group),
        )
    }

    /// Appends a run of the engine to `stream`; the bindings are read now. A failure on the
    /// card shows in the outputs only.
    ///
    /// # Errors
    /// [`Fault::CardCall`] if it cannot be sent; [`Fault::Internal`] if a tensor is unbound.
    pub fn execute_async(&self, stream: &Stream) -> Result<()> {
        self.complete()?;
        let engine = &*self.engine.0;
        engine.device.runtime().call(
            Function::EngineExecuteAsync,
            // SAFETY: engine, context, io and stream live; all tensors are bound to live memory.
            |s| unsafe {
                let (io, stream) = (self.io, stream.handle());
                (s.engine_execute_async)(engine.id, engine.context, self.group, io, stream)
            },
            || format!("{} group {}", engine.name, self.group),
        )
    }

    fn set(&self, function: Function, index: usize, region: &Region) -> Result<()> {
        let (number, size) = (u32::try_from(index).unwrap_or(u32::MAX), region.len() as u64);
        self.engine.0.device.runtime().note(
            function,
            // SAFETY: the io handle lives; the address is only noted.
            |s| unsafe {
                match function {
                    Function::EngineSetInputBufferByIndex => {
                        (s.engine_set_input_buffer_by_index)(self.io, number, region.address(), size)
                    }
                    _ => (s.engine_set_output_buffer_by_index)(self.io, number, region.address(), size),
                }
            },
            || format!("{} tensor {index}", self.engine.name()),
        )
    }

    fn fits(&self, tensors: &[TensorInfo], index: usize, region: &Region) -> Result<()> {
        let wanted = tensors.get(index).and_then(|t| t.bytes.get(self.group()));
        if wanted == Some(&region.len()) {
            return Ok(());
        }
        let name = self.engine.name();
        let detail =
            format!("{name} group {} tensor {index} takes {wanted:?} bytes, not {region}", self.group);
        Err(Failure::new(Fault::Internal, detail))
    }

    fn complete(&self) -> Result<()> {
        if self.inputs.iter().chain(&self.outputs).all(Option::is_some) {
            return Ok(());
        }
        let detail = format!("{} group {} has unbound tensors", self.engine.name(), self.group);
        Err(Failure::new(Fault::Internal, detail))
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        let destroy = |s: &Symbols| unsafe { (s.engine_destroy_io)(self.io) };
        let runtime = self.engine.0.device.runtime();
        let name = || self.engine.name().to_owned();
        if let Err(failure) = runtime.note(Function::EngineDestroyIO, destroy, name) {
            tracing::warn!(%failure, "release failed");
        }
    }
}
