//! The card's C library, dlopened: the only room with `unsafe`.
//!
//! Everything here belongs to the one thread that opened it (the vendor's library keeps
//! per-thread state), so no handle is `Send`. Objects free themselves in the right order:
//! tensor bindings before engines, engines and memory before the device, the device
//! before the runtime. Only [`Gauge`] is shared: it tells other threads which call the
//! card thread is in, and since when.

mod abi;
mod code;
mod device;
mod engine;
mod exit;
mod gauge;
mod io_info;
pub mod mapped;
mod memory;
mod runtime;
mod stream;
pub mod version;

pub use code::Code;
pub use device::{Device, Properties};
pub use engine::{Binding, Engine};
pub use exit::exit_now;
pub use gauge::{Gauge, Phase, Reading};
pub use io_info::{ElementType, IoInfo, TensorInfo};
pub use memory::{DeviceMemory, Element, Region};
pub use runtime::Runtime;
pub use stream::Stream;
