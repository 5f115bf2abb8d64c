//! What the card was asked to do: counters in total and per request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::turnaround::Turnaround;

/// Requests remembered.
const REQUESTS: usize = 64;
/// Turnarounds remembered of a request.
const TURNAROUNDS: usize = 4096;

/// How a call reaches the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A message over the control path.
    Rpc,
    /// A transfer between host and card memory.
    Dma,
    /// Not at all.
    Local,
}

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    HostToDevice,
    DeviceToHost,
    DeviceToDevice,
}

/// Calls of one function or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    pub calls: u64,
    pub rpc: u64,
    pub dma: u64,
    pub local: u64,
    /// Of these, the calls that wait for the card.
    pub blocking: u64,
    /// Of these, the calls that answered with an error.
    pub failed: u64,
}

impl Calls {
    fn count(&mut self, class: Class, blocking: bool) {
        self.calls += 1;
        match class {
            Class::Rpc => self.rpc += 1,
            Class::Dma => self.dma += 1,
            Class::Local => self.local += 1,
        }
        self.blocking += u64::from(blocking);
    }
}

/// Everything counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    #[serde(flatten)]
    pub all: Calls,
    pub h2d_bytes: u64,
    pub d2h_bytes: u64,
    pub d2d_bytes: u64,
    /// Engine runs that took place.
    pub executes: u64,
    /// Nanoseconds the card's NPU was at work.
    pub card_busy_ns: u64,
    /// Nanoseconds of processor time callers spent inside calls that reach the card.
    pub inside_cpu_ns: u64,
    /// Nanoseconds since the first call (of a request: since its beginning).
    pub wall_ns: u64,
    pub functions: BTreeMap<&'static str, Calls>,
}

/// Counters between the announcements of one request's beginning and end.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    pub id: u64,
    pub ended: bool,
    #[serde(flatten)]
    pub counters: Counters,
    /// Of the first [`TURNAROUNDS`]; filled in for a snapshot.
    pub turnaround: Turnaround,
    #[serde(skip)]
    turnarounds: Vec<u32>,
    #[serde(skip)]
    began: Option<Instant>,
    #[serde(skip)]
    ticket: Ticket,
}

/// A call that has not returned.
#[derive(Clone, Debug, Serialize)]
pub struct Inside {
    pub call: &'static str,
    pub thread: i32,
    /// Nanoseconds since it was entered.
    pub since_ns: u64,
}

/// All that [`Trace::snapshot`] tells.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub total: Counters,
    /// Oldest first.
    pub requests: Vec<Request>,
    pub inside: Vec<Inside>,
}

/// Names the request that work was submitted for; 0 is none.
pub type Ticket = u64;

#[derive(Default)]
struct State {
    first: Option<Instant>,
    total: Counters,
    requests: VecDeque<Request>,
    tickets: Ticket,
    entries: u64,
    inside: BTreeMap<u64, Entered>,
    /// Something is on its way to the host: it is there when a call that waits returns.
    fetching: bool,
    /// When the host last got something, until it calls the card again.
    fetched: Option<Instant>,
}

struct Entered {
    call: &'static str,
    thread: i32,
    at: Instant,
    blocking: bool,
}

impl State {
    fn open(&mut self) -> Option<&mut Request> {
        self.requests.back_mut().filter(|request| !request.ended)
    }

    fn each(&mut self, mut change: impl FnMut(&mut Counters)) {
        change(&mut self.total);
        if let Some(request) = self.open() {
            change(&mut request.counters);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The counters. Every method takes the time of a short lock only.
#[derive(Default)]
pub struct Trace {
    state: Mutex<State>,
}

impl Trace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins; the result is for [`Trace::leave`].
    pub fn enter(&self, call: &'static str, thread: i32, class: Class, blocking: bool, now: Instant) -> u64 {
        let mut state = self.state();
        state.first.get_or_insert(now);
        state.entries += 1;
        let entry = state.entries;
        state.inside.insert(entry, Entered { call, thread, at: now, blocking });
        state.each(|counters| {
            counters.all.count(class, blocking);
            counters.functions.entry(call).or_default().count(class, blocking);
        });
        if class != Class::Local
            && let Some(fetched) = state.fetched.take()
            && let Some(request) = state.open().filter(|request| request.turnarounds.len() < TURNAROUNDS)
        {
            let gap = u32::try_from(nanos(now.saturating_duration_since(fetched))).unwrap_or(u32::MAX);
            request.turnarounds.push(gap);
        }
        entry
    }

    /// A call returns after `processor` time of its thread.
    pub fn leave(&self, entry: u64, failed: bool, processor: Duration, now: Instant) {
        let mut state = self.state();
        let Some(Entered { call, blocking, .. }) = state.inside.remove(&entry) else { return };
        state.each(|counters| counters.inside_cpu_ns += nanos(processor));
        if blocking && std::mem::take(&mut state.fetching) {
            state.fetched = Some(now);
        }
        if failed {
            state.each(|counters| {
                counters.all.failed += 1;
                counters.functions.entry(call).or_default().failed += 1;
            });
        }
    }

    /// Bytes move.
    pub fn moved(&self, way: Way, bytes: u64) {
        let mut state = self.state();
        state.fetching |= way == Way::DeviceToHost;
        state.each(|counters| match way {
            Way::HostToDevice => counters.h2d_bytes += bytes,
            Way::DeviceToHost => counters.d2h_bytes += bytes,
            Way::DeviceToDevice => counters.d2d_bytes += bytes,
        });
    }

    /// The request that work submitted now belongs to.
    pub fn ticket(&self) -> Ticket {
        self.state().open().map_or(0, |request| request.ticket)
    }

    /// An execute submitted under `ticket` kept the card busy.
    pub fn executed(&self, ticket: Ticket, busy: Duration) {
        let mut state = self.state();
        let count = |counters: &mut Counters| {
            counters.executes += 1;
            counters.card_busy_ns += nanos(busy);
        };
        count(&mut state.total);
        if ticket != 0
            && let Some(request) = state.requests.iter_mut().find(|request| request.ticket == ticket)
        {
            count(&mut request.counters);
        }
    }

    /// A request begins; one still open ends.
    pub fn begin(&self, id: u64, now: Instant) {
        let mut state = self.state();
        close(&mut state, now);
        if state.requests.len() == REQUESTS {
            state.requests.pop_front();
        }
        state.tickets += 1;
        let ticket = state.tickets;
        let counters = Counters::default();
        let (turnaround, turnarounds) = Default::default();
        let began = Some(now);
        state.requests.push_back(Request {
            id,
            ended: false,
            counters,
            turnaround,
            turnarounds,
            began,
            ticket,
        });
    }

    /// Request `id` ends, if it is the open one.
    pub fn end(&self, id: u64, now: Instant) {
        let mut state = self.state();
        if state.open().is_some_and(|request| request.id == id) {
            close(&mut state, now);
        }
    }

    /// The counters now.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let state = self.state();
        let since = |start: Instant| nanos(now.saturating_duration_since(start));
        let mut total = state.total.clone();
        total.wall_ns = state.first.map_or(0, since);
        let mut requests: Vec<_> = state.requests.iter().cloned().collect();
        if let Some(request) = requests.last_mut().filter(|request| !request.ended) {
            request.counters.wall_ns = request.began.map_or(0, since);
        }
        for request in &mut requests {
            request.turnaround = Turnaround::of(std::mem::take(&mut request.turnarounds));
        }
        let inside = state.inside.values();
        let inside =
            inside.map(|e| Inside { call: e.call, thread: e.thread, since_ns: since(e.at) }).collect();
        Snapshot { total, requests, inside }
    }

    /// Counts from zero again.
    pub fn reset(&self) {
        let mut state = self.state();
        state.first = None;
        state.total = Counters::default();
        state.requests.clear();
    }

    /// Nanoseconds (busy, wall) so far.
    pub fn load(&self, now: Instant) -> (u64, u64) {
        let state = self.state();
        let wall = state.first.map_or(0, |first| nanos(now.saturating_duration_since(first)));
        (state.total.card_busy_ns, wall)
    }
}

fn close(state: &mut State, now: Instant) {
    if let Some(request) = state.open() {
        request.ended = true;
        request.counters.wall_ns =
            request.began.map_or(0, |began| nanos(now.saturating_duration_since(began)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_count_in_total_and_for_the_open_request() {
        let trace = Trace::default();
        let now = Instant::now();
        let one = trace.enter("axclrtMalloc", 1, Class::Rpc, true, now);
        trace.leave(one, false, Duration::from_nanos(4), now);
        trace.begin(7, now);
        let two = trace.enter("axclrtMemcpy", 1, Class::Dma, true, now);
        trace.moved(Way::HostToDevice, 100);
        trace.leave(two, true, Duration::from_nanos(6), now);
        let ticket = trace.ticket();
        trace.end(7, now + Duration::from_nanos(5));
        trace.moved(Way::DeviceToHost, 9);
        trace.executed(ticket, Duration::from_nanos(3));

        let seen = trace.snapshot(now + Duration::from_nanos(50));
        assert_eq!((seen.total.all.calls, seen.total.all.blocking, seen.total.all.failed), (2, 2, 1));
        assert_eq!((seen.total.h2d_bytes, seen.total.d2h_bytes), (100, 9));
        assert_eq!(seen.total.inside_cpu_ns, 10);
        assert_eq!((seen.total.executes, seen.total.card_busy_ns, seen.total.wall_ns), (1, 3, 50));
        let request = &seen.requests[0];
        assert_eq!((request.id, request.ended, request.counters.wall_ns), (7, true, 5));
        assert_eq!((request.counters.all.dma, request.counters.all.rpc), (1, 0));
        assert_eq!((request.counters.h2d_bytes, request.counters.d2h_bytes), (100, 0));
        assert_eq!((request.counters.executes, request.counters.card_busy_ns), (1, 3));
        assert_eq!(request.counters.functions["axclrtMemcpy"].failed, 1);
    }

    #[test]
    fn a_turnaround_lasts_from_the_fetched_to_the_next_call_to_the_card() {
        let trace = Trace::default();
        let start = Instant::now();
        let at = |us| start + Duration::from_micros(us);
        let call = |class, blocking, way: Option<Way>, from, to| {
            let entry = trace.enter("f", 1, class, blocking, at(from));
            way.into_iter().for_each(|way| trace.moved(way, 1));
            trace.leave(entry, false, Duration::ZERO, at(to));
        };
        trace.begin(1, start);
        call(Class::Dma, true, Some(Way::HostToDevice), 0, 10);
        call(Class::Dma, true, Some(Way::DeviceToHost), 20, 30);
        call(Class::Local, false, None, 40, 45);
        call(Class::Dma, true, Some(Way::HostToDevice), 70, 80);
        // A queued fetch is there when the wait for it ends.
        call(Class::Rpc, false, Some(Way::DeviceToHost), 81, 82);
        call(Class::Rpc, true, None, 85, 90);
        call(Class::Rpc, false, None, 190, 191);
        let turnaround = trace.snapshot(at(200)).requests[0].turnaround;
        let wanted = Turnaround { count: 2, p50_ns: 100_000, p99_ns: 100_000, max_ns: 100_000 };
        assert_eq!(turnaround, wanted);
    }

    #[test]
    fn a_call_that_hangs_is_seen_inside() {
        let trace = Trace::default();
        let now = Instant::now();
        let entry = trace.enter("axclrtEngineExecute", 42, Class::Rpc, true, now);
        let seen = trace.snapshot(now + Duration::from_secs(1)).inside;
        assert_eq!(
            (seen[0].call, seen[0].thread, seen[0].since_ns),
            ("axclrtEngineExecute", 42, 1_000_000_000)
        );
        trace.leave(entry, false, Duration::ZERO, now);
        assert!(trace.snapshot(now).inside.is_empty());
    }

    #[test]
    fn only_the_last_requests_are_kept_and_a_new_one_ends_the_old() {
        let trace = Trace::default();
        let now = Instant::now();
        for id in 0..70 {
            trace.begin(id, now);
        }
        let seen = trace.snapshot(now).requests;
        assert_eq!((seen.len(), seen[0].id), (REQUESTS, 6));
        assert!(seen[62].ended && !seen[63].ended);
        trace.reset();
        assert!(trace.snapshot(now).requests.is_empty());
    }
}
