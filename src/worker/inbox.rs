//! What the I/O thread leaves for the card thread: requests, cancellations, the stop.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::chat::{Request, RequestId, TokenId};

/// A request to answer.
pub struct Job {
    pub id: RequestId,
    pub request: Arc<Request>,
    /// Tokens of its answer that earlier workers generated.
    pub resume: Vec<TokenId>,
    cancelled: Arc<AtomicBool>,
}

impl Job {
    /// A job nobody cancelled yet.
    pub fn new(id: RequestId, request: Arc<Request>, resume: Vec<TokenId>) -> Self {
        Self { id, request, resume, cancelled: Arc::default() }
    }

    /// Whether the client no longer wants it.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// What the card thread is to do.
pub enum Task {
    Answer(Job),
    /// Answer the test prompt: this model, or the one used last.
    Test {
        model: Option<String>,
    },
    /// Have on the card what this answer has left there, while nothing else waits.
    Warm {
        request: Arc<Request>,
        resume: Vec<TokenId>,
    },
    /// Load a model; where it does not fit, these may be unloaded, the first first.
    Load {
        model: String,
        evict: Vec<String>,
    },
    Unload {
        model: String,
    },
    /// Nothing came for the time given.
    Rest,
}

/// Shared between the threads of a worker.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    /// Of every job queued or under way.
    cancelled: HashMap<RequestId, Arc<AtomicBool>>,
}

impl Inbox {
    /// Queues a task; `false` if a job of its id is queued or under way.
    pub fn push(&self, task: Task) -> bool {
        let mut state = self.state();
        if let Task::Answer(job) = &task {
            if state.cancelled.contains_key(&job.id) {
                return false;
            }
            state.cancelled.insert(job.id, Arc::clone(&job.cancelled));
        }
        state.queue.push_back(task);
        self.changed.notify_all();
        true
    }

    /// The next task, waited for at most until `until`; `None` once a stop was asked for.
    pub fn next(&self, until: Instant) -> Option<Task> {
        let mut state = self.state();
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(task) = state.queue.pop_front() {
                return Some(task);
            }
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Some(Task::Rest);
            }
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether a task waits that must be done, or the stop was asked for.
    pub fn is_wanted(&self) -> bool {
        self.is_stopped() || self.state().queue.iter().any(|task| !matches!(task, Task::Warm { .. }))
    }

    /// The job of this id is over: it can no longer be cancelled.
    pub fn finished(&self, id: RequestId) {
        self.state().cancelled.remove(&id);
    }

    /// Marks the job of this id, if it is queued or under way.
    pub fn cancel(&self, id: RequestId) {
        if let Some(flag) = self.state().cancelled.get(&id) {
            flag.store(true, Ordering::Release);
        }
    }

    /// Asks the worker to stop.
    pub fn stop(&self) {
        let _state = self.state();
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether a stop was asked for.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until a stop is asked for.
    pub fn wait_for_stop(&self) {
        let mut state = self.state();
        while !self.is_stopped() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Input;

    fn job(id: u64) -> Job {
        let request = Request::new(Input::Raw(String::new()));
        Job::new(RequestId(id), Arc::new(request), Vec::new())
    }

    fn push(inbox: &Inbox, id: u64) -> bool {
        inbox.push(Task::Answer(job(id)))
    }

    fn far() -> Instant {
        Instant::now() + std::time::Duration::from_secs(600)
    }

    fn next(inbox: &Inbox) -> Job {
        match inbox.next(far()) {
            Some(Task::Answer(job)) => job,
            _ => panic!("no job"),
        }
    }

    #[test]
    fn jobs_come_in_order_and_can_be_cancelled_until_they_are_over() {
        let inbox = Inbox::default();
        assert!(push(&inbox, 1));
        assert!(push(&inbox, 2));
        assert!(!push(&inbox, 1), "a job came twice");
        inbox.cancel(RequestId(2));
        inbox.cancel(RequestId(3));
        let first = next(&inbox);
        assert!(!first.is_cancelled());
        inbox.cancel(RequestId(1));
        assert!(first.is_cancelled());
        inbox.finished(RequestId(1));
        assert!(push(&inbox, 1));
        assert!(next(&inbox).is_cancelled());
        assert!(!next(&inbox).is_cancelled());
        let request = Arc::new(Request::new(Input::Raw(String::new())));
        assert!(inbox.push(Task::Warm { request, resume: Vec::new() }) && !inbox.is_wanted());
        assert!(matches!(inbox.next(far()), Some(Task::Warm { .. })));
        assert!(inbox.push(Task::Test { model: None }) && inbox.is_wanted());
        assert!(matches!(inbox.next(far()), Some(Task::Test { .. })));
        assert!(matches!(inbox.next(Instant::now()), Some(Task::Rest)));
    }

    #[test]
    fn a_stop_wakes_who_waits_and_outranks_queued_jobs() {
        let inbox = Arc::new(Inbox::default());
        let waiting = {
            let inbox = Arc::clone(&inbox);
            std::thread::spawn(move || inbox.next(far()).is_none())
        };
        inbox.stop();
        assert!(waiting.join().unwrap());
        inbox.wait_for_stop();
        assert!(push(&inbox, 1));
        assert!(inbox.next(far()).is_none());
    }
}
