//! All layers and the post engine, run for one token or one chunk.
//!
//! Two paths compute the same. The **plain** one waits for every engine and copies its
//! outputs where they belong. The **copy-saving** one lets each layer write its K and V row
//! into the cache and its hidden state where the next layer reads, queues everything on one
//! stream and waits once. What the next token needs whatever it is (its position, its mask,
//! where its rows go) is put in place while the card computes this one.

mod caches;
mod chunks;

use half::bf16;

use super::geometry::{Geometry, Group};
use super::layer::{GroupBuffers, Layer, Pair, Places, bind_place, bind_rows, of_slot};
use super::mask;
use super::post::Post;
use crate::axcl::{Device, Engine, Stream};
use crate::fault::{Failure, Fault, Result};

/// How a run moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Plain,
    CopySaving,
    /// Copy-saving, and what the next token needs is put in place meanwhile.
    Overlapping,
}

/// A model on the card.
pub struct Stack {
    device: Device,
    geometry: Geometry,
    layers: Vec<Layer>,
    /// The prefix slot in use.
    slot: usize,
    post: Post,
    hidden: Pair,
    chunk_hidden: Pair,
    /// K and V of one token, for the plain path.
    rows: Pair,
    /// In the order of [`Geometry::decode`]; for even and for odd positions, so that one is
    /// free while the card reads the other.
    decode: Vec<[Shared; 2]>,
    /// In the order of [`Geometry::chunks`].
    chunks: Vec<GroupBuffers>,
    stream: Stream,
    path: Path,
    /// Whether chunks may write their K and V rows into the cache, all rows of the group.
    chunks_in_place: bool,
    /// Whether the rows behind a chunk's tokens are needed.
    keep_behind: bool,
    /// Group and position everything but the hidden state is in place for.
    placed: Option<(usize, usize)>,
}

struct Shared {
    buffers: GroupBuffers,
    /// The position whose mask the card holds, if it is known.
    shown: Option<usize>,
}

impl Shared {
    fn new(device: &Device, group: &Group) -> Result<Self> {
        Ok(Self { buffers: GroupBuffers::allocate(device, group)?, shown: None })
    }

    fn two(device: &Device, group: &Group) -> Result<[Self; 2]> {
        Ok([Self::new(device, group)?, Self::new(device, group)?])
    }
}

/// Which of a group's buffers a token at `position` has; the plain path uses the first only.
fn of_position(path: Path, [even, odd]: &mut [Shared; 2], position: usize) -> &mut Shared {
    if path == Path::Plain || position.is_multiple_of(2) { even } else { odd }
}

fn no_group(number: usize) -> Failure {
    Failure::new(Fault::Internal, format!("there is no shape group {number}"))
}

impl Stack {
    /// Allocates all memory and binds the plain path.
    ///
    /// # Errors
    /// [`Fault::CardMemory`], [`Fault::ModelInvalid`] or [`Fault::CardCall`].
    pub fn new(device: &Device, geometry: Geometry, layers: &[Engine], post: &Engine) -> Result<Self> {
        let hidden_bytes = geometry.hidden_bytes;
        let mut stack = Self {
            device: device.clone(),
            slot: 0,
            layers: layers.iter().map(|e| Layer::new(device, e, &geometry)).collect::<Result<_>>()?,
            post: Post::new(device, post, hidden_bytes)?,
            hidden: Pair::zeroed(device, hidden_bytes, "hidden state")?,
            chunk_hidden: Pair::zeroed(device, hidden_bytes * geometry.chunk_rows(), "hidden states")?,
            rows: Pair::zeroed(device, geometry.row_bytes, "rows of a token")?,
            decode: geometry.decode.iter().map(|g| Shared::two(device, g)).collect::<Result<_>>()?,
            chunks: geometry
                .chunks
                .iter()
                .map(|g| GroupBuffers::allocate(device, g))
                .collect::<Result<_>>()?,
            stream: Stream::create(device)?,
            path: Path::Plain,
            chunks_in_place: false,
            keep_behind: false,
            placed: None,
            geometry,
        };
        stack.bind(Path::Plain)?;
        Ok(stack)
    }

    /// The shapes.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// How many values the logits have.
    pub fn vocabulary(&self) -> usize {
        self.post.vocabulary()
    }

    /// The path in use.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Switches to `path`; K and V already computed stay valid.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn bind(&mut self, path: Path) -> Result<()> {
        let Self { geometry, layers, slot, .. } = self;
        for (number, layer) in layers.iter_mut().enumerate() {
            let caches = of_slot(&layer.caches, *slot)?;
            // Copy-saving layers take turns between the two hidden buffers.
            let turn = if path == Path::Plain { 0 } else { number };
            for ((binding, group), [shared, _]) in
                layer.decode.iter_mut().zip(&geometry.decode).zip(&self.decode)
            {
                let rows = match path {
                    Path::Plain => self.rows.slices(0, geometry.row_bytes)?,
                    // Moved to the token's own row before each run.
                    Path::CopySaving | Path::Overlapping => caches.slices(0, geometry.row_bytes)?,
                };
                let (input, output) = (self.hidden.by_parity(turn), self.hidden.by_parity(turn + 1));
                let places = Places { group, shared: &shared.buffers, input, output, rows };
                Layer::bind(caches, binding, geometry, &places)?;
            }
            for ((binding, group), shared) in layer.chunks.iter_mut().zip(&geometry.chunks).zip(&self.chunks)
            {
                let rows = layer.chunk_rows.slices(0, group.rows * geometry.row_bytes)?;
                let (input, output) =
                    (self.chunk_hidden.by_parity(turn), self.chunk_hidden.by_parity(turn + 1));
                let places = Places { group, shared, input, output, rows };
                Layer::bind(caches, binding, geometry, &places)?;
            }
        }
        self.path = path;
        self.placed = None;
        let last = self.hidden.by_parity(self.last_turn()).whole();
        self.post.read_from(&last)
    }

    /// Computes one token behind `position` cached ones; its embedding is `hidden`. Fills
    /// `logits` where they are wanted.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn token(
        &mut self,
        group: usize,
        position: usize,
        hidden: &[u8],
        logits: Option<&mut [bf16]>,
    ) -> Result<()> {
        self.start_token(group, position, hidden, logits.is_some())?;
        self.finish_token(group, position, logits)
    }

    /// As [`Self::token`] up to where there is nothing to do but wait; [`Self::finish_token`]
    /// must follow.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn start_token(&mut self, group: usize, position: usize, hidden: &[u8], post: bool) -> Result<()> {
        self.hidden.first.whole().upload(hidden)?;
        match self.path {
            Path::Plain => self.show_token(group, position),
            Path::CopySaving | Path::Overlapping => self.queue_token(group, position, post),
        }
    }

    /// Waits for what [`Self::start_token`] began, and fills `logits` where they are wanted.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn finish_token(&mut self, group: usize, position: usize, logits: Option<&mut [bf16]>) -> Result<()> {
        if self.path == Path::Plain {
            return self.walk_token(group, position, logits);
        }
        if self.path == Path::Overlapping
            && let Some(next) = self.geometry.decode_group(position + 1)
        {
            self.place_token(next, position + 1)?;
        }
        self.stream.synchronize()?;
        logits.map_or(Ok(()), |logits| self.post.download(logits))
    }

    fn queue_token(&mut self, group: usize, position: usize, post: bool) -> Result<()> {
        self.place_token(group, position)?;
        for layer in &self.layers {
            layer.decode.get(group).ok_or_else(|| no_group(group))?.execute_async(&self.stream)?;
        }
        if post {
            self.post.engine().execute_async(&self.stream)?;
        }
        Ok(())
    }

    /// Puts everything in place for a token at `position` that does not depend on the token. A
    /// token under way is not disturbed: it reads the other buffers, and the card has taken
    /// note of its bindings.
    fn place_token(&mut self, group: usize, position: usize) -> Result<()> {
        if self.placed == Some((group, position)) {
            return Ok(());
        }
        self.placed = None;
        self.show_token(group, position)?;
        let Self { geometry, layers, slot, decode, path, .. } = self;
        let pair = decode.get_mut(group).ok_or_else(|| no_group(group))?;
        let buffers = &of_position(*path, pair, position).buffers;
        let row = geometry.row_bytes;
        for layer in layers {
            let rows = of_slot(&layer.caches, *slot)?.slices(position * row, row)?;
            let binding = layer.decode.get_mut(group).ok_or_else(|| no_group(group))?;
            bind_rows(binding, &geometry.ports, &rows)?;
            bind_place(binding, &geometry.ports, buffers)?;
        }
        self.placed = Some((group, position));
        Ok(())
    }

    fn walk_token(&self, group: usize, position: usize, logits: Option<&mut [bf16]>) -> Result<()> {
        let row = self.geometry.row_bytes;
        let computed = self.rows.slices(0, row)?;
        for layer in &self.layers {
            layer.decode.get(group).ok_or_else(|| no_group(group))?.execute()?;
            for (cache, row) in self.caches(layer)?.slices(position * row, row)?.iter().zip(&computed) {
                cache.copy_from(row)?;
            }
            self.hidden.first.whole().copy_from(&self.hidden.second.whole())?;
        }
        self.finish(logits)
    }

    fn finish(&self, logits: Option<&mut [bf16]>) -> Result<()> {
        let Some(logits) = logits else { return Ok(()) };
        self.post.engine().execute()?;
        self.post.download(logits)
    }

    /// Which hidden buffer holds the last layer's output.
    fn last_turn(&self) -> usize {
        match self.path {
            Path::Plain => 0,
            Path::CopySaving | Path::Overlapping => self.layers.len(),
        }
    }

    fn show_token(&mut self, group: usize, position: usize) -> Result<()> {
        let shape = self.geometry.decode.get(group).ok_or_else(|| no_group(group))?;
        let pair = self.decode.get_mut(group).ok_or_else(|| no_group(group))?;
        let shared = of_position(self.path, pair, position);
        shared.buffers.indices.whole().upload(&[index(position)])?;
        let known = shared.shown.take().filter(|_| self.path != Path::Plain);
        if let Some(patch) = mask::patch(shape, known, position) {
            shared.buffers.mask.slice(patch.start * 2, patch.values.len() * 2)?.upload(&patch.values)?;
        }
        shared.shown = Some(position);
        Ok(())
    }
}

fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
