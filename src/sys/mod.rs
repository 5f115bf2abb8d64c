//! The system around us: time, chance, the journal, the service manager, the kernel's files.

pub mod boot;
pub mod chance;
pub mod clock;
pub mod log;
pub mod notify;
pub mod root;
pub mod sockets;
pub mod store;
