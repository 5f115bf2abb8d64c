//! The service's mind: owns the queue, the running request and the machine's policy.
//! Everything it does is prompt: commands are queued, events are handed on without
//! waiting. It has no clock and no process of its own: the world is its [`Hands`].

mod attend;
mod carry_out;
mod models;
mod requests;
mod test_prompt;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;

use super::course::Course;
use super::estimate::Estimate;
use super::hands::Hands;
use super::job::Job;
use super::queue::Queue;
use super::recent::Recent;
use super::shelf::Shelf;
use super::status::{Loading, Status};
use super::{Order, Settings};
use crate::chat::RequestId;
use crate::config;
use crate::fault::{Failure, Fault};
use crate::link::frame::{Command, ModelInfo};
use crate::machine::{Event, Habits, Machine, Pulse, Seat, Speed, State};
use crate::metrics::Metrics;

/// The watchdog is fed, and the status refreshed, at least this often.
const BEAT: Duration = Duration::from_secs(1);
/// How long a worker may take to end a cancelled request; a prefill step may be under way.
const CANCEL: Duration = Duration::from_secs(30);

/// The request being answered.
struct Running {
    job: Job,
    /// Which worker answers it, or last did.
    seat: Seat,
    /// Whether that worker has it.
    sent: bool,
    since: Duration,
    /// When its last token came from this worker.
    token: Option<Duration>,
    course: Course,
}

impl Running {
    /// Whether its tokens are of another model than that in `seat`.
    fn strange_to(&self, seat: Seat) -> bool {
        self.seat != seat && self.job.tokens() > 0
    }
}

/// What is known of the worker in a seat.
#[derive(Default)]
struct Post {
    /// Whether its frames count.
    linked: bool,
    pid: Option<u32>,
    pulse: Option<Pulse>,
    /// When it, or the last one, was started.
    spawned: Option<Duration>,
    loading: Option<Loading>,
    model: Option<ModelInfo>,
    /// Whether it has the conversations of the one before.
    warm: bool,
}

/// What the actor is made with.
pub(super) struct Parts<H> {
    pub machine: Machine,
    pub hands: H,
    pub settings: watch::Receiver<Settings>,
    pub publish: watch::Sender<Status>,
    pub beat: Box<dyn FnMut(&Status) + Send>,
    pub worker: config::Worker,
    pub recovery: config::Recovery,
    pub metrics: Metrics,
}

pub(super) struct Actor<H> {
    parts: Parts<H>,
    /// Operating time.
    now: Duration,
    /// In 0..1, drawn anew with each happening: spreads waits.
    dice: f64,
    card: Post,
    cpu: Post,
    /// The models on the card.
    shelf: Shelf,
    queue: Queue,
    running: Option<Running>,
    /// Half told answers that wait for the model that began them.
    aside: VecDeque<Running>,
    /// A request that was given up while a worker had it, and when.
    cancelled: Option<(Seat, RequestId, Duration)>,
    /// Since the service was asked to stop: when its last request must have ended.
    drain: Option<Duration>,
    finished: bool,
    estimate: Estimate,
    habits: Habits,
    speed: Speed,
    /// The card turned out slow while it was busy.
    slow: bool,
    trial: test_prompt::Trial,
    /// What a new worker is to have on its card.
    recent: Recent,
    /// What the present incident last saw.
    cause: Option<Failure>,
    told: State,
    status: Status,
}

impl<H: Hands> Actor<H> {
    pub fn new(parts: Parts<H>) -> Self {
        let shelf = Shelf::new(&parts.settings.borrow().models);
        Self {
            parts,
            shelf,
            now: Duration::ZERO,
            dice: 0.5,
            card: Post::default(),
            cpu: Post::default(),
            queue: Queue::default(),
            running: None,
            aside: VecDeque::new(),
            cancelled: None,
            drain: None,
            finished: false,
            estimate: Estimate::default(),
            habits: Habits::default(),
            speed: Speed::default(),
            slow: false,
            trial: test_prompt::Trial::default(),
            recent: Recent::default(),
            cause: None,
            told: State::Booting,
            status: Status::default(),
        }
    }

    pub fn hands(&mut self) -> &mut H {
        &mut self.parts.hands
    }

    /// Whether the last worker is gone after a stop.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Sets the time for what follows.
    pub fn at(&mut self, now: Duration, dice: f64) {
        // Time never goes back, whatever the clock says.
        self.now = self.now.max(now);
        self.dice = dice;
    }

    /// When [`Self::advance`] is due without anything happening.
    pub fn wake(&self) -> Duration {
        let pulse = |post: &Post| post.pulse.as_ref().filter(|_| post.linked).map(Pulse::deadline);
        let runs = self.running.iter().chain(&self.aside);
        let running = runs.map(|run| run.job.due).min();
        let cancelled = self.cancelled.map(|(_, _, since)| since + CANCEL);
        let drain =
            self.drain.filter(|_| !self.queue.is_empty() || self.running.is_some() || !self.aside.is_empty());
        [Some(self.now + BEAT), self.parts.machine.deadline(), pulse(&self.card), pulse(&self.cpu), running]
            .into_iter()
            .chain([cancelled, self.queue.deadline(), drain])
            .flatten()
            .min()
            .unwrap_or_default()
    }

    /// Does what time and circumstances ask for.
    pub fn advance(&mut self) {
        let busy = self.running.as_ref().filter(|run| run.sent).map(|run| run.seat);
        let busy = busy.or(self.shelf.is_changing().then_some(Seat::Card));
        self.happen(Event::Tick { busy });
        if self.slow && busy.is_none() {
            self.slow = false;
            let usual = self.speed.usual().unwrap_or_default();
            let detail = format!("it decoded less than half of its usual {usual:.1} tokens/s for a minute");
            self.cause = Some(Failure::new(Fault::CardSlow, detail));
            self.happen(Event::Slow);
        }
        self.check_pulse(Seat::Card);
        self.check_pulse(Seat::Cpu);
        self.check_cancelled();
        self.check_load();
        self.expire();
        self.finish_drain();
        self.dispatch();
        self.tidy_models();
        self.tell();
    }

    pub fn obey(&mut self, order: Order) {
        match order {
            Order::Submit(job) => self.admit(*job),
            Order::Abandon(id) => self.abandon(id),
            Order::Spoken => self.status.counters.spoken_fallbacks += 1,
            Order::Stop => self.stop(),
        }
    }

    fn post(&mut self, seat: Seat) -> &mut Post {
        match seat {
            Seat::Card => &mut self.card,
            Seat::Cpu => &mut self.cpu,
        }
    }

    fn check_pulse(&mut self, seat: Seat) {
        let now = self.now;
        let post = self.post(seat);
        let linked = post.linked;
        let Some(pulse) = post.pulse.as_mut().filter(|_| linked) else { return };
        let hung = pulse.check(now);
        let ping = pulse.ping(now);
        let sent = ping.map_or(Ok(()), |nonce| self.parts.hands.command(seat, Command::Ping { nonce }));
        if let Err(failure) = hung.and(sent) {
            self.distrust(seat, failure);
        }
    }

    fn check_cancelled(&mut self) {
        if let Some((seat, id, since)) = self.cancelled
            && self.now >= since + CANCEL
        {
            let detail = format!("request {} does not end although cancelled", id.0);
            self.distrust(seat, Failure::new(Fault::WorkerLink, detail));
        }
    }

    /// Publishes the status and feeds the watchdog.
    fn tell(&mut self) {
        let machine = &self.parts.machine;
        let serving = machine.serving();
        let busy = self.running.as_ref().is_some_and(|run| run.sent) || self.shelf.is_changing();
        self.tell_models();
        let machine = &self.parts.machine;
        let state = if self.drain.is_some() { State::Stopping } else { machine.state(busy) };
        let post = if serving == Some(Seat::Cpu) { &self.cpu } else { &self.card };
        let prompt = post.pulse.as_ref().is_some_and(|pulse| pulse.prompt(self.now));
        let status = &mut self.status;
        status.state = state;
        status.ready = serving.is_some() && prompt && self.drain.is_none();
        status.degraded = machine.degraded();
        status.slow = self.speed.is_slow();
        status.queue = self.queue.len() + self.aside.len();
        status.running = self.running.is_some();
        status.failures = machine.failures();
        status.worker_pid = post.pid;
        status.loading.clone_from(&post.loading);
        if post.model.is_some() {
            status.model.clone_from(&post.model);
        }
        let since = |from: Duration| self.now.saturating_sub(from).as_secs();
        status.incident = machine.incident().map(|incident| super::status::Incident {
            code: incident.latest.code(),
            first: incident.first.code(),
            rung: incident.rung,
            seconds: since(incident.since),
        });
        status.next_try_s = machine.resting().map(|until| until.saturating_sub(self.now).as_secs());
        self.parts.publish.send_if_modified(|published| {
            let changed = *published != self.status;
            if changed {
                published.clone_from(&self.status);
            }
            changed
        });
        (self.parts.beat)(&self.status);
    }
}
