//! Emulated card.

pub mod chain;
pub mod engine;
pub mod pack;
