//! Emulated card.

pub mod engine;
