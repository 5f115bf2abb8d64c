//! The K and V caches of all layers, one set for each prefix slot.

use std::ops::Range;

use super::super::host_rows::HostRows;
use super::super::layer::{Layer, Pair, bind_history, of_slot};
use super::super::memory;
use super::{Path, Stack};
use crate::axcl::Region;
use crate::fault::{Fault, Result};

impl Stack {
    /// Makes one more prefix slot of the card's `free` bytes; `false` where it has no room for it.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn add_slot(&mut self, free: &mut u64) -> Result<bool> {
        let bytes = self.geometry.cache_bytes(self.layers.len());
        if !memory::spares(bytes, *free) {
            return Ok(false);
        }
        let rows = self.geometry.cache_rows() * self.geometry.row_bytes;
        let fresh = self.layers.iter().map(|_| Pair::zeroed(&self.device, rows, "a prefix slot"));
        match fresh.collect::<Result<Vec<_>>>() {
            Ok(fresh) => {
                self.layers.iter_mut().zip(fresh).for_each(|(layer, pair)| layer.caches.push(pair));
                *free = free.saturating_sub(bytes);
                Ok(true)
            }
            // Free, but in pieces.
            Err(failure) if failure.fault == Fault::CardMemory => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Gives the memory of all prefix slots but the one in use back, which is the first then.
    pub fn keep_slot(&mut self) {
        for layer in &mut self.layers {
            if self.slot < layer.caches.len() {
                layer.caches.swap(0, self.slot);
            }
            layer.caches.truncate(1);
        }
        self.slot = 0;
    }

    /// Computes with the rows of another prefix slot from now on. Nothing is copied.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn switch(&mut self, slot: usize) -> Result<()> {
        if slot == self.slot {
            return Ok(());
        }
        self.slot = slot;
        self.placed = None;
        let Self { geometry, layers, .. } = self;
        for layer in layers {
            let caches = of_slot(&layer.caches, slot)?;
            let decode = layer.decode.iter_mut().zip(&geometry.decode);
            for (binding, group) in decode.chain(layer.chunks.iter_mut().zip(&geometry.chunks)) {
                bind_history(binding, geometry, group, caches)?;
            }
        }
        Ok(())
    }

    /// Copies the first `tokens` K and V rows of another prefix slot here, on the card.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn copy_rows(&self, from: usize, tokens: usize) -> Result<()> {
        let bytes = tokens * self.geometry.row_bytes;
        for layer in &self.layers {
            let source = of_slot(&layer.caches, from)?.slices(0, bytes)?;
            for (target, source) in self.caches(layer)?.slices(0, bytes)?.iter().zip(&source) {
                match self.path {
                    Path::Plain => target.copy_from(source)?,
                    Path::CopySaving | Path::Overlapping => target.copy_from_async(source, &self.stream)?,
                }
            }
        }
        self.stream.synchronize()
    }

    /// Bytes of a token's K and V rows.
    pub fn token_bytes(&self) -> u64 {
        (self.layers.len() * 2 * self.geometry.row_bytes) as u64
    }

    /// Memory of the host for all rows of a prefix slot; `None` where there is none.
    pub fn host_rows(&self) -> Option<HostRows> {
        HostRows::new(self.layers.len() * 2, self.geometry.cache_rows(), self.geometry.row_bytes)
    }

    /// Copies these rows of `slot` to the host, as long as `go_on` says so; whether all of them are there.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn save_rows(
        &self,
        slot: usize,
        tokens: &Range<usize>,
        to: &mut HostRows,
        go_on: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let mut parts = to.parts_mut(tokens);
        for layer in &self.layers {
            for (rows, part) in self.rows(of_slot(&layer.caches, slot)?, tokens)?.iter().zip(&mut parts) {
                if !go_on() {
                    return Ok(false);
                }
                rows.download(part)?;
            }
        }
        Ok(true)
    }

    /// Copies these rows of the slot in use from the host, as long as `go_on` says so; whether all of them are there.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn bring_rows(
        &self,
        tokens: &Range<usize>,
        from: &HostRows,
        go_on: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let mut parts = from.parts(tokens);
        for layer in &self.layers {
            for (rows, part) in self.rows(self.caches(layer)?, tokens)?.iter().zip(&mut parts) {
                if !go_on() {
                    return Ok(false);
                }
                rows.upload(part)?;
            }
        }
        Ok(true)
    }

    /// The first `tokens` K and V rows of every layer.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn cached_rows(&self, tokens: usize) -> Result<Vec<u8>> {
        let bytes = tokens * self.geometry.row_bytes;
        let mut all = Vec::with_capacity(self.layers.len() * 2 * bytes);
        let mut part = vec![0_u8; bytes];
        for layer in &self.layers {
            for rows in self.caches(layer)?.slices(0, bytes)? {
                rows.download(&mut part)?;
                all.extend_from_slice(&part);
            }
        }
        Ok(all)
    }

    /// Forgets the first `tokens` K and V rows of every layer, and spoils the logits.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn clear_rows(&self, tokens: usize) -> Result<()> {
        for layer in &self.layers {
            for rows in self.caches(layer)?.slices(0, tokens * self.geometry.row_bytes)? {
                rows.fill(0)?;
            }
        }
        self.post.spoil()
    }

    fn rows(&self, caches: &Pair, tokens: &Range<usize>) -> Result<[Region; 2]> {
        let row = self.geometry.row_bytes;
        caches.slices(tokens.start * row, tokens.len() * row)
    }

    /// A layer's caches in the prefix slot in use.
    pub(super) fn caches<'a>(&self, layer: &'a Layer) -> Result<&'a Pair> {
        of_slot(&layer.caches, self.slot)
    }
}
