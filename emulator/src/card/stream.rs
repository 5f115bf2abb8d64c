//! Streams run their work in order; events mark points in them.
//!
//! Each piece of work is told when the one before it ended *on the card* and answers when
//! it ends itself. With the latency model these times may lie ahead of the clock: work is
//! carried out as soon as it can be, and whoever waits for it waits until its end. So a
//! chain of queued work keeps an exact schedule however late the host's threads wake up.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::latency::wait_until;

/// A piece of work: from the end of the work before it to its own end.
pub type Job = Box<dyn FnOnce(Instant) -> Instant + Send>;

struct State {
    queue: VecDeque<Job>,
    /// Work is being carried out, by the stream's thread or by a caller.
    running: bool,
    thread: bool,
    closed: bool,
    submitted: u64,
    finished: u64,
    ends: Instant,
}

/// A queue of work and, once something is queued, a thread that carries it out.
pub struct Stream {
    state: Mutex<State>,
    changed: Condvar,
}

impl Default for Stream {
    fn default() -> Self {
        let state = State {
            queue: VecDeque::new(),
            running: false,
            thread: false,
            closed: false,
            submitted: 0,
            finished: 0,
            ends: Instant::now(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Stream {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues work. False if the stream is closed or no thread can be had.
    pub fn submit(self: &Arc<Self>, job: Job) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        if !state.thread {
            let stream = Arc::clone(self);
            let spawned = std::thread::Builder::new().name("emu-stream".into()).spawn(move || stream.work());
            if spawned.is_err() {
                return false;
            }
            state.thread = true;
        }
        state.submitted += 1;
        state.queue.push_back(job);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Carries out `job` on the calling thread, after everything queued before it, and
    /// returns when it has ended.
    pub fn run<R>(&self, job: impl FnOnce(Instant) -> (Instant, R)) -> R {
        let mut state = self.state();
        while state.running || !state.queue.is_empty() {
            state = self.wait(state);
        }
        state.running = true;
        let ready = state.ends;
        drop(state);
        let mut finish = Finish { stream: self, ends: ready };
        let (end, result) = job(ready);
        finish.ends = end;
        drop(finish);
        wait_until(end);
        result
    }

    /// Waits until everything queued so far has ended; false if `timeout` passed before.
    pub fn drain(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut state = self.state();
        let target = state.submitted;
        while state.finished < target || state.running {
            match deadline {
                None => state = self.wait(state),
                Some(deadline) => {
                    let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())
                    else {
                        return false;
                    };
                    state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        let ends = state.ends;
        drop(state);
        if let Some(deadline) = deadline.filter(|&deadline| deadline < ends) {
            wait_until(deadline);
            return false;
        }
        wait_until(ends);
        true
    }

    /// Ends the stream: its thread goes when it has nothing left to do. `drop_work` forgets
    /// what is queued.
    pub fn close(&self, drop_work: bool) {
        let mut state = self.state();
        state.closed = true;
        if drop_work {
            state.finished += u64::try_from(state.queue.len()).unwrap_or(0);
            state.queue.clear();
        }
        drop(state);
        self.changed.notify_all();
    }

    fn work(&self) {
        loop {
            let mut state = self.state();
            while state.running || state.queue.is_empty() {
                if state.closed && state.queue.is_empty() {
                    return;
                }
                state = self.wait(state);
            }
            let Some(job) = state.queue.pop_front() else { continue };
            state.running = true;
            let ready = state.ends;
            drop(state);
            // A job that panics ends at once; the stream goes on, silently as on the card.
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(ready))).unwrap_or(ready);
            let mut state = self.state();
            state.running = false;
            state.finished += 1;
            state.ends = state.ends.max(end);
            drop(state);
            self.changed.notify_all();
        }
    }
}

/// Lets the stream go on, also when the work of a caller panics.
struct Finish<'a> {
    stream: &'a Stream,
    ends: Instant,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let mut state = self.stream.state();
        state.running = false;
        state.ends = state.ends.max(self.ends);
        drop(state);
        self.stream.changed.notify_all();
    }
}

#[derive(Default)]
struct Marks {
    asked: u64,
    reached: u64,
    at: Option<Instant>,
}

/// A point in a stream that other streams can wait for.
#[derive(Default)]
pub struct Event {
    marks: Mutex<Marks>,
    reached: Condvar,
}

impl Event {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the event behind everything queued in `stream`; false if that is closed.
    pub fn record(self: &Arc<Self>, stream: &Arc<Stream>) -> bool {
        let number = {
            let mut marks = self.marks();
            marks.asked += 1;
            marks.asked
        };
        let event = Arc::clone(self);
        stream.submit(Box::new(move |ready| {
            let mut marks = event.marks();
            marks.reached = marks.reached.max(number);
            marks.at = Some(marks.at.map_or(ready, |at| at.max(ready)));
            drop(marks);
            event.reached.notify_all();
            ready
        }))
    }

    /// Makes `stream` wait for the last record so far (for nothing if there is none), at
    /// most for `timeout`; false if the stream is closed.
    pub fn hold(self: &Arc<Self>, stream: &Arc<Stream>, timeout: Option<Duration>) -> bool {
        let target = self.marks().asked;
        let event = Arc::clone(self);
        stream.submit(Box::new(move |ready| {
            let limit = timeout.map(|t| Instant::now().max(ready) + t);
            let mut marks = event.marks();
            while marks.reached < target {
                let Some(limit) = limit else {
                    marks = event.reached.wait(marks).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                let left = limit.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return limit;
                }
                marks = event.reached.wait_timeout(marks, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let reached = marks.at.filter(|_| target > 0).unwrap_or(ready);
            limit.map_or(reached, |limit| reached.min(limit)).max(ready)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn queued_work_runs_in_order_and_calls_come_after_it() {
        let stream = Arc::new(Stream::default());
        let (tell, told) = mpsc::channel();
        for n in 0..3 {
            let tell = tell.clone();
            assert!(stream.submit(Box::new(move |ready| {
                tell.send(n).unwrap();
                ready
            })));
        }
        stream.run(|ready| (ready, tell.send(9).unwrap()));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2, 9]);
    }

    #[test]
    fn a_chain_keeps_its_schedule_however_late_threads_wake() {
        let stream = Arc::new(Stream::default());
        let start = Instant::now();
        let step = Duration::from_millis(2);
        let (tell, ends) = mpsc::channel();
        for _ in 0..10 {
            let tell = tell.clone();
            stream.submit(Box::new(move |ready| {
                let end = ready.max(start) + step;
                tell.send(end).unwrap();
                end
            }));
        }
        assert!(stream.drain(None));
        assert!(Instant::now() >= start + step * 10);
        let ends: Vec<_> = ends.try_iter().collect();
        assert_eq!(ends.last(), Some(&(start + step * 10)));
    }

    #[test]
    fn draining_gives_up_at_its_timeout() {
        let stream = Arc::new(Stream::default());
        let (go, gate) = mpsc::channel::<()>();
        stream.submit(Box::new(move |ready| {
            let _ = gate.recv();
            ready
        }));
        assert!(!stream.drain(Some(Duration::from_millis(5))));
        drop(go);
        assert!(stream.drain(None));
        let late = Instant::now() + Duration::from_secs(600);
        stream.submit(Box::new(move |_| late));
        assert!(!stream.drain(Some(Duration::from_millis(1))));
    }

    #[test]
    fn a_panicking_job_does_not_stop_the_stream() {
        let stream = Arc::new(Stream::default());
        stream.submit(Box::new(|_| panic!("on purpose")));
        assert!(stream.drain(None));
        assert_eq!(stream.run(|ready| (ready, 7)), 7);
    }

    #[test]
    fn a_closed_stream_forgets_or_finishes_its_work() {
        let stream = Arc::new(Stream::default());
        let (tell, told) = mpsc::channel();
        stream.submit(Box::new(move |ready| {
            tell.send(()).unwrap();
            ready
        }));
        stream.close(false);
        assert!(stream.drain(None));
        assert_eq!(told.recv(), Ok(()));
        assert!(!stream.submit(Box::new(|ready| ready)));
    }

    #[test]
    fn a_stream_waits_for_an_event_of_another() {
        let (first, second) = (Arc::new(Stream::default()), Arc::new(Stream::default()));
        let event = Arc::new(Event::default());
        let (go, gate) = mpsc::channel::<()>();
        assert!(event.hold(&second, None), "an event never recorded holds nobody up");
        assert!(second.drain(None));
        first.submit(Box::new(move |ready| {
            let _ = gate.recv();
            ready
        }));
        event.record(&first);
        event.hold(&second, None);
        assert!(!second.drain(Some(Duration::from_millis(5))));
        drop(go);
        assert!(second.drain(None));
    }

    #[test]
    fn waiting_for_an_event_ends_at_its_timeout() {
        let (first, second) = (Arc::new(Stream::default()), Arc::new(Stream::default()));
        let event = Arc::new(Event::default());
        let (go, gate) = mpsc::channel::<()>();
        first.submit(Box::new(move |ready| {
            let _ = gate.recv();
            ready
        }));
        event.record(&first);
        event.hold(&second, Some(Duration::from_millis(5)));
        assert!(second.drain(None));
        drop(go);
        assert!(first.drain(None));
    }
}
