//! Policy as pure functions: no I/O, no clock, nothing that blocks. Time is passed in as
//! the time since the supervisor's start.
//!
//! | to change | open |
//! |---|---|
//! | when a worker is started, stopped, killed, started again | [`life`] |
//! | how long to wait before the next start | [`backoff`] |
//! | when a worker counts as hung | [`pulse`] |
//! | what the appliance can be in | [`state`] |

pub mod backoff;
pub mod life;
pub mod pulse;
pub mod state;

pub use backoff::Backoff;
pub use life::{Action, Event, Life, Policy, State};
pub use pulse::{Call, CallLimits, Pulse};
