//! The runtime's error codes, with meaning and remedy.
//!
//! Layout: bit 31 set; bits 16–23 are 0x30 for the runtime's own errors (anything else is
//! passed through from the card's SDK); bits 8–15 sub-module; bits 0–7 error.

use std::fmt;

use super::abi::Function;
use crate::fault::{Failure, Fault, Result};

/// What a runtime function returned; 0 is success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub i32);

/// Codes whose cause is known better than their parts tell.
const KNOWN: &[(u32, &str, &str)] = &[
    (
        0x8030_010b,
        "the driver's node or the card's channel could not be opened",
        "load the driver modules and give the service user access to /dev/axcl_host",
    ),
    (0x8030_0180, "the driver did not list its cards", "reload the driver modules"),
    (0x8030_0181, "the driver is present but no card is connected", "check the card's seat and power"),
    (0x8030_0183, "the device is not active", "the program must select the device first"),
    (
        0x8030_0184,
        "no card has this number",
        "device numbers are PCI bus numbers; correct the index of the card in the configuration",
    ),
    (0x8030_0185, "the thread has no device", "the program must select the device in this thread"),
    (
        0x8030_0186,
        "the card refused a connection: it is hung, or too many processes use it",
        "stop other programs that use the card and wait a minute; otherwise reset it",
    ),
    (0x8030_0187, "the card could not be restarted", "reload the driver modules, or switch the power off"),
    (0x8030_0282, "this context cannot be destroyed", "the default context goes with its device"),
    (0x8030_0283, "the context is unknown", "the device was reset meanwhile: start again"),
    (0x8030_0284, "the thread has no context", "the program must bind a context in this thread"),
    (0x8030_0383, "the stream did not finish in time", "the card is overloaded or hung: reset it"),
    (0x8030_0405, "the card did not answer in time", "the card is overloaded or hung: reset it"),
    (0x8030_040c, "the card's channel is offline", "the card is dead or was reset: restart it"),
    (
        0x8030_050c,
        "the card refused a memory request: out of memory, or a bad address",
        "free card memory or use a smaller model",
    ),
    (0x8030_0581, "the address is not the start of an allocation", "report it as a program error"),
    (0x8030_0702, "a null pointer in an engine call", "report it as a program error"),
    (
        0x8030_0703,
        "an illegal parameter in an engine call, or a file that is missing",
        "check that the engine file exists and is a regular file",
    ),
    (0x8030_0704, "the runtime does not support this engine call", "install a supported runtime version"),
    (
        0x8030_0709,
        "the card's reply could not be decoded: its worker crashed, or the engine is unusable",
        "verify the engine file, stop other programs that use the card, restart the card",
    ),
    (
        0x8030_070c,
        "the card executed the engine call and failed",
        "verify the engine file; if it recurs, restart the card",
    ),
    (0x8030_0781, "no tensor or shape group has this number", "the engine file is of an unknown kind"),
];

impl Code {
    /// Whether the call succeeded.
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    const fn bits(self) -> u32 {
        self.0.cast_unsigned()
    }

    /// Whether the code comes from the card's SDK instead of the runtime.
    pub const fn is_passed_through(self) -> bool {
        (self.bits() >> 16) & 0xff != 0x30
    }

    /// What happened.
    pub fn meaning(self) -> String {
        if let Some((_, meaning, _)) = self.known() {
            return (*meaning).to_owned();
        }
        let (module, error) = ((self.bits() >> 8) & 0xff, self.bits() & 0xff);
        if self.is_passed_through() {
            let module = match (self.bits() >> 16) & 0xff {
                0x06 => "NPU driver".to_owned(),
                0x0b => "system module".to_owned(),
                0x1d => "engine module".to_owned(),
                other => format!("module 0x{other:02x}"),
            };
            return format!("the card's {module} reports: {}", sdk_error(error));
        }
        format!("{}: {}", sub_module(module), generic_error(error))
    }

    /// What a person can do about it.
    pub fn remedy(self) -> &'static str {
        match self.known() {
            Some((_, _, remedy)) => remedy,
            None if self.is_passed_through() => "restart the card; if it recurs, see the card's own log",
            None => "restart the worker; if it recurs, see the runtime's log",
        }
    }

    /// The catalogued fault behind this code when `function` returned it.
    pub fn fault(self, function: Function) -> Fault {
        let passed_memory = self.is_passed_through() && self.bits() & 0xff == 0x18;
        match (function, self.bits()) {
            (Function::Init, 0x8030_010b | 0x8030_0180) => Fault::CardDriver,
            (_, 0x8030_0181 | 0x8030_0184) => Fault::CardAbsent,
            (Function::SetDevice | Function::GetDeviceProperties, 0x8030_010b | 0x8030_0186) => {
                Fault::CardPorts
            }
            (Function::Malloc | Function::EngineLoadFromFile, 0x8030_050c) => Fault::CardMemory,
            (Function::Malloc | Function::EngineLoadFromFile, _) if passed_memory => Fault::CardMemory,
            (Function::EngineLoadFromFile, _) => Fault::ModelEngine,
            _ => Fault::CardCall,
        }
    }

    /// `Ok` for 0, otherwise a failure naming `function`, `object` and this code.
    ///
    /// # Errors
    /// The [`Self::fault`] of a code other than 0.
    pub fn check(self, function: Function, object: impl FnOnce() -> String) -> Result<()> {
        if self.is_ok() {
            return Ok(());
        }
        let detail = format!("{}({}) answered {self}", function.name(), object());
        Err(Failure::new(self.fault(function), detail))
    }

    fn known(self) -> Option<&'static (u32, &'static str, &'static str)> {
        KNOWN.iter().find(|(code, _, _)| *code == self.bits())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}, {}; {}", self.bits(), self.meaning(), self.remedy())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code(0x{:08x})", self.bits())
    }
}

fn sub_module(number: u32) -> String {
    let name = match number {
        0x01 => "device",
        0x02 => "context",
        0x03 => "stream",
        0x04 => "task",
        0x05 => "memory",
        0x06 => "configuration",
        0x07 => "engine",
        0x08 => "log",
        0x09 => "system control",
        0x0a => "latency test",
        0x0b => "peer to peer",
        0x0c => "user work",
        other => return format!("sub-module 0x{other:02x}"),
    };
    name.to_owned()
}

fn generic_error(number: u32) -> String {
    let name = match number {
        0x01 => "failed",
        0x02 => "null pointer",
        0x03 => "illegal parameter",
        0x04 => "unsupported",
        0x05 => "timed out",
        0x06 => "busy",
        0x07 => "out of memory",
        0x08 => "request could not be encoded",
        0x09 => "reply could not be decoded",
        0x0a => "unexpected reply",
        0x0b => "could not be opened",
        0x0c => "execution failed",
        other => return format!("error 0x{other:02x}"),
    };
    name.to_owned()
}

fn sdk_error(number: u32) -> String {
    let name = match number {
        0x0a => "illegal parameter",
        0x0b => "null pointer",
        0x10 => "not ready",
        0x11 => "busy",
        0x12 => "not initialised",
        0x14 => "unsupported",
        0x15 => "no permission",
        0x17 => "does not exist",
        0x18 => "out of memory",
        0x27 => "timed out",
        other => return format!("error 0x{other:02x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn code(bits: u32) -> Code {
        Code(bits.cast_signed())
    }

    #[test]
    fn every_known_code_says_what_happened_and_what_to_do() {
        for &(bits, meaning, remedy) in KNOWN {
            let text = code(bits).to_string();
            assert!(text.starts_with(&format!("0x{bits:08x}, {meaning}; ")), "{text}");
            assert!(text.ends_with(remedy));
            assert!(!code(bits).is_passed_through());
        }
    }

    #[test]
    fn other_codes_are_read_by_their_parts() {
        assert_eq!(code(0x8030_0507).meaning(), "memory: out of memory");
        assert_eq!(code(0x8030_0d55).meaning(), "sub-module 0x0d: error 0x55");
    }

    #[test]
    fn codes_of_the_cards_sdk_are_passed_through() {
        let engine = code(0x801d_0118);
        assert!(engine.is_passed_through());
        assert_eq!(engine.meaning(), "the card's engine module reports: out of memory");
        assert_eq!(engine.fault(Function::Malloc), Fault::CardMemory);
        assert_eq!(engine.fault(Function::EngineExecute), Fault::CardCall);
        assert_eq!(code(0x8042_0127).meaning(), "the card's module 0x42 reports: timed out");
    }

    #[test]
    fn a_failure_names_function_object_and_code() {
        let failure =
            code(0x8030_050c).check(Function::Malloc, || "10 bytes for masks".to_owned()).unwrap_err();
        assert_eq!(failure.fault, Fault::CardMemory);
        assert!(failure.detail.starts_with("axclrtMalloc(10 bytes for masks) answered 0x8030050c, "));
        assert!(Code(0).check(Function::Malloc, || unreachable!()).is_ok());
    }

    #[test]
    fn the_same_code_is_another_fault_in_another_function() {
        assert_eq!(code(0x8030_010b).fault(Function::Init), Fault::CardDriver);
        assert_eq!(code(0x8030_010b).fault(Function::SetDevice), Fault::CardPorts);
        assert_eq!(code(0x8030_070c).fault(Function::EngineLoadFromFile), Fault::ModelEngine);
        assert_eq!(code(0x8030_070c).fault(Function::EngineExecute), Fault::CardCall);
    }
}
