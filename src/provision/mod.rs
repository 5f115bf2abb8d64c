//! From `appliance.toml` on the card's partition `setup` to a configured system.
//!
//! ```text
//! appliance.toml ── read ──▶ secrets ──▶ understood ──▶ imported ──▶ applied
//!   (any bytes)      text     taken out    good keys,     on state,    files in /run,
//!                                          problems       fsynced      host name, Wi-Fi
//! ```
//!
//! | to change | open |
//! |---|---|
//! | what can be set, beside the service's own sections | [`schema`] |
//! | what becomes of bytes that are no text | [`text`] |
//! | which values are secrets, and where they go | [`secrets`] |
//! | which keys hold, and what is wrong with the others | [`understand`] |
//! | the service's configuration | [`service`] |
//! | the system's files | [`system`], `network` |
//! | the order of things, so that a power cut loses nothing | [`settings`] |
//! | what is written beside the file | [`report`] |
//! | data partitions, factory reset | [`disks`] |
//! | what the service may ask of root | [`orders`] |
//! | whether the card's driver, library and firmware belong together | [`triple`] |

pub mod disks;
mod network;
pub mod orders;
pub mod report;
pub mod schema;
pub mod secrets;
pub mod service;
pub mod settings;
pub mod system;
pub mod text;
pub mod triple;
pub mod understand;

/// The file.
pub const NAME: &str = "appliance.toml";
