//! The system around us: time and dates, chance, the journal, the service manager, the kernel's files.

pub mod boot;
pub mod calendar;
pub mod chance;
pub mod clock;
pub mod inside;
pub mod lines;
pub mod log;
pub mod notify;
pub mod program;
pub mod recent;
pub mod root;
pub mod sockets;
pub mod store;
