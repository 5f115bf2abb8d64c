//! Policy as pure functions: no I/O, no clock, nothing that blocks. Time is passed in as
//! *operating time*: it goes on over restarts and knows no clock jumps.
//!
//! | to change | open |
//! |---|---|
//! | what is done after which event | [`core`] |
//! | which rung a fault calls for, and how often it may be used | [`ladder`] |
//! | how an incident escalates | [`incident`] |
//! | what the card helper is sent for | [`errand`] |
//! | when a worker is started, stopped, killed | [`life`] |
//! | how long to wait before the next start | [`backoff`] |
//! | when a worker counts as hung | [`pulse`] |
//! | when the card counts as slow | [`speed`] |
//! | what the appliance can be in | [`state`] |

pub mod action;
pub mod backoff;
pub mod core;
pub mod errand;
pub mod event;
pub mod incident;
pub mod ladder;
pub mod life;
pub mod pulse;
pub mod speed;
pub mod state;

pub use action::{Action, Note};
pub use core::{Machine, Policy};
pub use errand::Verb;
pub use event::{Event, Found, Seat};
pub use ladder::Ladder;
pub use pulse::{Call, CallLimits, Habits, Pulse};
pub use speed::Speed;
pub use state::{Rung, State};
