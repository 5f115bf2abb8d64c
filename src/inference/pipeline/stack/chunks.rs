//! Many tokens in one run of all layers.
//!
//! On the copy-saving path layers write their K and V rows into the cache here, too, where the card can do
//! that: all rows of the shape group, the padding's behind those of the tokens. Otherwise, and where the rows
//! behind are needed, they go into buffers of their own, from where those of the tokens are copied.

use half::bf16;

use super::super::layer::{bind_rows, of_slot};
use super::super::mask;
use super::{Group, Path, Stack, index, no_group};
use crate::fault::Result;

impl Stack {
    /// Whether chunks may write their K and V rows into the cache; the plain path's never do.
    pub fn place_chunks(&mut self, in_place: bool) {
        self.chunks_in_place = in_place;
    }

    /// Whether they do, where there is room.
    pub fn chunks_in_place(&self) -> bool {
        self.chunks_in_place && self.path != Path::Plain
    }

    /// Whether the rows behind a chunk's tokens are needed.
    pub fn keep_behind(&mut self, keep: bool) {
        self.keep_behind = keep;
    }

    /// Computes the tokens whose embeddings are `hidden` behind `position` cached ones.
    /// Fills `logits` with those of the last token where they are wanted.
    ///
    /// # Errors
    /// [`crate::fault::Fault::CardCall`].
    pub fn chunk(
        &mut self,
        group: usize,
        position: usize,
        hidden: &[u8],
        logits: Option<&mut [bf16]>,
    ) -> Result<()> {
        let shape = *self.geometry.chunks.get(group).ok_or_else(|| no_group(group))?;
        let tokens = hidden.len() / self.geometry.hidden_bytes;
        let padding = (shape.rows * self.geometry.hidden_bytes).saturating_sub(hidden.len());
        self.chunk_hidden.first.slice(0, hidden.len())?.upload(hidden)?;
        if padding > 0 {
            // What is left there from earlier might not be finite and would spoil the rest.
            self.chunk_hidden.first.slice(hidden.len(), padding)?.fill(0)?;
        }
        self.show_chunk(group, &shape, position, tokens)?;
        match self.path {
            Path::Plain => self.walk_chunk(group, position, tokens, logits),
            Path::CopySaving | Path::Overlapping => {
                self.queue_chunk(group, position, shape.rows, tokens)?;
                self.read_chunk(tokens, logits)
            }
        }
    }

    fn queue_chunk(&mut self, group: usize, position: usize, rows: usize, tokens: usize) -> Result<()> {
        let row = self.geometry.row_bytes;
        let fits = position + rows <= self.geometry.cache_rows();
        let in_place = self.chunks_in_place && fits && (tokens == rows || !self.keep_behind);
        let Self { geometry, layers, slot, stream, .. } = self;
        for layer in layers.iter_mut() {
            let binding = layer.chunks.get_mut(group).ok_or_else(|| no_group(group))?;
            let rows = if in_place {
                of_slot(&layer.caches, *slot)?.slices(position * row, rows * row)?
            } else {
                layer.chunk_rows.slices(0, rows * row)?
            };
            bind_rows(binding, &geometry.ports, &rows)?;
            binding.execute_async(stream)?;
        }
        // Copies wait for the engines here, not by the order of the stream alone: that
        // order is documented for engines only.
        stream.synchronize()?;
        if in_place {
            return Ok(());
        }
        for layer in layers {
            let computed = layer.chunk_rows.slices(0, tokens * row)?;
            let caches = of_slot(&layer.caches, *slot)?.slices(position * row, tokens * row)?;
            for (cache, rows) in caches.iter().zip(&computed) {
                cache.copy_from_async(rows, stream)?;
            }
        }
        stream.synchronize()
    }

    fn read_chunk(&self, tokens: usize, logits: Option<&mut [bf16]>) -> Result<()> {
        if logits.is_none() {
            return Ok(());
        }
        self.pick_row(tokens)?;
        self.finish(logits)
    }

    fn walk_chunk(
        &self,
        group: usize,
        position: usize,
        tokens: usize,
        logits: Option<&mut [bf16]>,
    ) -> Result<()> {
        let row = self.geometry.row_bytes;
        for layer in &self.layers {
            layer.chunks.get(group).ok_or_else(|| no_group(group))?.execute()?;
            let computed = layer.chunk_rows.slices(0, tokens * row)?;
            for (cache, rows) in
                self.caches(layer)?.slices(position * row, tokens * row)?.iter().zip(&computed)
            {
                cache.copy_from(rows)?;
            }
            self.chunk_hidden.first.whole().copy_from(&self.chunk_hidden.second.whole())?;
        }
        self.read_chunk(tokens, logits)
    }

    /// Hands the last of a chunk's hidden states to the post engine.
    fn pick_row(&self, tokens: usize) -> Result<()> {
        let (bytes, turn) = (self.geometry.hidden_bytes, self.last_turn());
        let last = self.chunk_hidden.by_parity(turn).slice(tokens.saturating_sub(1) * bytes, bytes)?;
        self.hidden.by_parity(turn).whole().copy_from(&last)
    }

    fn show_chunk(&self, group: usize, shape: &Group, position: usize, tokens: usize) -> Result<()> {
        let buffers = self.chunks.get(group).ok_or_else(|| no_group(group))?;
        // Padding rows get indices too: they must only be valid.
        let last = self.geometry.capacity().saturating_sub(1);
        let indices: Vec<u32> = (position..position + shape.rows).map(|p| index(p.min(last))).collect();
        buffers.indices.whole().upload(&indices)?;
        // What padding rows see is all the same: their results are not used.
        let rows = if self.path == Path::Plain { shape.rows } else { tokens };
        let mask = mask::chunk(shape, position, rows);
        buffers.mask.slice(0, size_of_val(mask.as_slice()))?.upload(&mask)
    }
}
