//! Streams and events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::log;
use super::pointer::{Handle, Out};
use super::process::{OpenStream, Process, thread_id};
use super::{Kind, call};
use crate::card::code::{Code, Module};
use crate::card::latency::wait_until;
use crate::card::stream::{Event, Stream};
use crate::card::trace::Class;

const NULL: Code = Code::null(Module::Stream);

/// A timeout of the C functions: negative is none.
fn timeout(ms: i32) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

#[unsafe(no_mangle)]
extern "C" fn axclrtCreateStream(stream: Out<Handle>) -> i32 {
    call("axclrtCreateStream", Kind::Rpc, |process| {
        stream.check(NULL)?;
        process.context()?;
        let mut state = process.state();
        let context = state.thread_context.get(&thread_id()).copied().ok_or(Code::NO_CONTEXT)?;
        let handle = state.new_handle();
        let open = OpenStream { stream: Arc::<Stream>::default(), context, is_default: false };
        state.streams.insert(handle, open);
        stream.set(handle, NULL)?;
        Ok(0)
    })
}

fn destroy(process: &Process, handle: Handle, force: bool) -> Result<i32, Code> {
    let open = process.state().streams.get(&handle).cloned().filter(|open| !open.is_default);
    let open = open.ok_or(Code::STREAM_DESTROY)?;
    if !force {
        open.stream.drain(None);
    }
    open.stream.close(force);
    process.state().streams.remove(&handle);
    Ok(0)
}

#[unsafe(no_mangle)]
extern "C" fn axclrtDestroyStream(stream: Handle) -> i32 {
    call("axclrtDestroyStream", Kind::Rpc, |process| destroy(process, stream, false))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtDestroyStreamForce(stream: Handle) -> i32 {
    call("axclrtDestroyStreamForce", Kind::Rpc, |process| destroy(process, stream, true))
}

/// The request takes half a round trip to the card, the answer the other half once the
/// stream's work has ended.
fn synchronize(process: &Process, handle: Handle, limit: Option<Duration>) -> Result<i32, Code> {
    if handle == Handle::NULL {
        return Err(NULL);
    }
    let open = process.stream(handle)?;
    if open.is_default {
        process.log.write(log::ERROR, "stream", "synchronize", line!(), "default stream cannot be synced");
        return Err(Code::param(Module::Stream));
    }
    let half = process.card.latency().map(|latency| latency.rpc() / 2);
    let arrives = half.map(|half| Instant::now() + half);
    if !open.stream.drain(limit) {
        return Err(Code::STREAM_TIMEOUT);
    }
    if let (Some(half), Some(arrives)) = (half, arrives) {
        wait_until(Instant::now().max(arrives) + half);
    }
    Ok(0)
}

#[unsafe(no_mangle)]
extern "C" fn axclrtSynchronizeStream(stream: Handle) -> i32 {
    call("axclrtSynchronizeStream", Kind::Waits(Class::Rpc), |process| synchronize(process, stream, None))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtSynchronizeStreamWithTimeout(stream: Handle, ms: i32) -> i32 {
    call("axclrtSynchronizeStreamWithTimeout", Kind::Waits(Class::Rpc), |process| {
        synchronize(process, stream, timeout(ms))
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtCreateEvent(event: Out<Handle>) -> i32 {
    call("axclrtCreateEvent", Kind::Rpc, |process| {
        event.check(NULL)?;
        process.context()?;
        let mut state = process.state();
        let handle = state.new_handle();
        state.events.insert(handle, Arc::<Event>::default());
        event.set(handle, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtDestroyEvent(event: Handle) -> i32 {
    call("axclrtDestroyEvent", Kind::Rpc, |process| {
        process.state().events.remove(&event).map(|_| 0).ok_or(Code::STREAM_DESTROY)
    })
}

fn find(process: &Process, event: Handle) -> Result<Arc<Event>, Code> {
    process.state().events.get(&event).cloned().ok_or(Code::param(Module::Stream))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtRecordEvent(event: Handle, stream: Handle) -> i32 {
    call("axclrtRecordEvent", Kind::Send, |process| {
        let open = process.stream(stream)?;
        let recorded = find(process, event)?.record(&open.stream);
        if recorded { Ok(0) } else { Err(Code::STREAM_TIMEOUT) }
    })
}

fn wait_event(process: &Process, stream: Handle, event: Handle, ms: i32) -> Result<i32, Code> {
    if !process.state().thread_device.contains_key(&thread_id()) {
        return Err(Code::THREAD_WITHOUT_DEVICE);
    }
    let open = process.stream(stream)?;
    let held = find(process, event)?.hold(&open.stream, timeout(ms));
    if held { Ok(0) } else { Err(Code::EVENT_WAIT) }
}

#[unsafe(no_mangle)]
extern "C" fn axclrtStreamWaitEvent(stream: Handle, event: Handle) -> i32 {
    call("axclrtStreamWaitEvent", Kind::Send, |process| wait_event(process, stream, event, -1))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtStreamWaitEventWithTimeout(stream: Handle, event: Handle, ms: i32) -> i32 {
    call("axclrtStreamWaitEventWithTimeout", Kind::Send, |process| wait_event(process, stream, event, ms))
}
