//! From decisions to deeds on card, driver, slot and host. The deeds need root and may
//! hang in the kernel, so each takes a program of its own:
//!
//! ```text
//! supervisor ── order ──▶ llm8850-card-helper ── --act VERB ──▶ itself, as a child ──▶ modprobe, sysfs, runtime
//!   client   ◀─ replies ─       serve         ◀── replies ──          act
//! ```
//!
//! | to change | open |
//! |---|---|
//! | what can be asked and answered | [`verb`] |
//! | how the supervisor asks | [`client`] |
//! | deadlines, and what becomes of a child that hangs | [`serve`] |
//! | what each verb does, and its preconditions | `act`, `card`, `modules`, `slot`, `host` |

mod act;
mod card;
pub mod client;
mod host;
mod modules;
pub mod serve;
mod slot;
pub mod verb;

pub use act::act;
pub use client::{Helper, Run};
pub use verb::{Order, Reply, Verb};
