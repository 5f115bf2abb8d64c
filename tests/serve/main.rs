//! The real supervisor with the real worker, the emulated card and the demo model, over
//! real connections and signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod access;
mod answers;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/installed.rs"]
mod installed;
mod program;
mod recovery;
mod sockets;
mod supervisor;
mod survival;
