//! The worker process against the emulated card and the demo model, as the supervisor
//! sees it: frames, signals, exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod faults;
#[path = "../support/installed.rs"]
mod installed;
mod life;
mod prefixes;
mod resume;
mod support;
