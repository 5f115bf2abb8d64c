//! Emulated card.

pub mod bench;
pub mod chain;
pub mod engine;
pub mod pack;
