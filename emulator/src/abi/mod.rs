//! The vendor's C functions. Every one goes through [`call`], which counts it, lets
//! injected faults meet it and makes it last as long as the latency model says.
#![allow(non_snake_case)] // The functions carry the vendor's names.

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::card::Card;
use crate::card::code::{Code, Module};
use crate::card::fault;
use crate::card::latency::wait_until;
use crate::card::trace::Class;
use crate::processor;

mod context;
mod device;
mod engine;
mod io;
mod layout;
mod lifecycle;
mod log;
mod memory;
mod pointer;
mod process;
mod stream;
mod unsupported;

use process::{Process, process, thread_id};

/// How a function reaches the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not at all.
    Local,
    /// One message, answered.
    Rpc,
    /// Waits for the card; the function itself says for how long.
    Waits(Class),
    /// One message without an answer.
    Send,
    /// Asks the driver, whatever the card does.
    Driver,
}

/// What a function returns, also when it is refused.
trait Reply {
    fn refused(code: Code) -> Self;
}

impl Reply for i32 {
    fn refused(code: Code) -> Self {
        code.raw()
    }
}

impl Reply for u32 {
    fn refused(code: Code) -> Self {
        code.0
    }
}

impl Reply for u64 {
    /// Sign-extended, as the vendor's cast of a negative int does.
    fn refused(code: Code) -> Self {
        i64::from(code.raw()).cast_unsigned()
    }
}

impl Reply for *const c_char {
    fn refused(_: Code) -> Self {
        std::ptr::null()
    }
}

impl Reply for () {
    fn refused(_: Code) {}
}

/// Carries out what reaches the card, if the card can be reached.
fn reach<R>(
    card: &Card,
    kind: Kind,
    blocking: bool,
    body: impl FnOnce() -> Result<R, Code>,
) -> Result<R, Code> {
    if matches!(kind, Kind::Local | Kind::Driver) {
        return body();
    }
    card.condition.pass(blocking)?;
    let outcome = body();
    if blocking {
        card.condition.answered();
    }
    outcome
}

/// Carries out one exported function.
fn call<R: Reply>(name: &'static str, kind: Kind, body: impl FnOnce(&Process) -> Result<R, Code>) -> R {
    let process = process();
    let card = &process.card;
    let (class, blocking) = match kind {
        Kind::Local => (Class::Local, false),
        Kind::Rpc | Kind::Driver => (Class::Rpc, true),
        Kind::Waits(class) => (class, true),
        Kind::Send => (Class::Rpc, false),
    };
    let began = Instant::now();
    let entry = card.trace.enter(name, thread_id(), class, blocking, began);
    let spent = (kind != Kind::Local).then(processor::of_thread);
    // No panic may cross into C.
    let outcome =
        catch_unwind(AssertUnwindSafe(|| match card.faults.meet(name).and_then(|act| fault::suffer(&act)) {
            Some(code) => Err(code),
            None => reach(card, kind, blocking, || body(process)),
        }))
        .unwrap_or_else(|_| Err(Code::fail(Module::Task)));
    if let Some(latency) = card.latency() {
        match kind {
            Kind::Rpc | Kind::Driver => wait_until(began + latency.rpc()),
            Kind::Send => wait_until(began + latency.send()),
            Kind::Local | Kind::Waits(_) => {}
        }
    }
    let processor = spent.map_or(Duration::ZERO, |before| processor::of_thread().saturating_sub(before));
    card.trace.leave(entry, outcome.is_err(), processor, Instant::now());
    outcome.unwrap_or_else(R::refused)
}
