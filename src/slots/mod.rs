//! Boot slots: which of the two systems is started, when another is tried, when one is left.
//!
//! | to change | open |
//! |---|---|
//! | what is decided | [`policy`] |
//! | what is kept of it over restarts | [`record`] |
//! | how the machine's boot firmware is asked and told | [`firmware`] |
//! | how a decision is carried out, and told to others | [`keeper`] |
//! | how the partition `setup` is mounted | [`setup`] |
//! | when a start was a good one | [`judge`], `network`, `client` |
//! | what an update must fulfil, and how it is installed | [`install`] |
//! | what RAUC asks of its bootloader backend | [`backend`] |

pub mod backend;
mod client;
pub mod firmware;
pub mod install;
pub mod judge;
pub mod keeper;
mod network;
pub mod policy;
pub mod record;
pub mod setup;

pub use firmware::{Firmware, RaspberryPi};
pub use keeper::Keeper;
pub use network::address;
pub use record::Slot;
pub use setup::Setup;

/// Where programs write what others are to know.
pub const TOLD: &str = "run/llm8850-appliance";
