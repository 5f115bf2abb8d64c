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
//! | which models are on the card | [`shelf`] |
//! | what is done with requests, workers, policy | [`actor`] |
//! | what that needs of the world | [`hands`], [`outside`] |
//! | the loop itself | [`run`] |
//! | how fast an answer came | [`course`] |
//! | what is told about the service | [`status`] |

mod actor;
mod course;
mod estimate;
mod hands;
mod job;
mod outside;
mod queue;
mod recent;
mod run;
mod shelf;
mod status;
mod ticket;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::chat::{Request, RequestId};
use crate::config::{self, Defaults, Limits};
use crate::ledger::{History, Ledger, Record, Story, What};
use crate::machine::{Ladder, Machine, Policy, Rung, life};
use crate::metrics::Metrics;
use crate::sys::{boot, chance, clock::Clock, root::SysRoot};

pub use crate::link::frame::ModelInfo;
use actor::{Actor, Parts};
pub use course::Answered;
use job::{Job, Times};
use outside::Outside;
pub use status::{Counters, Incident, Installed, Loading, Status};
pub use ticket::{Refused, Ticket};

/// Events kept for a client that reads slower than the model writes; one that falls
/// further behind counts as gone. Bounds memory per request to some hundred KiB.
const EVENTS: usize = 1024;

/// What can be changed while the service runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub defaults: Defaults,
    pub limits: Limits,
    pub server: config::Server,
    pub access: config::Access,
    pub resident: config::Resident,
    /// Every installed model; the first is loaded from the start.
    pub models: Vec<config::Installed>,
    /// Where the first is.
    pub model_dir: PathBuf,
    /// Where more can be fetched from.
    pub catalogue: Option<config::Catalogue>,
    /// What the lights look like, for who asks.
    pub lights: config::Lights,
    /// What the image's own programs tell.
    pub appliance: config::Appliance,
    /// What is wrong in the configuration file: defaults stand in for it.
    pub problems: Vec<String>,
}

impl Settings {
    /// As `config` says.
    pub fn new(config: &config::Config, problems: &[config::Problem]) -> Self {
        Self {
            defaults: config.defaults.clone(),
            limits: config.limits.clone(),
            server: config.server.clone(),
            access: config.access.clone(),
            resident: config.resident.clone(),
            models: config.model.installed(),
            model_dir: config.model.dir.clone(),
            catalogue: config.model.catalogue(),
            lights: config.lights.clone(),
            problems: problems.iter().map(ToString::to_string).collect(),
            appliance: config.appliance.clone(),
        }
    }
}

/// How workers are started, and what is done about faults.
#[derive(Clone, Debug)]
pub struct Launch {
    pub worker: config::Worker,
    pub recovery: config::Recovery,
    pub fallback: config::Fallback,
    /// The worker's program, found.
    pub program: PathBuf,
    /// The configuration file it is given.
    pub config: PathBuf,
}

impl Launch {
    /// As `config`, read from `file`, says. A program's bare name is first looked for beside
    /// this program, then left to `PATH`.
    pub fn new(config: &config::Config, file: PathBuf) -> Self {
        let named = &config.worker.program;
        let beside = std::env::current_exe().ok().map(|this| this.with_file_name(named));
        let bare = named.components().count() == 1;
        let program = beside.filter(|path| bare && path.is_file()).unwrap_or_else(|| named.clone());
        Self {
            worker: config.worker.clone(),
            recovery: config.recovery.clone(),
            fallback: config.fallback.clone(),
            program,
            config: file,
        }
    }

    fn policy(&self) -> Policy {
        let (worker, recovery) = (&self.worker, &self.recovery);
        let life = life::Policy {
            hello: worker.hello_s.0,
            load: recovery.load_s.0,
            stop: worker.stop_s.0,
            term: worker.term_s.0,
            hung: worker.hung_s.0,
        };
        Policy {
            card: life,
            cpu: life,
            helper: !recovery.helper.as_os_str().is_empty(),
            fallback: self.fallback.configured(),
            test: worker.load_call_s.0,
            test_idle: recovery.test_idle_s.0,
            hot: recovery.hot_c,
            cool: recovery.cool_c,
            pace: recovery.pace,
        }
    }
}

/// The ladder as it was left. Its time runs `pace` times as fast.
fn ladder(history: &History, pace: f64) -> Ladder {
    let used = history.records.iter().filter_map(|record| match record.what {
        What::Rung { rung, .. } => Some((rung, record.at.mul_f64(pace))),
        _ => None,
    });
    let boots = history.host_boots().into_iter().map(|at| at.mul_f64(pace));
    Ladder::new(used.collect(), boots.collect())
}

/// How often the ladder's last rung was used.
fn host_restarts(history: &History) -> u64 {
    let last = |record: &&Record| matches!(record.what, What::Rung { rung: Rung::R5, .. });
    history.records.iter().filter(last).count() as u64
}

/// What the handle tells the task.
enum Order {
    Submit(Box<Job>),
    Abandon(RequestId),
    /// A client was told a sentence instead of an error.
    Spoken,
    Stop,
}

/// The handle. Clones speak to the same service.
#[derive(Clone)]
pub struct Service {
    /// Unbounded, but each connection has at most one request and each request, with a
    /// bounded number of choices, is submitted and abandoned once, so that bounds it.
    orders: mpsc::UnboundedSender<Order>,
    settings: Arc<watch::Sender<Settings>>,
    status: watch::Receiver<Status>,
    last_id: Arc<AtomicU64>,
    clock: Clock,
    metrics: Metrics,
    ledger: Ledger,
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
        let root = SysRoot::new(&launch.recovery.system_root);
        let (ledger, history) = Ledger::open(&launch.recovery.state_dir, boot::id(&root));
        let clock = Clock::start_at(history.base);
        let machine = Machine::new(launch.policy(), ladder(&history, launch.recovery.pace));
        let (worker, recovery) = (launch.worker.clone(), launch.recovery.clone());
        let metrics = Metrics::default();
        metrics.host_restarted(host_restarts(&history));
        let records = ledger.clone();
        let hands = Outside::new(launch, ledger);
        let parts = Parts {
            machine,
            hands,
            settings: current,
            publish,
            beat: Box::new(beat),
            worker,
            recovery,
            metrics: metrics.clone(),
        };
        let service = Self {
            orders,
            settings: Arc::new(settings),
            status,
            last_id: Arc::new(AtomicU64::new(0)),
            clock,
            metrics,
            ledger: records,
        };
        (service, tokio::spawn(run::run(Actor::new(parts), inbox, clock)))
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
            let limits = &settings.limits;
            let times = Times {
                arrived: now,
                deadline: now + limits.request_timeout_s.0,
                hold: now + limits.hold_s.0,
            };
            Job::new(id, request, events, admit, times)
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

    /// Counts a client that was told a sentence instead of an error.
    pub fn spoken(&self) {
        // A service that has ended counts nothing.
        let _ = self.orders.send(Order::Spoken);
    }

    /// What the service is doing now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// What it is doing, change by change.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the status fulfils `wanted`, or the service has ended.
    pub async fn wait_for(&self, wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        match status.wait_for(wanted).await {
            Ok(status) => status.clone(),
            Err(_) => self.status(),
        }
    }

    /// Where numbers are recorded.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The last incidents, newest first.
    pub fn incidents(&self) -> Vec<Story> {
        self.ledger.stories()
    }

    /// What was recorded last, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.ledger.recent()
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
mod sim;
#[cfg(test)]
pub(crate) mod tests;
