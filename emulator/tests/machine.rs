//! The emulated machine with real programs, FIFOs, sockets and processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail so.

#[path = "machine/bus.rs"]
mod bus;
#[path = "machine/driver.rs"]
mod driver;
#[path = "machine/effects.rs"]
mod effects;
#[path = "machine/faults.rs"]
mod faults;
#[path = "machine/host.rs"]
mod host;
#[path = "machine/process.rs"]
mod process;
mod small_engine;
#[path = "machine/wait.rs"]
mod wait;
