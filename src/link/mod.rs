//! Frames over a socketpair between supervisor and worker, both ends, and the spawn.
//!
//! | to change | open |
//! |---|---|
//! | what the two say to each other | [`frame`] |
//! | how a frame is laid out in bytes, and its checks | [`codec`] |
//! | how bytes come and go: blocking (worker) and async (supervisor) | [`pipe`] |
//! | how a worker is started and watched | [`spawn`] |

pub mod codec;
pub mod frame;
pub mod pipe;
pub mod spawn;
