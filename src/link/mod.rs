//! Frames over a socketpair between supervisor and worker, both ends, and the spawn.

pub mod frame;
