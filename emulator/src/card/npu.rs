//! Running engines: bindings are checked as the card checks them, one engine runs at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::code::Code;
use super::fault::Taint;
use super::latency::Latency;
use super::memory::{Block, Memory, Range, Reading};
use crate::engine::{Engine, Tensor};

/// Where a tensor was bound. All zero when it was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    pub address: u64,
    pub size: u64,
}

/// An engine in card memory.
pub struct Loaded {
    pub engine: Box<dyn Engine>,
    /// Bytes of the engine's file.
    pub file_size: u64,
    /// Its reservation in card memory.
    pub reserved: u64,
    /// Output buffers by group, kept so that a run allocates nothing.
    scratch: Mutex<HashMap<usize, Vec<Vec<u8>>>>,
}

impl Loaded {
    pub fn new(engine: Box<dyn Engine>, file_size: u64, reserved: u64) -> Self {
        Self { engine, file_size, reserved, scratch: Mutex::default() }
    }
}

/// An execute as it was asked for: the descriptor is copied when the call is made.
pub struct Request {
    pub loaded: Arc<Loaded>,
    pub group: usize,
    pub inputs: Vec<Binding>,
    pub outputs: Vec<Binding>,
    pub taint: Option<Taint>,
}

fn bind(
    memory: &Memory,
    tensors: &[Tensor],
    bindings: &[Binding],
    group: usize,
) -> Result<Vec<Range>, String> {
    let of = |(index, tensor): (usize, &Tensor)| {
        let wanted = tensor.bytes(group).ok_or_else(|| format!("no group {group}"))?;
        let binding = bindings.get(index).copied().unwrap_or_default();
        if binding.address == 0 {
            return Err(format!("tensor {} is not bound", tensor.name));
        }
        if usize::try_from(binding.size) != Ok(wanted) {
            return Err(format!("tensor {} is bound with {} bytes, not {wanted}", tensor.name, binding.size));
        }
        memory.range(binding.address, wanted).ok_or_else(|| {
            format!("tensor {} is bound to {:#x}, not card memory", tensor.name, binding.address)
        })
    };
    tensors.iter().enumerate().map(of).collect()
}

fn named<'a>(tensors: &[Tensor], ranges: &'a [Range], name: &str) -> Option<&'a Range> {
    tensors.iter().zip(ranges).find(|(tensor, _)| tensor.name == name).map(|(_, range)| range)
}

fn overlap(a: &Range, b: &Range) -> bool {
    Arc::ptr_eq(&a.block, &b.block) && a.start < b.start + b.len && b.start < a.start + a.len
}

/// Every value in the place of its neighbour: numbers as plausible as the right ones.
fn shifted(buffer: &[u8]) -> Vec<u8> {
    let mut wrong = buffer.to_vec();
    wrong.rotate_right(size_of::<half::bf16>().min(buffer.len()));
    wrong
}

impl Request {
    /// Computes and writes the outputs. How long computing took, or why the card refuses.
    fn compute(&self, memory: &Memory) -> Result<Duration, String> {
        let info = self.loaded.engine.info();
        if self.group >= info.groups {
            return Err(format!("no shape group {}", self.group));
        }
        let inputs = bind(memory, &info.inputs, &self.inputs, self.group)?;
        let outputs = bind(memory, &info.outputs, &self.outputs, self.group)?;

        let mut scratch = self.loaded.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let buffers = scratch
            .entry(self.group)
            .or_insert_with(|| outputs.iter().map(|range| vec![0; range.len]).collect());
        let began = Instant::now();
        {
            let mut blocks: Vec<&Arc<Block>> = inputs.iter().map(|range| &range.block).collect();
            blocks.sort_by_key(|block| block.base);
            blocks.dedup_by_key(|block| block.base);
            let locked: HashMap<u64, Reading<'_>> =
                blocks.iter().map(|block| (block.base, block.read())).collect();
            let bytes = |range: &Range| locked.get(&range.block.base).map(|all| range.of(all.bytes()));
            let views: Vec<&[u8]> =
                inputs.iter().map(bytes).collect::<Option<_>>().ok_or("an input vanished")?;
            self.loaded.engine.run(self.group, &views, buffers)?;
        }
        // The hardware streams the hidden state in while it streams the new one out.
        let clobbered = named(&info.inputs, &inputs, "input")
            .zip(named(&info.outputs, &outputs, "output"))
            .is_some_and(|(input, output)| overlap(input, output));
        match self.taint {
            Some(Taint::Stale) => {}
            Some(Taint::Nan) => outputs.iter().for_each(|range| range.fill(0xFF)),
            None | Some(Taint::Wrong) => {
                for ((range, buffer), tensor) in outputs.iter().zip(buffers.iter()).zip(&info.outputs) {
                    if clobbered && tensor.name == "output" {
                        range.fill(0xFF);
                    } else if self.taint == Some(Taint::Wrong) && tensor.name == "output" {
                        range.write(&shifted(buffer));
                    } else {
                        range.write(buffer);
                    }
                }
            }
        }
        Ok(began.elapsed())
    }
}

/// The card's processor: it runs one engine at a time, on a timeline of its own.
#[derive(Default)]
pub struct Npu {
    free: Mutex<Option<Instant>>,
}

/// When an execute ended and for how long it kept the card busy.
pub struct Ran {
    pub end: Instant,
    pub busy: Duration,
}

impl Npu {
    /// Runs `request` at the earliest from `ready` on, `slow` times as long as it should.
    ///
    /// # Errors
    /// The code of a failed execute and the reason in words.
    pub fn execute(
        &self,
        memory: &Memory,
        latency: Option<&Latency>,
        slow: f64,
        ready: Instant,
        request: &Request,
    ) -> Result<Ran, (Code, String)> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free.map_or(ready, |free| free.max(ready));
        let took = request.compute(memory).map_err(|reason| (Code::ENGINE_FAILED, reason))?;
        let ran = match latency {
            None => {
                let extra = took.mul_f64(slow - 1.0);
                Ran { end: start.max(Instant::now()) + extra, busy: took + extra }
            }
            Some(latency) => {
                let cost = latency.execute(request.loaded.engine.weight_bytes()).mul_f64(slow);
                Ran { end: start + cost.max(took), busy: cost }
            }
        };
        *free = Some(ran.end);
        Ok(ran)
    }
}
