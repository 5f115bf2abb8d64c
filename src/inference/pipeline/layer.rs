//! One decoder layer on the card: its engine's bindings and the memory that is its own.

use super::geometry::{Geometry, Group, Ports};
use crate::axcl::{Binding, Device, DeviceMemory, Engine, Region};
use crate::fault::{Failure, Fault, Result};

/// Two buffers of one kind: K and V, or the hidden state a layer reads and the one it writes.
pub struct Pair {
    pub first: DeviceMemory,
    pub second: DeviceMemory,
}

impl Pair {
    /// Allocates twice `bytes` zeros.
    ///
    /// # Errors
    /// As [`DeviceMemory::zeroed`].
    pub fn zeroed(device: &Device, bytes: usize, purpose: &str) -> Result<Self> {
        let first = DeviceMemory::zeroed(device, bytes, purpose)?;
        let second = DeviceMemory::zeroed(device, bytes, purpose)?;
        Ok(Self { first, second })
    }

    /// The first for even, the second for odd numbers.
    pub fn by_parity(&self, number: usize) -> &DeviceMemory {
        if number.is_multiple_of(2) { &self.first } else { &self.second }
    }

    /// The same stretch of both.
    ///
    /// # Errors
    /// As [`DeviceMemory::slice`].
    pub fn slices(&self, offset: usize, len: usize) -> Result<[Region; 2]> {
        Ok([self.first.slice(offset, len)?, self.second.slice(offset, len)?])
    }
}

/// What all layers share for one shape group.
pub struct GroupBuffers {
    pub mask: DeviceMemory,
    pub indices: DeviceMemory,
}

impl GroupBuffers {
    /// Allocates them, zeroed.
    ///
    /// # Errors
    /// As [`DeviceMemory::zeroed`].
    pub fn allocate(device: &Device, group: &Group) -> Result<Self> {
        let name = |what: &str| format!("{what} of group {}", group.number);
        Ok(Self {
            mask: DeviceMemory::zeroed(device, 2 * group.rows * group.columns(), &name("mask"))?,
            indices: DeviceMemory::zeroed(device, 4 * group.rows, &name("indices"))?,
        })
    }
}

/// Where a layer reads and writes in one shape group.
pub struct Places<'a> {
    pub group: &'a Group,
    pub shared: &'a GroupBuffers,
    pub input: &'a DeviceMemory,
    pub output: &'a DeviceMemory,
    /// Where the new K and V rows go.
    pub rows: [Region; 2],
}

/// A decoder layer.
pub struct Layer {
    /// In the order of [`Geometry::decode`].
    pub decode: Vec<Binding>,
    /// In the order of [`Geometry::chunks`].
    pub chunks: Vec<Binding>,
    /// K and V of every token, for each prefix slot; zeroed, since even a masked row must hold finite numbers.
    pub caches: Vec<Pair>,
    /// K and V of a chunk.
    pub chunk_rows: Pair,
}

impl Layer {
    /// Allocates what the layer needs; nothing is bound yet.
    ///
    /// # Errors
    /// [`crate::fault::Fault::CardMemory`] or [`crate::fault::Fault::CardCall`].
    pub fn new(device: &Device, engine: &Engine, geometry: &Geometry) -> Result<Self> {
        let bindings =
            |groups: &[Group]| groups.iter().map(|g| engine.binding(g.number)).collect::<Result<Vec<_>>>();
        let bytes = |rows: usize| rows * geometry.row_bytes;
        let name = engine.name();
        Ok(Self {
            decode: bindings(&geometry.decode)?,
            chunks: bindings(&geometry.chunks)?,
            caches: vec![Pair::zeroed(device, bytes(geometry.cache_rows()), &format!("cache of {name}"))?],
            chunk_rows: Pair::zeroed(device, bytes(geometry.chunk_rows()), &format!("rows of {name}"))?,
        })
    }

    /// Binds all tensors of one shape group, each at the start of its buffer (except the K
    /// and V rows) and with exactly the size the group demands.
    ///
    /// # Errors
    /// As [`Binding::input`].
    pub fn bind(
        caches: &Pair,
        binding: &mut Binding,
        geometry: &Geometry,
        places: &Places<'_>,
    ) -> Result<()> {
        let group = places.group;
        let hidden = group.rows * geometry.hidden_bytes;
        bind_history(binding, geometry, group, caches)?;
        bind_place(binding, &geometry.ports, places.shared)?;
        binding.input(geometry.ports.input, &places.input.slice(0, hidden)?)?;
        binding.output(geometry.ports.output, &places.output.slice(0, hidden)?)?;
        bind_rows(binding, &geometry.ports, &places.rows)
    }
}

/// Binds from where what came before is read.
///
/// # Errors
/// As [`Binding::input`].
pub fn bind_history(binding: &mut Binding, geometry: &Geometry, group: &Group, caches: &Pair) -> Result<()> {
    let [k, v] = caches.slices(0, group.history.max(1) * geometry.row_bytes)?;
    binding.input(geometry.ports.k_cache, &k)?;
    binding.input(geometry.ports.v_cache, &v)
}

/// The caches of a prefix slot.
///
/// # Errors
/// [`Fault::Internal`] if there is none of that number.
pub fn of_slot(caches: &[Pair], slot: usize) -> Result<&Pair> {
    caches.get(slot).ok_or_else(|| Failure::new(Fault::Internal, format!("there is no prefix slot {slot}")))
}

/// Binds where the new K and V rows go.
///
/// # Errors
/// As [`Binding::output`].
pub fn bind_rows(binding: &mut Binding, ports: &Ports, rows: &[Region; 2]) -> Result<()> {
    let [k, v] = rows;
    binding.output(ports.k_out, k)?;
    binding.output(ports.v_out, v)
}

/// Binds from where position and mask are read.
///
/// # Errors
/// As [`Binding::input`].
pub fn bind_place(binding: &mut Binding, ports: &Ports, buffers: &GroupBuffers) -> Result<()> {
    binding.input(ports.indices, &buffers.indices.whole())?;
    binding.input(ports.mask, &buffers.mask.whole())
}
