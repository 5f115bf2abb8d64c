//! From messages to tokens and from logits to an answer. Pure except for [`pipeline`],
//! which computes on the card: nothing else here knows the card, a clock or a socket. The
//! chain of samplers is described in `docs/sampling.md`.

mod calls;
mod candidates;
mod constraint;
mod detokenize;
mod generation;
mod grammar;
mod histogram;
mod logits;
pub mod pipeline;
mod prompt;
mod sampler;
mod selection;
mod stop;
mod think;
mod trim;

pub use generation::{Generation, Step};
pub use logits::Logits;
pub use prompt::{Prepared, continuation, prepare};
pub use trim::Window;
