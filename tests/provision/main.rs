//! The real programs of provisioning and boot slots, on a made-up system with directories for
//! partitions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

#[path = "../support/client.rs"]
#[allow(dead_code)] // streams are for others
mod client;
mod disks;
#[path = "../support/installed.rs"]
#[allow(dead_code)] // the demo model and library are for the supervisor
mod installed;
mod models;
mod settings;
mod slots;
#[path = "../serve/supervisor.rs"]
#[allow(dead_code)] // faults are for others
mod supervisor;
mod system;
mod template;
mod triple;
