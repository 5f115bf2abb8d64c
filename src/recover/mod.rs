//! From decisions to deeds on card, driver, slot and host. The deeds need root and may
//! hang in the kernel: they are done by the card helper, one verb per run.

pub mod verb;

pub use verb::{Reply, Verb};
