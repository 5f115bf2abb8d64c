//! The fault catalogue: every way the appliance fails, under one stable code.
//!
//! The journal, the HTTP APIs and the documentation all take code, meaning and
//! remedy from here, so an operator reads the same words everywhere.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! catalogue {
    ($($name:ident = $code:literal, $meaning:literal, $remedy:literal;)*) => {
        /// A kind of fault. Codes are stable across releases.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Fault {
            $(#[doc = $meaning] #[serde(rename = $code)] $name,)*
        }

        impl Fault {
            /// Every fault, in the order of the catalogue.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// The stable code, e.g. `E-MODEL-CHECKSUM`.
            pub const fn code(self) -> &'static str {
                match self { $(Fault::$name => $code,)* }
            }

            /// What the fault means, as half a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Fault::$name => $meaning,)* }
            }

            /// What a person can do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Fault::$name => $remedy,)* }
            }
        }
    };
}

catalogue! {
    Config = "E-CONFIG", "the configuration is wrong",
        "Correct the named line; `llm8850-supervisor --check-config` checks the file without starting.";
    RuntimeOpen = "E-RUNTIME-OPEN", "the card's runtime library cannot be loaded",
        "Check `worker.runtime`; on a Pi install the vendor's driver package, elsewhere build the emulator.";
    RuntimeSymbol = "E-RUNTIME-SYMBOL", "the card's runtime library lacks a function",
        "Install a runtime version listed in the documentation.";
    CardAbsent = "E-CARD-ABSENT", "no card was found",
        "Check that the card is seated and powered, and that its driver is loaded.";
    CardDriver = "E-CARD-DRIVER", "the card's driver cannot be opened",
        "Check that the driver modules are loaded and that the service user may open their nodes.";
    CardPorts = "E-CARD-PORTS", "the card refused a connection",
        "Another process may hold the card, or the card is hung; it is reset if this persists.";
    CardCall = "E-CARD-CALL", "a call to the card failed",
        "The worker is restarted; if it recurs, see the card's log.";
    CardMemory = "E-CARD-MEMORY", "the card has too little free memory",
        "Use a smaller model, or stop other programs that use the card.";
    CardOutput = "E-CARD-OUTPUT", "the card produced an impossible result",
        "The worker is restarted; if it recurs, verify the model's files and the card's cooling.";
    CardDead = "E-CARD-DEAD", "the driver lost the card's heartbeat",
        "The card is restarted; if it recurs, check cooling and power supply.";
    CardStall = "E-CARD-STALL", "a call to the card does not return",
        "The worker is replaced and, if need be, the card restarted; if it recurs, see the kernel's log.";
    CardLink = "E-CARD-LINK", "the card's PCIe link is lost or slower than it was",
        "The slot is reset; if it recurs, reseat the card and check its cooling and power supply.";
    CardHot = "E-CARD-HOT", "the card is too hot",
        "Requests wait until it has cooled down; improve its cooling.";
    CardSlow = "E-CARD-SLOW", "the card computes much slower than usual",
        "The worker is restarted once when idle; if it recurs, check cooling and power supply.";
    CardHeld = "E-CARD-HELD", "another process holds the card",
        "Stop that process; the card can only be restarted when nobody holds it.";
    Golden = "E-GOLDEN", "the card's answer to its test prompt is wrong",
        "The card is restarted; if it recurs, install the model again, or delete the recorded answer if the change is meant.";
    Versions = "E-VERSIONS", "the card's library and firmware are of different versions",
        "Install driver, firmware and library of one release.";
    Firmware = "E-FIRMWARE", "the card did not accept its firmware",
        "The driver is loaded anew; if it recurs, install the firmware of the driver's release, or switch the power off and on.";
    FirmwareMissing = "E-FIRMWARE-MISSING", "the card's firmware is not installed",
        "Install the firmware of the driver's release.";
    Modules = "E-MODULES", "the card's driver modules cannot be loaded or unloaded",
        "Check that they are installed for this kernel and that no program uses the card.";
    Bus = "E-BUS", "the card's slot cannot be reset",
        "Switch the power off and on; if it recurs, reseat the card.";
    TaskStuck = "E-TASK-STUCK", "a process is stuck in the kernel",
        "The host is restarted, as often as its budget allows.";
    Helper = "E-HELPER", "the card helper failed or cannot be reached",
        "Check `recovery.helper` and the journal of llm8850-card-helper.";
    HostReboot = "E-REBOOT", "the host cannot be restarted",
        "Switch the power off and on.";
    Interrupted = "E-INTERRUPTED", "the answer was cut off by a fault",
        "Send the request again.";
    Watchdog = "E-WATCHDOG", "the hardware watchdog is not armed",
        "Set RuntimeWatchdogSec in systemd's system.conf and load the watchdog's driver.";
    State = "E-STATE", "the state directory cannot be used",
        "Check `recovery.state_dir`, its permissions and the free space.";
    Setup = "E-SETUP", "the card's partition `setup` cannot be used",
        "Look at it on a computer: it is a FAT partition named SETUP; where it is damaged it is made again at the next start.";
    Bootloader = "E-BOOTLOADER", "the boot firmware cannot try a system for once",
        "On a Raspberry Pi bring the bootloader up to date: `rpi-eeprom-update -a` in Raspberry Pi OS, or the bootloader image of Raspberry Pi Imager.";
    Slots = "E-SLOTS", "that cannot be done with the boot slots",
        "The status page shows both slots; wait until the one that runs is judged, or restart.";
    Update = "E-UPDATE", "the update was not installed",
        "What runs is unchanged. Get a bundle made for this appliance, and newer than it, and try again.";
    Triple = "E-TRIPLE", "driver, library and firmware of the card do not belong together",
        "Install an update, or write the image again.";
    Orders = "E-ORDERS", "what the service asked of root is not done",
        "Report it, with the journal around it.";
    Button = "E-BUTTON", "the button cannot be read",
        "Correct `[button]`, or give the service user access to the pins.";
    Lights = "E-LIGHTS", "the lights cannot be driven",
        "Correct `[lights]`, or give the service user access to the pins or LEDs.";
    ModelMissing = "E-MODEL-MISSING", "a model file is missing or unreadable",
        "Install the model again, or correct `model.dir`.";
    ModelChecksum = "E-MODEL-CHECKSUM", "a model file does not match its manifest",
        "The file is damaged: install the model again.";
    ModelInvalid = "E-MODEL-INVALID", "the model directory cannot be used",
        "Install a model package this version supports.";
    ModelEngine = "E-MODEL-ENGINE", "the card refused an engine file",
        "Install a model package built for this card and runtime version.";
    Tokenizer = "E-TOKENIZER", "the model's tokenizer cannot be used",
        "Install the model again; its tokenizer files are damaged or of an unknown kind.";
    Template = "E-TEMPLATE", "the model's chat template failed",
        "Check the roles and order of the messages, or the model's template.";
    SelfTest = "E-SELF-TEST", "the card's answers differ between two ways that must agree",
        "Verify the model's files; report the runtime version.";
    RequestInvalid = "E-REQUEST", "the request cannot be served",
        "Correct the request.";
    ContextLength = "E-CONTEXT", "the conversation is longer than the context",
        "Shorten the messages, or set `limits.overflow = \"trim\"`.";
    WorkerExit = "E-WORKER-EXIT", "the inference worker ended",
        "It is started again by itself; the journal says why it ended.";
    WorkerLink = "E-WORKER-LINK", "the inference worker sent something unintelligible",
        "It is started again by itself; supervisor and worker must be of one version.";
    WorkerStart = "E-WORKER-START", "the inference worker cannot be started",
        "Check `worker.program` and its permissions.";
    Timeout = "E-TIMEOUT", "the request took longer than it may",
        "Ask for fewer tokens, or raise `limits.request_timeout_s`.";
    Busy = "E-BUSY", "too many requests are waiting",
        "Try again after the time given, or raise `limits.queue`.";
    KeyLimit = "E-KEY-LIMIT", "the key has as many requests under way as it may",
        "Try again once one of them has ended, or raise `requests` of its `[[access.key]]`.";
    NotReady = "E-NOT-READY", "no model is ready to answer",
        "Try again after the time given; the status page says what is going on.";
    Stopping = "E-STOPPING", "the service is stopping",
        "Try again once it has started.";
    Internal = "E-INTERNAL", "a program error",
        "Report it, with the journal around it.";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One occurrence of a [`Fault`]: names the object and carries the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{fault}: {}: {detail}. {}", fault.meaning(), fault.remedy())]
pub struct Failure {
    /// Its kind.
    pub fault: Fault,
    /// What it happened to and how, without a final full stop.
    pub detail: String,
}

impl Failure {
    /// A fault with its particulars.
    pub fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into() }
    }
}

/// The result of anything that can fail with a catalogued fault.
pub type Result<T> = std::result::Result<T, Failure>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_survive_serialisation() {
        let codes: HashSet<_> = Fault::ALL.iter().map(|f| f.code()).collect();
        assert_eq!(codes.len(), Fault::ALL.len());
        for &fault in Fault::ALL {
            let text = serde_json::to_string(&fault).unwrap();
            assert_eq!(text, format!("\"{}\"", fault.code()));
            assert_eq!(serde_json::from_str::<Fault>(&text).unwrap(), fault);
        }
    }

    #[test]
    fn a_failure_names_code_object_and_remedy() {
        let text = Failure::new(Fault::ModelChecksum, "qwen3_post.axmodel").to_string();
        assert!(text.starts_with("E-MODEL-CHECKSUM: "));
        assert!(text.contains("qwen3_post.axmodel. The file is damaged"));
    }
}
