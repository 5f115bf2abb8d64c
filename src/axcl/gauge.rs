//! What the card thread is in, readable from other threads while it is in it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::abi::Function;

/// What the card thread is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    Start,
    Load,
    Verify,
    SelfTest,
    Idle,
    Prefill,
    Decode,
    Test,
    Ahead,
    Unload,
}

impl Phase {
    const NAMES: [&'static str; 10] =
        ["start", "load", "verify", "self-test", "idle", "prefill", "decode", "test", "ahead", "unload"];
}

/// What a [`Gauge`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub phase: &'static str,
    /// The runtime function the card thread is inside.
    pub call: Option<&'static str>,
    /// Since the call, or the phase if there is none, began.
    pub since: Duration,
    /// Calls completed.
    pub progress: u64,
}

/// No call under way.
const NONE: u32 = u32::MAX;

/// Written by the card thread around every runtime call, read by anyone.
#[derive(Debug)]
pub struct Gauge {
    epoch: Instant,
    phase: AtomicU32,
    call: AtomicU32,
    /// Microseconds after `epoch` when the call began, or the phase if none is under way.
    since: AtomicU64,
    progress: AtomicU64,
    /// Microseconds of the longest completed call of each function.
    slowest: [AtomicU64; Function::COUNT],
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            phase: AtomicU32::new(Phase::Start as u32),
            call: AtomicU32::new(NONE),
            since: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            slowest: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Gauge {
    /// The card thread turns to something else.
    pub fn enter(&self, phase: Phase) {
        if self.phase.swap(phase as u32, Ordering::AcqRel) != phase as u32 {
            self.mark();
        }
    }

    /// Runs one call under observation.
    pub(super) fn observe<T>(&self, function: Function, call: impl FnOnce() -> T) -> T {
        self.mark();
        let began = Instant::now();
        self.call.store(function as u32, Ordering::Release);
        let result = call();
        self.call.store(NONE, Ordering::Release);
        if let Some(slowest) = self.slowest.get(function as usize) {
            slowest.fetch_max(micros(began.elapsed()), Ordering::AcqRel);
        }
        self.progress.fetch_add(1, Ordering::AcqRel);
        self.mark();
        result
    }

    /// What the card thread is in now. A reader that hits the very moment of a change may
    /// see the new call with the old start or the reverse, never anything else.
    pub fn read(&self) -> Reading {
        let call = self.call.load(Ordering::Acquire);
        let since = Duration::from_micros(self.since.load(Ordering::Acquire));
        let phase = self.phase.load(Ordering::Acquire) as usize;
        Reading {
            phase: Phase::NAMES.get(phase).unwrap_or(&"?"),
            call: Function::name_of(call as usize),
            since: self.epoch.elapsed().saturating_sub(since),
            progress: self.progress.load(Ordering::Acquire),
        }
    }

    /// The longest completed call of each function that was called.
    pub fn slowest(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.slowest.iter().enumerate().filter_map(|(function, slowest)| {
            let time = Duration::from_micros(slowest.load(Ordering::Acquire));
            Function::name_of(function).filter(|_| !time.is_zero()).map(|name| (name, time))
        })
    }

    fn mark(&self) {
        self.since.store(micros(self.epoch.elapsed()), Ordering::Release);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_visible_from_another_thread_while_it_lasts() {
        let gauge = Gauge::default();
        gauge.enter(Phase::Decode);
        let during = gauge
            .observe(Function::Memcpy, || std::thread::scope(|s| s.spawn(|| gauge.read()).join().unwrap()));
        assert_eq!(during.phase, "decode");
        assert_eq!(during.call, Some("axclrtMemcpy"));
        assert_eq!(during.progress, 0);
        let after = gauge.read();
        assert_eq!(after.call, None);
        assert_eq!(after.progress, 1);
    }
}
