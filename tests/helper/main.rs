//! The real card helper, asked by the supervisor's end of its link, on a made-up system.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

mod host;
#[allow(dead_code)] // the demo model is for others
#[path = "../support/installed.rs"]
mod installed;
mod link;
mod machine;
mod modules;
mod reboot;
mod slot;
mod system;
