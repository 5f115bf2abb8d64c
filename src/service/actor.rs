//! The task that owns queue and worker. Everything it does is prompt: commands are
//! queued, events are handed on without waiting, the worker is watched from outside.

mod attend;

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::estimate::Estimate;
use super::job::Job;
use super::queue::Queue;
use super::status::{Phase, Status};
use super::ticket::Refused;
use super::{Launch, Order, Settings};
use crate::chat::RequestId;
use crate::fault::{Failure, Fault};
use crate::link::frame::Command;
use crate::link::spawn::Worker;
use crate::machine::{Event, Life, Policy, Pulse, State};
use crate::sys::clock::Clock;

/// The watchdog is fed, and the status refreshed, at least this often.
const BEAT: Duration = Duration::from_secs(1);
/// How long a worker may take to end a cancelled request; a prefill step may be under way.
const CANCEL: Duration = Duration::from_secs(30);

/// The request on the card.
struct Running {
    job: Job,
    /// Whether the present worker has it.
    sent: bool,
    since: Duration,
}

pub(super) struct Actor {
    launch: Launch,
    orders: mpsc::UnboundedReceiver<Order>,
    settings: watch::Receiver<Settings>,
    publish: watch::Sender<Status>,
    beat: Box<dyn FnMut(&Status) + Send>,
    clock: Clock,
    life: Life,
    worker: Option<Worker>,
    /// Whether the worker's frames count.
    linked: bool,
    pulse: Option<Pulse>,
    /// When the present worker, or the last one, was started.
    spawned: Option<Duration>,
    queue: Queue,
    running: Option<Running>,
    /// A request that was given up while on the card, and when.
    cancelled: Option<(RequestId, Duration)>,
    /// Since the service was asked to stop: when its last request must have ended.
    drain: Option<Duration>,
    estimate: Estimate,
    status: Status,
}

impl Actor {
    pub fn new(
        launch: Launch,
        orders: mpsc::UnboundedReceiver<Order>,
        settings: watch::Receiver<Settings>,
        publish: watch::Sender<Status>,
        clock: Clock,
        beat: Box<dyn FnMut(&Status) + Send>,
    ) -> Self {
        let policy = Policy {
            hello: launch.worker.hello_s.0,
            stop: launch.worker.stop_s.0,
            term: launch.worker.term_s.0,
        };
        Self {
            launch,
            orders,
            settings,
            publish,
            beat,
            clock,
            life: Life::new(policy),
            worker: None,
            linked: false,
            pulse: None,
            spawned: None,
            queue: Queue::default(),
            running: None,
            cancelled: None,
            drain: None,
            estimate: Estimate::default(),
            status: Status::default(),
        }
    }

    /// Runs until it was told to stop and the last worker is gone.
    pub async fn run(mut self) {
        loop {
            self.advance(self.clock.now());
            if self.life.state() == State::Stopped {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                order = self.orders.recv() => self.obey(order.unwrap_or(Order::Stop)),
                incoming = attend::next(&mut self.worker) => self.hear(incoming),
                () = self.clock.until(wake) => {}
            }
        }
    }

    fn wake(&self) -> Duration {
        let pulse = self.pulse.as_ref().filter(|_| self.linked).map(Pulse::deadline);
        let running = self.running.as_ref().map(|r| r.job.deadline);
        let cancelled = self.cancelled.map(|(_, since)| since + CANCEL);
        [Some(self.clock.now() + BEAT), self.life.deadline(), pulse, running, cancelled]
            .into_iter()
            .chain([self.queue.deadline(), self.drain.filter(|_| self.life.ready())])
            .flatten()
            .min()
            .unwrap_or_default()
    }

    /// Does what time and circumstances ask for.
    fn advance(&mut self, now: Duration) {
        self.happen(Event::Tick);
        self.check_pulse(now);
        self.expire(now);
        self.finish_drain(now);
        self.dispatch(now);
        self.tell(now);
    }

    fn check_pulse(&mut self, now: Duration) {
        let Some(pulse) = self.pulse.as_mut().filter(|_| self.linked) else { return };
        let hung = pulse.check(now);
        let ping = pulse.ping(now);
        let sent = ping.map_or(Ok(()), |nonce| self.command(Command::Ping { nonce }));
        let cancel = self.cancelled.filter(|(_, since)| now >= *since + CANCEL).map_or(Ok(()), |(id, _)| {
            Err(Failure::new(Fault::WorkerLink, format!("request {} does not end although cancelled", id.0)))
        });
        if let Err(failure) = hung.and(sent).and(cancel) {
            self.distrust(failure);
        }
    }

    /// Ends what waited or ran for too long.
    fn expire(&mut self, now: Duration) {
        for job in self.queue.take(|job| job.held() && now >= job.hold) {
            self.status.counters.refused += 1;
            job.refuse(self.not_ready(now));
        }
        for job in self.queue.take(|job| now >= job.deadline) {
            self.status.counters.failed += 1;
            let detail = format!("request {} waited in the queue until its time was over", job.id.0);
            job.fail(Failure::new(Fault::Timeout, detail));
        }
        if let Some(run) = self.running.take_if(|run| now >= run.job.deadline) {
            let detail = format!("request {} ended after {} tokens", run.job.id.0, run.job.tokens());
            self.give_up(run, Failure::new(Fault::Timeout, detail));
        }
    }

    /// Ends the running request from outside.
    fn give_up(&mut self, run: Running, failure: Failure) {
        warn!(request = run.job.id.0, code = failure.fault.code(), "{failure}");
        self.status.counters.failed += 1;
        self.cancel(&run);
        run.job.fail(failure);
    }

    fn cancel(&mut self, run: &Running) {
        if run.sent {
            self.cancelled = Some((run.job.id, self.clock.now()));
            if let Err(failure) = self.command(Command::Cancel { id: run.job.id }) {
                self.distrust(failure);
            }
        }
    }

    fn finish_drain(&mut self, now: Duration) {
        let Some(until) = self.drain else { return };
        if now >= until {
            for job in self.queue.take(|_| true) {
                self.status.counters.failed += 1;
                job.refuse(Refused::stopping());
            }
            if let Some(run) = self.running.take() {
                self.give_up(run, Refused::stopping().failure);
            }
        }
        if self.running.is_none() && self.queue.is_empty() {
            self.happen(Event::Stop);
        }
    }

    /// Gives the card its next request, or a new worker the request of the last one.
    fn dispatch(&mut self, now: Duration) {
        if !self.life.ready() || self.cancelled.is_some() {
            return;
        }
        if self.running.is_none() {
            self.running = self.queue.pop().map(|job| Running { job, sent: false, since: now });
        }
        let Some(run) = self.running.as_mut().filter(|run| !run.sent) else { return };
        run.sent = true;
        if run.job.tokens() > 0 {
            self.status.counters.resumes += 1;
            info!(request = run.job.id.0, tokens = run.job.tokens(), "continuing an answer");
        }
        let command = run.job.command();
        if let Err(failure) = self.command(command) {
            self.distrust(failure);
        }
    }

    fn command(&self, command: Command) -> Result<(), Failure> {
        self.worker.as_ref().map_or(Ok(()), |worker| worker.command(command))
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Submit(job) => self.admit(*job),
            Order::Abandon(id) => {
                if self.queue.remove(id).is_some() {
                    self.status.counters.abandoned += 1;
                } else if let Some(run) = self.running.take_if(|run| run.job.id == id) {
                    info!(request = id.0, tokens = run.job.tokens(), "the client left");
                    self.status.counters.abandoned += 1;
                    self.cancel(&run);
                }
            }
            Order::Stop if self.drain.is_none() => {
                let until = self.clock.now() + self.settings.borrow().limits.drain_s.0;
                self.drain = Some(until);
                info!(waiting = self.queue.len(), "stopping");
                for job in self.queue.take(Job::held) {
                    self.status.counters.refused += 1;
                    job.refuse(Refused::stopping());
                }
            }
            Order::Stop => {}
        }
    }

    fn admit(&mut self, mut job: Job) {
        let places = self.settings.borrow().limits.queue;
        let ahead = self.queue.len() + usize::from(self.running.is_some());
        if self.drain.is_some() {
            self.status.counters.refused += 1;
            return job.refuse(Refused::stopping());
        }
        if ahead > places {
            self.status.counters.refused += 1;
            let failure = Failure::new(Fault::Busy, format!("{ahead} requests are at hand"));
            return job.refuse(Refused { failure, retry_after: self.estimate.place() });
        }
        self.status.counters.requests += 1;
        if self.life.ready() {
            job.admit();
        }
        self.queue.push(job);
    }

    fn not_ready(&self, now: Duration) -> Refused {
        let (wait, loading) = match self.life.state() {
            State::Waiting { until } => (until.saturating_sub(now), Duration::ZERO),
            State::Starting { .. } | State::Loading => {
                (Duration::ZERO, now.saturating_sub(self.spawned.unwrap_or_default()))
            }
            _ => (Duration::ZERO, Duration::ZERO),
        };
        let detail = match &self.status.last_failure {
            Some(failure) => format!("the last worker ended: {failure}"),
            None => "it is still being loaded".into(),
        };
        let failure = Failure::new(Fault::NotReady, detail.trim_end_matches('.'));
        Refused { failure, retry_after: self.estimate.ready(wait, loading) }
    }

    fn tell(&mut self, now: Duration) {
        let prompt = self.pulse.as_ref().is_some_and(|pulse| pulse.prompt(now));
        let status = &mut self.status;
        status.ready = self.life.ready() && prompt && self.drain.is_none();
        status.queue = self.queue.len();
        status.running = self.running.is_some();
        status.failures = self.life.failures();
        status.phase = match self.life.state() {
            _ if self.drain.is_some() => Phase::Stopping,
            State::Ready { .. } if status.running => Phase::Busy,
            State::Ready { .. } => Phase::Ready,
            State::Loading => Phase::Loading,
            _ if status.failures == 0 && status.model.is_none() => Phase::Starting,
            _ => Phase::Recovering,
        };
        self.publish.send_if_modified(|published| {
            let changed = *published != self.status;
            if changed {
                published.clone_from(&self.status);
            }
            changed
        });
        (self.beat)(&self.status);
    }
}
