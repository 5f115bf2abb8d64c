//! Working memory of the engines. One for the process: calls share the cores, so they run
//! one after the other anyway, and what is used again and again stays in the caches.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::panel::Block;

/// Buffers that only ever grow.
#[derive(Default)]
pub struct Scratch {
    pub hidden: Vec<f32>,
    pub normed: Vec<f32>,
    pub qkv: Vec<f32>,
    pub angles: Vec<f32>,
    pub new_k: Vec<u16>,
    pub new_v: Vec<u16>,
    pub attended: Vec<f32>,
    pub projected: Vec<f32>,
    pub gate: Vec<f32>,
    pub up: Vec<f32>,
    pub blocks_hidden: Vec<Block>,
    pub blocks_attended: Vec<Block>,
    pub blocks_ffn: Vec<Block>,
    /// Per row: 0, or NaN when its result is unusable.
    pub spoilt: Vec<f32>,
}

static SCRATCH: Mutex<Scratch> = Mutex::new(Scratch {
    hidden: Vec::new(),
    normed: Vec::new(),
    qkv: Vec::new(),
    angles: Vec::new(),
    new_k: Vec::new(),
    new_v: Vec::new(),
    attended: Vec::new(),
    projected: Vec::new(),
    gate: Vec::new(),
    up: Vec::new(),
    blocks_hidden: Vec::new(),
    blocks_attended: Vec::new(),
    blocks_ffn: Vec::new(),
    spoilt: Vec::new(),
});

/// The process's working memory, until dropped.
pub fn borrow() -> MutexGuard<'static, Scratch> {
    SCRATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first `len` elements, after growing to that many.
pub fn first<T: Default + Clone>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    buffer.get_mut(..len).unwrap_or_default()
}
