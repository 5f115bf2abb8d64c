//! The emulated card: memory, processor, streams, and what watches or disturbs them.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use memmap2::Mmap;
use serde::Serialize;

use crate::engine::{self, Engine, Source};

pub mod allocator;
pub mod backing;
pub mod code;
pub mod condition;
pub mod control;
pub mod fault;
pub mod latency;
pub mod memory;
pub mod npu;
pub mod reservation;
pub mod stream;
pub mod trace;
pub mod turnaround;

use code::Code;
use condition::Live;
use fault::Faults;
use latency::Latency;
use memory::Memory;
use npu::{Loaded, Npu, Ran, Request};
use trace::{Ticket, Trace};

/// Turns an engine file into something that runs.
pub type Loader = fn(Source) -> Result<Box<dyn Engine>, String>;

/// What [`Card::status`] tells, in the units of the vendor's device properties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Thousandths of °C.
    pub temperature: i32,
    pub total_memory_kb: u32,
    pub free_memory_kb: u32,
    pub total_cmm_kb: u32,
    pub free_cmm_kb: u32,
    /// Hundredths of a percent.
    pub cpu_load: u32,
    /// Hundredths of a percent, over all the time so far.
    pub npu_load: u32,
    pub engines: usize,
    pub allocations: usize,
}

/// Temperature of a card with nothing to do, in thousandths of °C.
const IDLE_TEMPERATURE: i32 = 45_000;

/// The card. One per process: its content is not shared with other processes.
pub struct Card {
    pub memory: Memory,
    pub trace: Trace,
    pub faults: Faults,
    /// What the emulated machine says about the card, if there is one.
    pub condition: Live,
    npu: Npu,
    engines: Mutex<HashMap<u64, Arc<Loaded>>>,
    engine_ids: AtomicU64,
    latency: RwLock<Option<Arc<Latency>>>,
    /// Set over the control socket; `i32::MIN` when not.
    temperature: AtomicI32,
    loader: Loader,
}

impl Default for Card {
    fn default() -> Self {
        Self::with_loader(engine::load)
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes >> 10).unwrap_or(u32::MAX)
}

/// Card memory an engine occupies, from its file's size.
const fn footprint(file_size: u64) -> u64 {
    file_size + file_size / 10 * 3
}

impl Card {
    /// A card that understands the engine files of `loader`.
    pub fn with_loader(loader: Loader) -> Self {
        Self {
            memory: Memory::default(),
            trace: Trace::default(),
            faults: Faults::default(),
            condition: Live::default(),
            npu: Npu::default(),
            engines: Mutex::default(),
            engine_ids: AtomicU64::new(1),
            latency: RwLock::default(),
            temperature: AtomicI32::new(i32::MIN),
            loader,
        }
    }

    fn engines(&self) -> MutexGuard<'_, HashMap<u64, Arc<Loaded>>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latency model in force.
    pub fn latency(&self) -> Option<Arc<Latency>> {
        self.latency.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a latency model in force, or none.
    pub fn set_latency(&self, latency: Option<Latency>) {
        *self.latency.write().unwrap_or_else(PoisonError::into_inner) = latency.map(Arc::new);
    }

    /// Makes the card report this temperature, in thousandths of °C.
    pub fn set_temperature(&self, temperature: i32) {
        self.temperature.store(temperature, Ordering::Relaxed);
    }

    /// The card's state.
    pub fn status(&self) -> Status {
        let (busy, wall) = self.trace.load(Instant::now());
        let share = u32::try_from(u128::from(busy) * 10_000 / u128::from(wall.max(1)));
        let npu_load = share.unwrap_or(10_000).min(10_000);
        let warm = IDLE_TEMPERATURE + npu_load.cast_signed() * 2;
        let set = self.temperature.load(Ordering::Relaxed);
        Status {
            temperature: if set == i32::MIN { self.condition.temperature().unwrap_or(warm) } else { set },
            total_memory_kb: 945 << 10,
            free_memory_kb: 792 << 10,
            total_cmm_kb: kib(allocator::SIZE),
            free_cmm_kb: kib(self.memory.free()),
            cpu_load: 100 + npu_load / 20,
            npu_load,
            engines: self.engines().len(),
            allocations: self.memory.allocations().len(),
        }
    }

    /// Loads an engine file through a transient copy in card memory.
    ///
    /// # Errors
    /// [`Code::MEMORY_FAILED`] without room, [`Code::ENGINE_FAILED`] for a file that is
    /// no engine; with the reason.
    pub fn load_file(&self, file: &File) -> Result<u64, (Code, String)> {
        let unreadable = |e: std::io::Error| (Code::MEMORY_FAILED, e.to_string());
        let size = file.metadata().map_err(unreadable)?.len();
        let no_room = || (Code::MEMORY_FAILED, format!("no card memory for {size} bytes"));
        let transient = self.memory.reserve(size).ok_or_else(no_room)?;
        // SAFETY: engine files are installed whole and not written while in use; the
        // engines copy or only read what they map.
        let loaded = unsafe { Mmap::map(file) }
            .map_err(unreadable)
            .and_then(|map| self.adopt(Source::File(Arc::new(map)), size));
        self.memory.unreserve(transient);
        loaded
    }

    /// Loads an engine from `size` bytes of card memory at `address`.
    ///
    /// # Errors
    /// [`Code::ENGINE_FAILED`] if that is not card memory or holds no engine,
    /// [`Code::MEMORY_FAILED`] without room; with the reason.
    pub fn load_memory(&self, address: u64, size: u64) -> Result<u64, (Code, String)> {
        let range = usize::try_from(size).ok().and_then(|size| self.memory.range(address, size));
        let range = range.ok_or_else(|| {
            (Code::ENGINE_FAILED, format!("{address:#x} is no card memory of {size} bytes"))
        })?;
        let bytes: Arc<[u8]> = range.of(range.block.read().bytes()).into();
        self.adopt(Source::Memory(bytes), size)
    }

    fn adopt(&self, source: Source, size: u64) -> Result<u64, (Code, String)> {
        let reserved = self
            .memory
            .reserve(footprint(size))
            .ok_or_else(|| (Code::MEMORY_FAILED, format!("no card memory for an engine of {size} bytes")))?;
        let engine = (self.loader)(source).map_err(|reason| {
            self.memory.unreserve(reserved);
            (Code::ENGINE_FAILED, reason)
        })?;
        let id = self.engine_ids.fetch_add(1, Ordering::Relaxed);
        self.engines().insert(id, Arc::new(Loaded::new(engine, size, reserved)));
        Ok(id)
    }

    /// Removes an engine; false if there is none.
    pub fn unload(&self, id: u64) -> bool {
        let Some(loaded) = self.engines().remove(&id) else { return false };
        self.memory.unreserve(loaded.reserved);
        true
    }

    /// A loaded engine.
    pub fn engine(&self, id: u64) -> Option<Arc<Loaded>> {
        self.engines().get(&id).cloned()
    }

    /// Card memory in bytes an engine file of `size` bytes will occupy.
    pub fn engine_footprint(&self, size: u64) -> u64 {
        footprint(size)
    }

    /// Runs an engine at the earliest from `ready` on, for the request of `ticket`.
    ///
    /// # Errors
    /// As [`Npu::execute`].
    pub fn execute(
        &self,
        ready: Instant,
        request: &Request,
        ticket: Ticket,
    ) -> Result<Instant, (Code, String)> {
        let latency = self.latency();
        let Ran { end, busy } =
            self.npu.execute(&self.memory, latency.as_deref(), self.condition.slow(), ready, request)?;
        self.trace.executed(ticket, busy);
        Ok(end)
    }

    /// Forgets all allocations and engines.
    pub fn reset(&self) {
        self.engines().clear();
        self.memory.reset();
    }
}

#[cfg(test)]
mod tests;
