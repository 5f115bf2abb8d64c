//! Start, end, version.

use std::ffi::c_char;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::log;
use super::pointer::{Out, Text};
use super::process::{Process, process};
use super::{Kind, call};
use crate::card::code::{Code, Module};
use crate::card::latency::wait_until;

/// The version this library imitates.
const VERSION: (i32, i32, i32) = (3, 10, 2);
pub const FULL_VERSION: &std::ffi::CStr = c"V3.10.2_emulated";
/// The PCI bus number of the card unless `AXCL_EMU_DEVICE` says otherwise.
const DEVICE: i32 = 1;
/// What taking the library down costs on a real system.
const FINALIZE: Duration = Duration::from_millis(100);

#[derive(Default, Deserialize)]
#[serde(default)]
struct HostLog {
    path: Option<PathBuf>,
    level: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogConfig {
    host: HostLog,
}

/// The part of `axcl.json` that matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    log: LogConfig,
}

fn device_list() -> Result<Vec<i32>, String> {
    match std::env::var("AXCL_EMU_DEVICE") {
        Err(_) => Ok(vec![DEVICE]),
        Ok(text) => match text.parse() {
            Ok(id @ 0..=255) => Ok(vec![id]),
            _ => Err(format!("AXCL_EMU_DEVICE={text}: must be a PCI bus number (0 to 255)")),
        },
    }
}

fn init(process: &Process, path: Option<PathBuf>) -> Result<i32, Code> {
    {
        let mut state = process.state();
        if state.references > 0 {
            state.references += 1;
            return Ok(0);
        }
    }
    let shown = path.as_deref().unwrap_or(Path::new("(default)")).display();
    // A closed stdout is the caller's choice.
    let _ = writeln!(std::io::stdout(), "json file {shown}: emulated card");
    let config: Config = path
        .and_then(|path| std::fs::read_to_string(path).ok())
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let host = config.log.host;
    process.log.open(&host.path.unwrap_or_else(|| log::DEFAULT_PATH.into()));
    process.log.set_level(host.level.unwrap_or(log::INFO));
    let devices = device_list().map_err(|reason| refuse(process, &reason))?;
    if !process.attach()? {
        return Err(Code::NO_DEVICE);
    }
    let mut state = process.state();
    state.devices = devices;
    state.references = 1;
    Ok(0)
}

fn refuse(process: &Process, reason: &str) -> Code {
    let _ = writeln!(std::io::stderr(), "emulated card: {reason}");
    process.log.write(log::CRITICAL, "config", "axclInit", line!(), reason);
    Code::CONFIG_LOAD
}

#[unsafe(no_mangle)]
extern "C" fn axclInit(json: Text) -> i32 {
    // Before anything is counted or disturbed: this may set up what disturbs.
    let configured = process().configure();
    call("axclInit", Kind::Local, |process| {
        configured.map_err(|reason| refuse(process, &reason))?;
        let path = json.optional().and_then(|path| path.to_str().ok()).filter(|path| !path.is_empty());
        init(process, path.map(PathBuf::from))
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclFinalize() -> i32 {
    call("axclFinalize", Kind::Local, |process| {
        let began = Instant::now();
        let was_active = {
            let mut state = process.state();
            if state.references == 0 {
                return Err(Code::fail(Module::Device));
            }
            state.references -= 1;
            if state.references > 0 {
                return Ok(0);
            }
            let was_active = state.activations > 0;
            state.close_channel();
            state.thread_device.clear();
            state.thread_context.clear();
            state.devices.clear();
            was_active
        };
        if let Some(machine) = process.attachment().filter(|_| was_active) {
            machine.release();
        }
        process.detach();
        process.card.reset();
        if process.card.latency().is_some() {
            wait_until(began + FINALIZE);
        }
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetVersion(major: Out<i32>, minor: Out<i32>, patch: Out<i32>) -> i32 {
    call("axclrtGetVersion", Kind::Local, |_| {
        let null = Code::null(Module::Device);
        major.set(VERSION.0, null)?;
        minor.set(VERSION.1, null)?;
        patch.set(VERSION.2, null)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetFullVersion() -> *const c_char {
    call("axclrtGetFullVersion", Kind::Local, |_| Ok(FULL_VERSION.as_ptr()))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetSocName() -> *const c_char {
    call("axclrtGetSocName", Kind::Local, |_| Ok(c"AX650N".as_ptr()))
}
