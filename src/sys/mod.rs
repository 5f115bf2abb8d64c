//! The system around us: time, chance, the journal, the service manager.

pub mod chance;
pub mod clock;
pub mod log;
pub mod notify;
