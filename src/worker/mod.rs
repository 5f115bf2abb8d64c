//! The worker process: it may hang or die, and the supervisor copes.
//!
//! | thread | does |
//! |---|---|
//! | main, the *card thread* | every call to the card, from load to unload; answers requests |
//! | `io` | reads commands; answers pings at once, whatever the card does |
//! | `signals` | turns SIGTERM and SIGINT into a stop |
//! | `last-resort` | ends the process if a stop gets stuck in a call |
//!
//! See `docs/worker.md`.

mod answer;
mod card;
mod checkup;
mod exit;
mod inbox;
mod once;
mod reports;
mod session;
mod settings;
mod test_prompt;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub use exit::exit_code;
pub use once::{Once, answer_once};
pub use settings::{Package, Settings};

use self::inbox::{Inbox, Job, Task};
use self::reports::Reports;
use crate::axcl::{Gauge, exit_now};
use crate::chat::Event;
use crate::fault::{Failure, Fault, Result};
use crate::link::frame::{Activity, Command, Report};
use crate::link::pipe::Reader;

/// Of −1000 to 1000: counts as half of the memory in addition to what the worker has.
const OOM_SCORE: &str = "500";

/// Serves the supervisor at the other end of `socket` until it says stop, goes away, or
/// SIGTERM comes. Must be called on the main thread, which becomes the card thread.
///
/// # Errors
/// What made it impossible to go on; already reported to the supervisor. The process is
/// to end with its [`exit_code`].
pub fn serve(settings: &Settings, socket: UnixStream) -> Result<()> {
    let lost = |e: io::Error| Failure::new(Fault::WorkerLink, format!("the supervisor's socket: {e}"));
    go_first();
    let gauge = Arc::new(Gauge::default());
    let inbox = Arc::new(Inbox::default());
    let reports = Arc::new(Reports::new(socket.try_clone().map_err(lost)?, Arc::clone(&inbox)));
    reports.send(&Report::Hello { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() });
    watch_signals(&inbox)?;
    start_last_resort(&inbox, &gauge, settings.shutdown_deadline)?;
    let io = Io { inbox: Arc::clone(&inbox), reports: Arc::clone(&reports), gauge: Arc::clone(&gauge) };
    start("io", move || io.run(socket))?;
    let outcome = card::run(settings, &gauge, &inbox, &reports);
    if let Err(failure) = &outcome {
        tracing::error!(%failure, "the worker cannot go on");
        reports.send(&Report::Fatal(failure.clone()));
    }
    outcome
}

/// Out of memory, the kernel is to take the worker, which is replaced within seconds, and not what is
/// small beside it: the supervisor, the network, ssh. Without this it has the supervisor's protection.
fn go_first() {
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::warn!("the kernel was not told to take the worker first when memory runs out: {e}");
    }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
        .map_err(|e| Failure::new(Fault::Internal, format!("the {name} thread cannot be started: {e}")))
}

fn watch_signals(inbox: &Arc<Inbox>) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|e| Failure::new(Fault::Internal, format!("signals cannot be watched: {e}")))?;
    let inbox = Arc::clone(inbox);
    start("signals", move || {
        for _ in signals.forever() {
            tracing::info!("asked to stop by a signal");
            inbox.stop();
        }
    })
}

/// Once a stop is asked for, the process ends without ceremony when no call to the card
/// completes for `deadline`: then one is stuck, and so would be the runtime's own exit.
fn start_last_resort(inbox: &Arc<Inbox>, gauge: &Arc<Gauge>, deadline: Duration) -> Result<()> {
    let (inbox, gauge) = (Arc::clone(inbox), Arc::clone(gauge));
    start("last-resort", move || {
        inbox.wait_for_stop();
        loop {
            let before = gauge.read().progress;
            thread::sleep(deadline);
            let now = gauge.read();
            if now.progress == before {
                tracing::error!(activity = ?now, "the stop is stuck: leaving at once");
                exit_now(exit::STUCK);
            }
        }
    })
}

/// The I/O thread's side.
struct Io {
    inbox: Arc<Inbox>,
    reports: Arc<Reports>,
    gauge: Arc<Gauge>,
}

impl Io {
    fn run(&self, socket: UnixStream) {
        let mut commands = Reader::<_, Command>::new(socket);
        loop {
            match commands.receive() {
                Ok(Some(command)) => self.obey(command),
                Ok(None) => {
                    tracing::info!("the supervisor is gone");
                    break;
                }
                Err(failure) => {
                    tracing::error!(%failure, "the link is lost");
                    break;
                }
            }
        }
        self.inbox.stop();
    }

    fn obey(&self, command: Command) {
        match command {
            Command::Ping { nonce } => {
                self.reports.send(&Report::Pong { nonce, activity: activity(&self.gauge) });
            }
            Command::Generate { id, request, resume } => {
                let job = Job::new(id, request, resume);
                if !self.inbox.push(Task::Answer(job)) {
                    let failure = Failure::new(Fault::Internal, format!("request {} came twice", id.0));
                    self.reports.send(&Report::Answer { id, event: Event::Failed(failure) });
                }
            }
            Command::Warm { request, resume } => drop(self.inbox.push(Task::Warm { request, resume })),
            Command::Test { model } => drop(self.inbox.push(Task::Test { model })),
            Command::Load { model, evict } => drop(self.inbox.push(Task::Load { model, evict })),
            Command::Unload { model } => drop(self.inbox.push(Task::Unload { model })),
            Command::Cancel { id } => self.inbox.cancel(id),
            Command::Stop => {
                tracing::info!("asked to stop by the supervisor");
                self.inbox.stop();
            }
        }
    }
}

/// What the card thread is in, as it is reported.
fn activity(gauge: &Gauge) -> Activity {
    let now = gauge.read();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Activity {
        phase: now.phase.to_owned(),
        call: now.call.map(str::to_owned),
        since_ms: millis(now.since),
        progress: now.progress,
        slowest_ms: gauge.slowest().map(|(name, time)| (name.to_owned(), millis(time))).collect(),
    }
}
