//! The one handle the HTTP side holds: submit a request, get its events, read the status.
//!
//! One task owns the queue and the worker. It records every token before it hands it
//! on, so that a request outlives its worker: the next one continues where it stopped.
//!
//! | to change | open |
//! |---|---|
//! | what a client's request becomes, and how it is given up | [`ticket`] |
//! | what is kept of a request, and which events are believable | [`job`] |
//! | who waits, for how long, in which order | [`queue`] |
//! | the task itself | [`actor`] |
//! | what is told about the service | [`status`] |

mod actor;
mod estimate;
mod job;
mod queue;
mod status;
mod ticket;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::chat::{Request, RequestId};
use crate::config::{self, Defaults, Limits};
use crate::sys::{chance, clock::Clock};

use actor::Actor;
use job::Job;
pub use status::{Counters, Loading, Phase, Status};
pub use ticket::{Refused, Ticket};

/// Events kept for a client that reads slower than the model writes; one that falls
/// further behind counts as gone. Bounds memory per request to some hundred KiB.
const EVENTS: usize = 1024;

/// What can be changed while the service runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub defaults: Defaults,
    pub limits: Limits,
}

/// How workers are started and how long they may take.
#[derive(Clone, Debug)]
pub struct Launch {
    pub worker: config::Worker,
    /// The worker's program, found.
    pub program: PathBuf,
    /// The configuration file it is given.
    pub config: PathBuf,
}

impl Launch {
    /// As the configuration at `config` says. A program's bare name is first looked for
    /// beside this program, then left to `PATH`.
    pub fn new(worker: config::Worker, config: PathBuf) -> Self {
        let beside = std::env::current_exe().ok().map(|this| this.with_file_name(&worker.program));
        let bare = worker.program.components().count() == 1;
        let program = beside.filter(|path| bare && path.is_file()).unwrap_or_else(|| worker.program.clone());
        Self { worker, program, config }
    }
}

/// What the handle tells the task.
enum Order {
    Submit(Box<Job>),
    Abandon(RequestId),
    Stop,
}

/// The handle. Clones speak to the same service.
#[derive(Clone)]
pub struct Service {
    /// Unbounded, but each connection has at most one request and each request is
    /// submitted and abandoned once, so the connection limit bounds it.
    orders: mpsc::UnboundedSender<Order>,
    settings: Arc<watch::Sender<Settings>>,
    status: watch::Receiver<Status>,
    last_id: Arc<AtomicU64>,
    clock: Clock,
}

impl Service {
    /// Starts the service; the task ends after [`Service::stop`]. `beat` is called from
    /// the task's own progress at least once a second.
    pub fn start(
        launch: Launch,
        settings: Settings,
        beat: impl FnMut(&Status) + Send + 'static,
    ) -> (Self, JoinHandle<()>) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (publish, status) = watch::channel(Status::default());
        let (settings, current) = watch::channel(settings);
        let clock = Clock::start();
        let actor = Actor::new(launch, inbox, current, publish, clock, Box::new(beat));
        let service = Self {
            orders,
            settings: Arc::new(settings),
            status,
            last_id: Arc::new(AtomicU64::new(0)),
            clock,
        };
        (service, tokio::spawn(actor.run()))
    }

    /// Submits a request. Returns once a place in the queue is certain; while no worker
    /// is ready that takes up to `limits.hold_s`. Dropping the future, or later the
    /// ticket, gives the request up and frees the card.
    ///
    /// # Errors
    /// [`Refused`]: the queue is full, no worker became ready in time, or the service stops.
    pub async fn submit(&self, mut request: Request) -> Result<Ticket, Refused> {
        let id = RequestId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let now = self.clock.now();
        let (events, reader) = mpsc::channel(EVENTS);
        let (admit, admission) = oneshot::channel();
        let job = {
            let settings = self.settings.borrow();
            settings.defaults.apply(&mut request);
            request.limits.overflow = settings.limits.overflow;
            request.sampling.seed.get_or_insert_with(chance::bits);
            let deadline = now + settings.limits.request_timeout_s.0;
            let hold = now + settings.limits.hold_s.0;
            Job::new(id, request, events, admit, deadline, hold)
        };
        let mut ticket = Ticket::new(id, reader, self.orders.clone());
        if self.orders.send(Order::Submit(Box::new(job))).is_err() {
            return Err(Refused::stopping());
        }
        match admission.await {
            Ok(Ok(())) => Ok(ticket),
            Ok(Err(refused)) => {
                ticket.settle();
                Err(refused)
            }
            Err(_) => Err(Refused::stopping()),
        }
    }

    /// What the service is doing now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the status fulfils `wanted`, or the service has ended.
    pub async fn wait_for(&self, wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        match status.wait_for(wanted).await {
            Ok(status) => status.clone(),
            Err(_) => self.status(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.settings.borrow().clone()
    }

    /// Puts other settings in force for requests to come.
    pub fn reload(&self, settings: Settings) {
        self.settings.send_replace(settings);
    }

    /// Refuses new requests, ends those at hand within `limits.drain_s`, then the worker.
    pub fn stop(&self) {
        // A task that has ended already is what was asked for.
        let _ = self.orders.send(Order::Stop);
    }
}

#[cfg(test)]
pub(crate) mod tests;
