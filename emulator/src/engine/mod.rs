//! What the emulated NPU runs: a loaded model file with tensors, shape groups and a
//! computation. The C ABI knows engines only through this trait.

mod attention;
pub mod container;
mod crew;
mod hollow;
mod lanes;
mod layer;
#[cfg(test)]
mod layer_tests;
mod matrix;
pub mod panel;
mod post;
mod rows;
mod scratch;
mod shapes;
mod shared;

use std::sync::Arc;

use container::{Container, Spec};

/// Element types, with the vendor's enum values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum DataType {
    U32 = 8,
    Bf16 = 14,
}

impl DataType {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            DataType::U32 => 4,
            DataType::Bf16 => 2,
        }
    }
}

/// One input or output. Name and type belong to the tensor, dimensions to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub data_type: DataType,
    /// Per shape group.
    pub dims: Vec<Vec<i32>>,
}

impl Tensor {
    /// Bytes of this tensor in `group`, if there is such a group.
    pub fn bytes(&self, group: usize) -> Option<usize> {
        let dims = self.dims.get(group)?;
        dims.iter().try_fold(self.data_type.size(), |n, &d| n.checked_mul(usize::try_from(d).ok()?))
    }
}

/// The tensors of an engine in the order the runtime lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub groups: usize,
}

/// Where an engine comes from.
#[derive(Clone)]
pub enum Source {
    /// A file, memory-mapped: its pages are shared by every process that loads it.
    File(Arc<memmap2::Mmap>),
    /// Bytes a program uploaded to the card.
    Memory(Arc<[u8]>),
}

impl Source {
    /// The engine file's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Source::File(map) => map,
            Source::Memory(bytes) => bytes,
        }
    }
}

/// A loaded engine. Calls come one at a time per engine.
pub trait Engine: Send + Sync {
    fn info(&self) -> &EngineInfo;

    /// Runs one shape group. `inputs` and `outputs` are in the order of [`EngineInfo`] and
    /// exactly as long as the group demands; outputs never overlap inputs (the card
    /// memory layer copies them to their places afterwards).
    fn run(&self, group: usize, inputs: &[&[u8]], outputs: &mut [Vec<u8>]) -> Result<(), String>;

    /// Weight bytes one run streams from card memory, for the latency model.
    fn weight_bytes(&self) -> u64;
}

/// Loads an engine file written by `axmodel-pack`.
///
/// # Errors
/// What is wrong with the file, without its name.
pub fn load(source: Source) -> Result<Box<dyn Engine>, String> {
    let container = Container::open(source)?;
    let header = &container.header;
    let engine: Box<dyn Engine> = match (&header.spec, header.hollow) {
        (Spec::Layer(spec), false) => Box::new(layer::LayerEngine::new(&container, spec)?),
        (Spec::Post(spec), false) => Box::new(post::PostEngine::new(&container, spec)?),
        (Spec::Layer(spec), true) => Box::new(hollow::HollowLayer::new(spec, header.weight_bytes)),
        (Spec::Post(spec), true) => Box::new(hollow::HollowPost::new(spec, header.weight_bytes)),
    };
    Ok(engine)
}
