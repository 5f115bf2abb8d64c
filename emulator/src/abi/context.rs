//! Contexts and what threads are bound to.

use super::pointer::{Handle, Out};
use super::process::thread_id;
use super::{Kind, call};
use crate::card::code::{Code, Module};

const NULL: Code = Code::null(Module::Context);

#[unsafe(no_mangle)]
extern "C" fn axclrtCreateContext(context: Out<Handle>, device: i32) -> i32 {
    call("axclrtCreateContext", Kind::Rpc, |process| {
        context.check(NULL)?;
        let mut state = process.state();
        if !state.devices.contains(&device) {
            return Err(Code::INVALID_ID);
        }
        if state.activations == 0 {
            return Err(Code::NOT_ACTIVE);
        }
        let handle = state.new_context(thread_id());
        context.set(handle, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtDestroyContext(context: Handle) -> i32 {
    call("axclrtDestroyContext", Kind::Rpc, |process| {
        let streams: Vec<_> = {
            let state = process.state();
            if state.default_context == Some(context) || !state.contexts.contains_key(&context) {
                return Err(Code::CONTEXT_DESTROY);
            }
            state.streams.values().filter(|open| open.context == context).cloned().collect()
        };
        for open in streams {
            open.stream.drain(None);
            open.stream.close(false);
        }
        let mut state = process.state();
        state.streams.retain(|_, open| open.context != context);
        state.contexts.remove(&context);
        state.thread_context.retain(|_, bound| *bound != context);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtSetCurrentContext(context: Handle) -> i32 {
    call("axclrtSetCurrentContext", Kind::Local, |process| {
        let mut state = process.state();
        if !state.contexts.contains_key(&context) {
            return Err(Code::CONTEXT_BIND);
        }
        state.thread_context.insert(thread_id(), context);
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetCurrentContext(context: Out<Handle>) -> i32 {
    call("axclrtGetCurrentContext", Kind::Local, |process| {
        let bound = process.state().thread_context.get(&thread_id()).copied();
        context.set(bound.ok_or(Code::NO_CONTEXT)?, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetDefaultContext(context: Out<Handle>, device: i32) -> i32 {
    call("axclrtGetDefaultContext", Kind::Local, |process| {
        let state = process.state();
        if !state.devices.contains(&device) {
            return Err(Code::INVALID_ID);
        }
        context.set(state.default_context.ok_or(Code::NOT_ACTIVE)?, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetDefaultStream(context: Handle, stream: Out<Handle>) -> i32 {
    call("axclrtGetDefaultStream", Kind::Local, |process| {
        let found = process.state().contexts.get(&context).map(|context| context.default_handle);
        stream.set(found.ok_or(Code::param(Module::Context))?, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetContextId(context: Handle, id: Out<i32>) -> i32 {
    call("axclrtGetContextId", Kind::Local, |process| {
        if !process.state().contexts.contains_key(&context) {
            return Err(Code::param(Module::Context));
        }
        id.set(i32::try_from(context.0 >> 4).unwrap_or(i32::MAX), NULL)?;
        Ok(0)
    })
}
