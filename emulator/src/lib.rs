//! An emulated AXERA card behind the vendor's C ABI (`libaxcl_rt.so`), and `axmodel-pack`,
//! which makes the engines it runs.
//!
//! # Layout
//!
//! | to change | open |
//! |---|---|
//! | an exported C function, its signature or quirk | `abi/` |
//! | what thread is bound to what, reference counts, handles | `abi/process.rs` |
//! | card memory: addresses, backing, access | `card/allocator.rs`, `card/memory.rs` |
//! | how an engine runs, binding checks | `card/npu.rs` |
//! | streams and events | `card/stream.rs` |
//! | what a call costs | `card/latency.rs` |
//! | counters another program reads | `card/trace.rs`, `card/control.rs` |
//! | injected faults | `card/fault.rs` |
//! | the emulated host: driver, bus, kernel, what outlives a process | `machine/` |
//! | what an engine computes | `engine/` |
//! | how a GGUF file becomes a model directory | `pack/` |
//! | running a packed model without the card | `chain.rs`, `bench.rs` |

mod abi;
pub mod bench;
pub mod card;
pub mod chain;
pub mod engine;
pub mod machine;
pub mod pack;
mod processor;
