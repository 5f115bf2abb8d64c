//! Card memory, host memory and copies between them.

use std::ffi::c_void;
use std::time::{Duration, Instant};

use super::log;
use super::pointer::{Address, Handle, Out};
use super::process::Process;
use super::{Kind, call};
use crate::card::code::{Code, Module};
use crate::card::latency::Latency;
use crate::card::trace::{Class, Way};

const NULL: Code = Code::null(Module::Memory);
const PARAM: Code = Code::param(Module::Memory);

const HOST_TO_HOST: i32 = 0;
const HOST_TO_DEVICE: i32 = 1;
const DEVICE_TO_HOST: i32 = 2;
const DEVICE_TO_DEVICE: i32 = 3;

fn allocate(process: &Process, address: &Out<u64>, size: usize) -> Result<i32, Code> {
    address.check(NULL)?;
    process.context()?;
    if size == 0 {
        return Err(PARAM);
    }
    let base = process.card.memory.allocate(size).ok_or_else(|| {
        let free = process.card.memory.free();
        let text = format!("no room for {size} bytes, {free} bytes are free");
        process.log.write(log::ERROR, "memory", "malloc", line!(), &text);
        Code::MEMORY_FAILED
    })?;
    address.set(base, NULL)?;
    Ok(0)
}

#[unsafe(no_mangle)]
extern "C" fn axclrtMalloc(address: Out<u64>, size: usize, _policy: i32) -> i32 {
    call("axclrtMalloc", Kind::Rpc, |process| allocate(process, &address, size))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtMallocCached(address: Out<u64>, size: usize, _policy: i32) -> i32 {
    call("axclrtMallocCached", Kind::Rpc, |process| allocate(process, &address, size))
}

fn foreign(process: &Process, address: Address) -> Code {
    let text = format!("memory {:#x} is not allocated by device", address.card());
    process.log.write(log::ERROR, "memory", "check", line!(), &text);
    Code::NOT_DEVICE_MEMORY
}

#[unsafe(no_mangle)]
extern "C" fn axclrtFree(address: Address) -> i32 {
    call("axclrtFree", Kind::Rpc, |process| {
        process.context()?;
        let released = process.card.memory.release(address.card());
        if released { Ok(0) } else { Err(foreign(process, address)) }
    })
}

/// There is no cache to speak of; the checks are the vendor's.
fn maintain(process: &Process, address: Address) -> Result<i32, Code> {
    process.context()?;
    if process.card.memory.is_base(address.card()) { Ok(0) } else { Err(foreign(process, address)) }
}

#[unsafe(no_mangle)]
extern "C" fn axclrtMemFlush(address: Address, _size: usize) -> i32 {
    call("axclrtMemFlush", Kind::Rpc, |process| maintain(process, address))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtMemInvalidate(address: Address, _size: usize) -> i32 {
    call("axclrtMemInvalidate", Kind::Rpc, |process| maintain(process, address))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtMallocHost(address: Out<*mut c_void>, size: usize) -> i32 {
    call("axclrtMallocHost", Kind::Local, |_| {
        // SAFETY: malloc accepts any size; the result, null included, is the caller's.
        address.set(unsafe { libc::malloc(size) }, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtFreeHost(address: Address) -> i32 {
    call("axclrtFreeHost", Kind::Local, |_| {
        // SAFETY: the caller got the pointer from axclrtMallocHost, or it is null.
        unsafe { libc::free(address.raw()) };
        Ok(0)
    })
}

/// The end of work that takes `cost` of the latency model, or of what has been done by now.
fn end(latency: Option<&Latency>, start: Instant, cost: impl Fn(&Latency) -> Duration) -> Instant {
    latency.map_or_else(|| start.max(Instant::now()), |latency| start + cost(latency))
}

/// Carries out memory work now, on the default stream.
fn now(process: &Process, cost: impl Fn(&Latency) -> Duration, work: impl FnOnce()) -> Result<i32, Code> {
    let latency = process.card.latency();
    process.run(|start| {
        work();
        (end(latency.as_deref(), start, cost), 0)
    })
}

/// Queues memory work.
fn later(
    process: &Process,
    stream: Handle,
    cost: impl Fn(&Latency) -> Duration + Send + 'static,
    work: impl FnOnce() + Send + 'static,
) -> Result<i32, Code> {
    let open = process.stream(stream)?;
    let latency = process.card.latency();
    let arrived = Instant::now();
    let queued = open.stream.submit(Box::new(move |ready| {
        work();
        end(latency.as_deref(), ready.max(arrived), cost)
    }));
    if queued { Ok(0) } else { Err(Code::CHANNEL_OFFLINE) }
}

#[unsafe(no_mangle)]
extern "C" fn axclrtMemset(address: Address, value: u8, size: usize) -> i32 {
    call("axclrtMemset", Kind::Waits(Class::Rpc), |process| {
        process.context()?;
        let range = process.range(address.card(), size)?;
        now(process, |latency| latency.rpc() + latency.copy(size as u64), || range.fill(value))
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtMemsetAsync(address: Address, value: u8, size: usize, stream: Handle) -> i32 {
    call("axclrtMemsetAsync", Kind::Send, |process| {
        process.context()?;
        let range = process.range(address.card(), size);
        later(
            process,
            stream,
            move |latency| latency.copy(size as u64),
            move || {
                if let Ok(range) = range {
                    range.fill(value);
                }
            },
        )
    })
}

fn copy_now(process: &Process, to: Address, from: Address, size: usize, kind: i32) -> Result<i32, Code> {
    let (mut to, from) = (to.check(NULL)?, from.check(NULL)?);
    if size == 0 {
        return Err(PARAM);
    }
    let bytes = size as u64;
    let transfer = move |latency: &Latency| latency.transfer(bytes);
    let trace = &process.card.trace;
    match kind {
        HOST_TO_HOST => {
            to.move_host(from, size);
            Ok(0)
        }
        HOST_TO_DEVICE => {
            process.context()?;
            let range = process.range(to.card(), size)?;
            trace.moved(Way::HostToDevice, bytes);
            now(process, transfer, || range.write(from.host(size)))
        }
        DEVICE_TO_HOST => {
            process.context()?;
            let range = process.range(from.card(), size)?;
            trace.moved(Way::DeviceToHost, bytes);
            now(process, transfer, || range.read(to.host_mut(size)))
        }
        DEVICE_TO_DEVICE => {
            process.context()?;
            let (to, from) = (process.range(to.card(), size)?, process.range(from.card(), size)?);
            trace.moved(Way::DeviceToDevice, bytes);
            now(process, |latency| latency.rpc() + latency.copy(bytes), || to.copy_from(&from))
        }
        _ => Err(Code::unsupported(Module::Memory)),
    }
}

#[unsafe(no_mangle)]
extern "C" fn axclrtMemcpy(to: Address, from: Address, size: usize, kind: i32) -> i32 {
    let path = match kind {
        HOST_TO_DEVICE | DEVICE_TO_HOST => Kind::Waits(Class::Dma),
        DEVICE_TO_DEVICE => Kind::Waits(Class::Rpc),
        _ => Kind::Local,
    };
    call("axclrtMemcpy", path, |process| copy_now(process, to, from, size, kind))
}

/// Bad card addresses stay silent: nobody awaits the card's answer.
#[unsafe(no_mangle)]
extern "C" fn axclrtMemcpyAsync(to: Address, from: Address, size: usize, kind: i32, stream: Handle) -> i32 {
    call("axclrtMemcpyAsync", Kind::Send, |process| {
        let (mut to, from) = (to.check(NULL)?, from.check(NULL)?);
        if size == 0 {
            return Err(PARAM);
        }
        process.context()?;
        let bytes = size as u64;
        let transfer = move |latency: &Latency| latency.transfer(bytes);
        let trace = &process.card.trace;
        match kind {
            HOST_TO_DEVICE => {
                trace.moved(Way::HostToDevice, bytes);
                // Copied at once: what the caller does to its buffer meanwhile is harmless.
                let data = from.host(size).to_vec();
                let range = process.range(to.card(), size);
                later(process, stream, transfer, move || {
                    if let Ok(range) = range {
                        range.write(&data);
                    }
                })
            }
            DEVICE_TO_HOST => {
                trace.moved(Way::DeviceToHost, bytes);
                let range = process.range(from.card(), size);
                later(process, stream, transfer, move || {
                    if let Ok(range) = range {
                        range.read(to.host_mut(size));
                    }
                })
            }
            DEVICE_TO_DEVICE => {
                trace.moved(Way::DeviceToDevice, bytes);
                let ranges = process.range(to.card(), size).and_then(|to| {
                    let from = process.range(from.card(), size)?;
                    Ok((to, from))
                });
                later(
                    process,
                    stream,
                    move |latency| latency.copy(bytes),
                    move || {
                        if let Ok((to, from)) = ranges {
                            to.copy_from(&from);
                        }
                    },
                )
            }
            HOST_TO_HOST => Err(PARAM),
            _ => Err(Code::unsupported(Module::Memory)),
        }
    })
}

/// Answers like `memcmp`, so the sign tells which is less; errors are negative as well.
#[unsafe(no_mangle)]
extern "C" fn axclrtMemcmp(first: Address, second: Address, size: usize) -> i32 {
    call("axclrtMemcmp", Kind::Waits(Class::Rpc), |process| {
        process.context()?;
        let (first, second) = (process.range(first.card(), size)?, process.range(second.card(), size)?);
        let latency = process.card.latency();
        process.run(|start| {
            let order = first.compare(&second) as i32;
            let cost = |latency: &Latency| latency.rpc() + latency.copy(size as u64);
            (end(latency.as_deref(), start, cost), order)
        })
    })
}

/// Its result goes nowhere, as the vendor's.
#[unsafe(no_mangle)]
extern "C" fn axclrtMemcmpAsync(_first: Address, _second: Address, size: usize, stream: Handle) -> i32 {
    call("axclrtMemcmpAsync", Kind::Send, |process| {
        process.context()?;
        later(process, stream, move |latency| latency.copy(size as u64), || ())
    })
}
