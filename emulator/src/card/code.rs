//! The runtime's error codes: `0x8030ssee`, sub-module `ss`, error `ee`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// An error code as the runtime returns it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

/// Sub-modules of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Module {
    Device = 1,
    Context = 2,
    Stream = 3,
    Task = 4,
    Memory = 5,
    Config = 6,
    Engine = 7,
    Log = 8,
    System = 9,
    Latency = 10,
    P2p = 11,
    Worker = 12,
}

impl Code {
    pub const OPEN: Code = Code(0x8030_010b);
    pub const NO_DEVICE: Code = Code(0x8030_0181);
    pub const NOT_ACTIVE: Code = Code(0x8030_0183);
    pub const INVALID_ID: Code = Code(0x8030_0184);
    pub const THREAD_WITHOUT_DEVICE: Code = Code(0x8030_0185);
    pub const PORTS: Code = Code(0x8030_0186);
    pub const REBOOT: Code = Code(0x8030_0187);
    pub const CONTEXT_DESTROY: Code = Code(0x8030_0282);
    pub const CONTEXT_BIND: Code = Code(0x8030_0283);
    pub const NO_CONTEXT: Code = Code(0x8030_0284);
    pub const CONFIG_LOAD: Code = Code(0x8030_0681);
    pub const STREAM_DESTROY: Code = Code(0x8030_0382);
    pub const STREAM_TIMEOUT: Code = Code(0x8030_0383);
    pub const EVENT_WAIT: Code = Code(0x8030_0384);
    pub const CHANNEL_OFFLINE: Code = Code(0x8030_040c);
    pub const MEMORY_FAILED: Code = Code(0x8030_050c);
    pub const NOT_DEVICE_MEMORY: Code = Code(0x8030_0581);
    pub const ENGINE_NULL: Code = Code(0x8030_0702);
    pub const ENGINE_PARAM: Code = Code(0x8030_0703);
    pub const ENGINE_UNSUPPORTED: Code = Code(0x8030_0704);
    pub const ENGINE_FAILED: Code = Code(0x8030_070c);
    pub const ENGINE_INDEX: Code = Code(0x8030_0781);

    const fn of(module: Module, low: u32) -> Self {
        Self(0x8030_0000 | (module as u32) << 8 | low)
    }

    /// "Something went wrong".
    pub const fn fail(module: Module) -> Self {
        Self::of(module, 0x01)
    }

    /// A null pointer where there must be none.
    pub const fn null(module: Module) -> Self {
        Self::of(module, 0x02)
    }

    /// An illegal parameter.
    pub const fn param(module: Module) -> Self {
        Self::of(module, 0x03)
    }

    /// Not modelled here.
    pub const fn unsupported(module: Module) -> Self {
        Self::of(module, 0x04)
    }

    /// As a C function returns it.
    pub const fn raw(self) -> i32 {
        self.0.cast_signed()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#010x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_prefix("0x")
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .map(Code)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no code like \"0x8030070c\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_composed_as_the_vendor_does() {
        assert_eq!(Code::null(Module::Engine), Code::ENGINE_NULL);
        assert_eq!(Code::unsupported(Module::Engine), Code::ENGINE_UNSUPPORTED);
        assert_eq!(Code::fail(Module::Worker).0, 0x8030_0c01);
        assert_eq!(i64::from(Code::ENGINE_INDEX.raw()).cast_unsigned(), 0xFFFF_FFFF_8030_0781);
    }

    #[test]
    fn codes_travel_as_hexadecimal_text() {
        assert_eq!(serde_json::to_string(&Code::ENGINE_FAILED).unwrap(), "\"0x8030070c\"");
        assert_eq!(serde_json::from_str::<Code>("\"0x8030070c\"").unwrap(), Code::ENGINE_FAILED);
        assert!(serde_json::from_str::<Code>("\"70c\"").is_err());
    }
}
