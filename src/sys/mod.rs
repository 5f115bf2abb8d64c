//! The system around us: time, chance, the journal, the service manager, the kernel's files.

pub mod chance;
pub mod clock;
pub mod log;
pub mod notify;
pub mod root;
