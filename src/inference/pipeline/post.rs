//! The engine behind the last layer: final norm and vocabulary head.

use half::bf16;

use super::geometry::PostGeometry;
use crate::axcl::{Binding, Device, DeviceMemory, Engine, Region};
use crate::fault::{Failure, Fault, Result};

/// The post engine with its outputs.
pub struct Post {
    binding: Binding,
    geometry: PostGeometry,
    /// Every output has a buffer, also those nobody reads: the card demands it.
    outputs: Vec<DeviceMemory>,
}

impl Post {
    /// Allocates and binds its outputs.
    ///
    /// # Errors
    /// [`Fault::ModelInvalid`] if it does not fit the layers, [`Fault::CardMemory`].
    pub fn new(device: &Device, engine: &Engine, hidden_bytes: usize) -> Result<Self> {
        let geometry = PostGeometry::read(engine.io(), engine.name(), hidden_bytes)?;
        let mut binding = engine.binding(0)?;
        let mut outputs = Vec::new();
        for (index, tensor) in engine.io().outputs.iter().enumerate() {
            let bytes = tensor.bytes.first().copied().unwrap_or(0);
            let memory =
                DeviceMemory::zeroed(device, bytes, &format!("{} of {}", tensor.name, engine.name()))?;
            binding.output(index, &memory.whole())?;
            outputs.push(memory);
        }
        Ok(Self { binding, geometry, outputs })
    }

    /// Values of the logits.
    pub fn vocabulary(&self) -> usize {
        self.geometry.vocabulary
    }

    /// Takes its input from `hidden` from now on.
    ///
    /// # Errors
    /// As [`Binding::input`].
    pub fn read_from(&mut self, hidden: &Region) -> Result<()> {
        self.binding.input(self.geometry.input, hidden)
    }

    /// The engine, ready to run.
    pub fn engine(&self) -> &Binding {
        &self.binding
    }

    /// Fetches the logits.
    ///
    /// # Errors
    /// As [`Region::download`].
    pub fn download(&self, logits: &mut [bf16]) -> Result<()> {
        self.logits()?.download(logits)
    }

    /// Overwrites the logits with NaN, so that a run that does not write them shows.
    ///
    /// # Errors
    /// As [`Region::fill`].
    pub fn spoil(&self) -> Result<()> {
        self.logits()?.fill(0xff)
    }

    fn logits(&self) -> Result<Region> {
        let memory = self.outputs.get(self.geometry.logits);
        let missing = || Failure::new(Fault::Internal, "the post engine has no logits");
        Ok(memory.ok_or_else(missing)?.whole())
    }
}
