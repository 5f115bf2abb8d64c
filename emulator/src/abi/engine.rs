//! Engines: load, ask, run, unload.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::log;
use super::pointer::{Address, Handle, Out, Text};
use super::process::Process;
use super::{Kind, call};
use crate::card::code::Code;
use crate::card::fault::Taint;
use crate::card::latency::wait_until;
use crate::card::npu::Request;
use crate::card::trace::{Class, Way};

const NULL: Code = Code::ENGINE_NULL;
/// Engines for all three cores of the NPU.
const THREE_CORES: i32 = 2;
/// Affinity to all three cores.
const ALL_CORES: u32 = 0b111;
/// Host memory of the card's system that a loaded engine takes, in bytes (an estimate).
const SYSTEM_BYTES: i64 = 1 << 20;

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineInit(kind: i32) -> i32 {
    call("axclrtEngineInit", Kind::Rpc, |process| {
        process.context()?;
        if !(0..=3).contains(&kind) {
            return Err(Code::ENGINE_PARAM);
        }
        process.state().engine_kind.get_or_insert(kind);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetVNpuKind(kind: Out<i32>) -> i32 {
    call("axclrtEngineGetVNpuKind", Kind::Rpc, |process| {
        process.context()?;
        kind.set(ready(process)?, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineFinalize() -> i32 {
    call("axclrtEngineFinalize", Kind::Rpc, |process| {
        process.context()?;
        process.state().engine_kind = None;
        Ok(0)
    })
}

/// The card refuses engine work before EngineInit.
fn ready(process: &Process) -> Result<i32, Code> {
    process.state().engine_kind.ok_or(Code::ENGINE_FAILED)
}

fn report(process: &Process, what: &str, (code, reason): (Code, String)) -> Code {
    let text = format!("{what} failed({code:?}): {reason}");
    process.log.write(log::ERROR, "engine", "request", line!(), &text);
    code
}

fn load_file(process: &Process, path: &Path, id: &Out<u64>) -> Result<i32, Code> {
    let began = Instant::now();
    let size = file_size(process, path)?;
    process.context()?;
    ready(process)?;
    let Ok(file) = File::open(path) else {
        // The vendor's library answers success and leaves the id alone.
        let text = format!("open {} fail", path.display());
        process.log.write(log::ERROR, "engine", "load", line!(), &text);
        return Ok(0);
    };
    let loaded = process.card.load_file(&file);
    process.card.trace.moved(Way::HostToDevice, size);
    if let Some(latency) = process.card.latency() {
        wait_until(began + latency.transfer(size));
    }
    let what = format!("Load model file({})", path.display());
    id.set(loaded.map_err(|reason| report(process, &what, reason))?, NULL)?;
    Ok(0)
}

fn file_size(process: &Process, path: &Path) -> Result<u64, Code> {
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
    meta.map(|meta| meta.len()).ok_or_else(|| {
        let text = format!("Model file({}) not found", path.display());
        process.log.write(log::ERROR, "engine", "load", line!(), &text);
        Code::ENGINE_PARAM
    })
}

fn path_of(text: &Text) -> Result<PathBuf, Code> {
    use std::os::unix::ffi::OsStrExt;
    Ok(Path::new(std::ffi::OsStr::from_bytes(text.get(NULL)?.to_bytes())).to_owned())
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineLoadFromFile(path: Text, id: Out<u64>) -> i32 {
    call("axclrtEngineLoadFromFile", Kind::Waits(Class::Dma), |process| {
        id.check(NULL)?;
        load_file(process, &path_of(&path)?, &id)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineLoadFromMem(address: Address, size: u64, id: Out<u64>) -> i32 {
    call("axclrtEngineLoadFromMem", Kind::Rpc, |process| {
        id.check(NULL)?;
        address.check(NULL)?;
        process.context()?;
        ready(process)?;
        let loaded = process.card.load_memory(address.card(), size);
        id.set(loaded.map_err(|reason| report(process, "Load model", reason))?, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineUnload(id: u64) -> i32 {
    call("axclrtEngineUnload", Kind::Rpc, |process| {
        process.context()?;
        if id == 0 {
            return Err(Code::ENGINE_PARAM);
        }
        if !process.card.unload(id) {
            return Err(Code::ENGINE_FAILED);
        }
        process.state().engine_contexts.retain(|_, engine| *engine != id);
        Ok(0)
    })
}

fn exists(process: &Process, id: u64) -> Result<(), Code> {
    process.context()?;
    process.card.engine(id).map(|_| ()).ok_or(Code::ENGINE_FAILED)
}

thread_local! {
    static COMPILER: RefCell<CString> = RefCell::default();
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetModelCompilerVersion(id: u64) -> *const c_char {
    call("axclrtEngineGetModelCompilerVersion", Kind::Rpc, |process| {
        exists(process, id)?;
        let version = concat!("emulated ", env!("CARGO_PKG_VERSION"));
        let version = CString::new(version).map_err(|_| Code::ENGINE_FAILED)?;
        Ok(COMPILER.with_borrow_mut(|buffer| {
            *buffer = version;
            buffer.as_ptr()
        }))
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineSetAffinity(id: u64, set: u32) -> i32 {
    call("axclrtEngineSetAffinity", Kind::Rpc, |process| {
        exists(process, id)?;
        if set == 0 || set & !ALL_CORES != 0 { Err(Code::ENGINE_PARAM) } else { Ok(0) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetAffinity(id: u64, set: Out<u32>) -> i32 {
    call("axclrtEngineGetAffinity", Kind::Rpc, |process| {
        exists(process, id)?;
        set.set(ALL_CORES, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineSetContextAffinity(_id: u64, _context: u64, _set: u32) -> i32 {
    call("axclrtEngineSetContextAffinity", Kind::Local, |_| Err(Code::ENGINE_UNSUPPORTED))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetContextAffinity(_id: u64, _context: u64, _set: Out<u32>) -> i32 {
    call("axclrtEngineGetContextAffinity", Kind::Local, |_| Err(Code::ENGINE_UNSUPPORTED))
}

fn usage(process: &Process, size: u64, system: &Out<i64>, cmm: &Out<i64>) -> Result<i32, Code> {
    let bytes = i64::try_from(process.card.engine_footprint(size)).unwrap_or(i64::MAX);
    system.set(SYSTEM_BYTES, NULL)?;
    cmm.set(bytes, NULL)?;
    Ok(0)
}

fn in_card_memory(process: &Process, address: Address, size: u64) -> Result<(), Code> {
    process.context()?;
    process.range(address.card(), usize::try_from(size).map_err(|_| Code::ENGINE_PARAM)?)?;
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetUsage(path: Text, system: Out<i64>, cmm: Out<i64>) -> i32 {
    call("axclrtEngineGetUsage", Kind::Waits(Class::Dma), |process| {
        let began = Instant::now();
        let size = file_size(process, &path_of(&path)?)?;
        process.context()?;
        process.card.trace.moved(Way::HostToDevice, size);
        if let Some(latency) = process.card.latency() {
            wait_until(began + latency.transfer(size));
        }
        usage(process, size, &system, &cmm)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetUsageFromMem(
    address: Address,
    size: u64,
    system: Out<i64>,
    cmm: Out<i64>,
) -> i32 {
    call("axclrtEngineGetUsageFromMem", Kind::Rpc, |process| {
        in_card_memory(process, address, size)?;
        usage(process, size, &system, &cmm)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetUsageFromModelId(id: u64, system: Out<i64>, cmm: Out<i64>) -> i32 {
    call("axclrtEngineGetUsageFromModelId", Kind::Rpc, |process| {
        process.context()?;
        let loaded = process.card.engine(id).ok_or(Code::ENGINE_FAILED)?;
        usage(process, loaded.file_size, &system, &cmm)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetModelType(path: Text, kind: Out<i32>) -> i32 {
    call("axclrtEngineGetModelType", Kind::Rpc, |process| {
        file_size(process, &path_of(&path)?)?;
        process.context()?;
        kind.set(THREE_CORES, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetModelTypeFromMem(address: Address, size: u64, kind: Out<i32>) -> i32 {
    call("axclrtEngineGetModelTypeFromMem", Kind::Rpc, |process| {
        in_card_memory(process, address, size)?;
        kind.set(THREE_CORES, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetModelTypeFromModelId(id: u64, kind: Out<i32>) -> i32 {
    call("axclrtEngineGetModelTypeFromModelId", Kind::Rpc, |process| {
        exists(process, id)?;
        kind.set(THREE_CORES, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineCreateContext(id: u64, context: Out<u64>) -> i32 {
    call("axclrtEngineCreateContext", Kind::Rpc, |process| {
        context.check(NULL)?;
        exists(process, id)?;
        let mut state = process.state();
        let handle = state.new_handle().0 as u64;
        state.engine_contexts.insert(handle, id);
        context.set(handle, NULL)?;
        Ok(0)
    })
}

/// Copies the descriptor, so that the IO object is the caller's again at once. The outer
/// error is the runtime's own, the inner one the card's.
fn describe(
    process: &Process,
    id: u64,
    context: u64,
    group: u32,
    io: Handle,
) -> Result<Result<Request, (Code, String)>, Code> {
    if io == Handle::NULL {
        return Err(NULL);
    }
    let (inputs, outputs, known) = {
        let state = process.state();
        let io = state.ios.get(&io).ok_or(Code::ENGINE_PARAM)?;
        (io.inputs.clone(), io.outputs.clone(), state.engine_contexts.get(&context) == Some(&id))
    };
    let wrong = process.card.condition.wrong().then_some(Taint::Wrong);
    let taint = process.card.faults.taint().or(wrong);
    let (Some(loaded), true) = (process.card.engine(id), known) else {
        let reason = format!("there is no engine {id} with a context {context}");
        return Ok(Err((Code::ENGINE_FAILED, reason)));
    };
    let group = usize::try_from(group).unwrap_or(usize::MAX);
    Ok(Ok(Request { loaded, group, inputs, outputs, taint }))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineExecute(id: u64, context: u64, group: u32, io: Handle) -> i32 {
    call("axclrtEngineExecute", Kind::Waits(Class::Rpc), |process| {
        process.context()?;
        let request = describe(process, id, context, group, io)?;
        let ticket = process.card.trace.ticket();
        let ran = process.run(|ready| {
            let ran = request.and_then(|request| process.card.execute(ready, &request, ticket));
            (*ran.as_ref().unwrap_or(&ready), ran)
        })?;
        ran.map_err(|reason| report(process, "Request api(execute) return", reason)).map(|_| 0)
    })
}

/// What the card refuses stays silent: nobody awaits its answer.
#[unsafe(no_mangle)]
extern "C" fn axclrtEngineExecuteAsync(id: u64, context: u64, group: u32, io: Handle, stream: Handle) -> i32 {
    call("axclrtEngineExecuteAsync", Kind::Send, |process| {
        let open = process.stream(stream)?;
        let request = describe(process, id, context, group, io)?;
        let (card, log) = (Arc::clone(&process.card), Arc::clone(&process.log));
        let (ticket, arrived) = (card.trace.ticket(), Instant::now());
        let queued = open.stream.submit(Box::new(move |ready| {
            let ready = ready.max(arrived);
            let ran = request.and_then(|request| card.execute(ready, &request, ticket));
            ran.unwrap_or_else(|(code, reason)| {
                let text = format!("the card drops an execute({code:?}): {reason}");
                log.write(log::DEBUG, "engine", "execute_async", line!(), &text);
                ready
            })
        }));
        if queued { Ok(0) } else { Err(Code::CHANNEL_OFFLINE) }
    })
}
