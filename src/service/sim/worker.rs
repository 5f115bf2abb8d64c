//! A worker's process in virtual time.

use std::time::Duration;

use super::world::Symptom;
use super::{Dice, token};
use crate::chat::{Done, Event, Finish, RequestId, Started, Token, Usage};
use crate::fault::{Failure, Fault};
use crate::link::frame::{Activity, Command, Health, ModelInfo, Report};
use crate::machine::Seat;

/// What a process does next.
#[derive(Debug)]
pub enum Spoke {
    Begin,
    Loaded,
    Hears(Box<Command>),
    /// The next token of the request under way.
    Token,
    Tested(Option<String>),
    /// One more model is loaded, where it fits; these may make room.
    Added(String, Vec<String>),
    Says(Report),
    Exit,
}

/// The request under way.
#[derive(Clone, Debug)]
struct Job {
    id: RequestId,
    model: Option<String>,
    seed: u64,
    index: u32,
    tokens: u32,
}

pub struct Process {
    pub number: u64,
    pub linked: bool,
    seat: Seat,
    load: Duration,
    ready: bool,
    /// What is loaded, and how many models have room.
    models: Vec<String>,
    room: usize,
    job: Option<Job>,
    /// Since when its card thread does not come back.
    stuck: Option<Duration>,
    /// SIGTERM does not reach it while its card hangs.
    stubborn: bool,
}

/// What it says, and what it will do when.
type Words = (Option<Report>, Vec<(Duration, Spoke)>);

impl Process {
    pub fn new(number: u64, seat: Seat, load: Duration, stubborn: bool, room: usize) -> Self {
        let models = vec!["first".to_owned()];
        let (ready, job, stuck) = (false, None, None);
        Self { number, linked: true, seat, load, ready, models, room, job, stuck, stubborn }
    }

    /// Whether SIGTERM does nothing.
    pub fn deaf(&self, symptom: Option<Symptom>) -> bool {
        self.stubborn && (self.stuck.is_some() || symptom == Some(Symptom::Silence))
    }

    pub fn speak(&mut self, spoke: Spoke, symptom: Option<Symptom>, now: Duration, dice: &mut Dice) -> Words {
        let hangs = matches!(symptom, Some(Symptom::Stall | Symptom::Dead | Symptom::Silence));
        let works = matches!(spoke, Spoke::Loaded | Spoke::Token | Spoke::Tested(_) | Spoke::Added(..));
        if works && (hangs || self.stuck.is_some()) {
            self.stuck.get_or_insert(now);
            return (None, Vec::new());
        }
        match spoke {
            Spoke::Begin => self.begin(symptom, now),
            Spoke::Loaded => {
                self.ready = true;
                let model = ModelInfo { name: "first".into(), ..Default::default() };
                (Some(Report::Ready(model)), vec![(Duration::from_millis(1), health(symptom))])
            }
            Spoke::Hears(command) => self.hear(*command, symptom, now, dice),
            Spoke::Token => self.token(symptom, dice),
            Spoke::Tested(model) => {
                let wrong = u32::from(symptom == Some(Symptom::Wrong));
                let model = model.or_else(|| self.models.last().cloned()).unwrap();
                assert!(self.models.contains(&model), "{model} is to be tested, but not loaded");
                (Some(Report::Tested { model, tokens: vec![1, 2, 3 + wrong] }), Vec::new())
            }
            Spoke::Added(model, evict) => self.add(model, evict, symptom),
            Spoke::Says(report) => (Some(report), Vec::new()),
            Spoke::Exit => (None, Vec::new()),
        }
    }

    fn begin(&mut self, symptom: Option<Symptom>, now: Duration) -> Words {
        let hello = Report::Hello { version: env!("CARGO_PKG_VERSION").into(), pid: 1 };
        let soon = Duration::from_millis(300);
        let fails = |fault| {
            let says = Spoke::Says(Report::Fatal(Failure::new(fault, "simulated")));
            vec![(soon, says), (2 * soon, Spoke::Exit)]
        };
        let follow = match symptom {
            Some(Symptom::Ports) => fails(Fault::CardPorts),
            Some(Symptom::Memory) => fails(Fault::CardMemory),
            Some(Symptom::Missing | Symptom::Link) => fails(Fault::CardAbsent),
            Some(Symptom::Firmware) => fails(Fault::CardDriver),
            Some(Symptom::Model) => fails(Fault::ModelChecksum),
            Some(Symptom::Output) => fails(Fault::CardOutput),
            Some(Symptom::Crash) => vec![(soon, Spoke::Exit)],
            Some(Symptom::LoadHang | Symptom::Stall | Symptom::Dead | Symptom::Silence) => {
                self.stuck = Some(now);
                Vec::new()
            }
            _ => vec![(self.load, Spoke::Loaded)],
        };
        (Some(hello), follow)
    }

    fn hear(&mut self, command: Command, symptom: Option<Symptom>, now: Duration, dice: &mut Dice) -> Words {
        let soon = Duration::from_millis(10);
        match command {
            Command::Ping { .. } if symptom == Some(Symptom::Silence) => (None, Vec::new()),
            Command::Ping { nonce } => {
                let call = self.stuck.map(|_| "axclrtEngineExecute".to_owned());
                let since = self.stuck.map_or(Duration::ZERO, |since| now.saturating_sub(since));
                let since_ms = u64::try_from(since.as_millis()).unwrap();
                let slowest_ms = vec![("axclrtEngineExecute".to_owned(), 20)];
                let activity = Activity { call, since_ms, slowest_ms, ..Activity::default() };
                let now_and_then = self.ready && self.stuck.is_none() && nonce % 8 == 0;
                let follow = now_and_then.then(|| (soon, health(symptom))).into_iter().collect();
                (Some(Report::Pong { nonce, activity }), follow)
            }
            Command::Warm { .. } => (None, Vec::new()),
            Command::Test { model } => (None, vec![(20 * soon, Spoke::Tested(model))]),
            Command::Load { model, evict } => {
                assert!(
                    self.job.is_none() && !self.models.contains(&model),
                    "{model} is loaded, or it is busy"
                );
                (None, vec![(dice.millis(500, 20_000), Spoke::Added(model, evict))])
            }
            Command::Unload { model } => {
                let at = self.models.iter().position(|loaded| *loaded == model).unwrap();
                self.models.remove(at);
                (Some(Report::Unloaded { model }), Vec::new())
            }
            Command::Generate { id, request, resume } => {
                let (seed, tokens) = (request.sampling.seed.unwrap(), request.limits.max_tokens.unwrap());
                let known = u32::try_from(resume.len()).unwrap();
                let model = request.model.clone();
                let there = |name: &str| self.models.iter().any(|loaded| loaded == name);
                assert!(self.seat == Seat::Cpu || there(model.as_deref().unwrap_or("first")), "not loaded");
                let place = |i: usize| token(self.seat, model.as_deref(), seed, u32::try_from(i).unwrap());
                let mine = |(i, t): (usize, &u32)| *t == place(i);
                assert!(resume.iter().enumerate().all(mine), "resumed with tokens of another model");
                self.job = Some(Job { id, model, seed, index: known, tokens });
                let started = Event::Started(Started::default());
                (Some(Report::Answer { id, event: started }), vec![(soon, Spoke::Token)])
            }
            Command::Cancel { id } => match self.job.take_if(|job| job.id == id) {
                Some(job) => (Some(done(job, Finish::Cancelled)), Vec::new()),
                None => (None, Vec::new()),
            },
            Command::Stop if self.stuck.is_some() => (None, vec![(Duration::from_secs(10), Spoke::Exit)]),
            Command::Stop => (None, vec![(dice.millis(10, 500), Spoke::Exit)]),
        }
    }

    fn token(&mut self, symptom: Option<Symptom>, dice: &mut Dice) -> Words {
        let Some(mut job) = self.job.take() else { return (None, Vec::new()) };
        if symptom == Some(Symptom::Output) {
            return (Some(Report::Fatal(Failure::new(Fault::CardOutput, "NaN"))), Vec::new());
        }
        if job.index >= job.tokens {
            return (Some(done(job, Finish::Length)), Vec::new());
        }
        let id = token(self.seat, job.model.as_deref(), job.seed, job.index);
        let made = Token { index: job.index, id, delta: Default::default(), logprobs: None };
        job.index += 1;
        let id = job.id;
        self.job = Some(job);
        let follow = vec![(dice.millis(20, 200), Spoke::Token)];
        (Some(Report::Answer { id, event: Event::Token(made) }), follow)
    }

    fn add(&mut self, model: String, evict: Vec<String>, symptom: Option<Symptom>) -> Words {
        let fails =
            |fault| Report::NotAdded { model: model.clone(), failure: Failure::new(fault, "simulated") };
        match symptom {
            Some(Symptom::Model) => return (Some(fails(Fault::ModelChecksum)), Vec::new()),
            Some(Symptom::Output | Symptom::Link) => {
                return (Some(Report::Fatal(Failure::new(Fault::CardCall, "offline"))), Vec::new());
            }
            _ => {}
        }
        let mut said = Vec::new();
        let mut evict =
            evict.into_iter().filter(|name| self.models.contains(name)).collect::<Vec<_>>().into_iter();
        while self.models.len() >= self.room {
            let Some(gone) = evict.next() else {
                said.push(fails(Fault::CardMemory));
                break;
            };
            self.models.retain(|loaded| *loaded != gone);
            said.push(Report::Unloaded { model: gone });
        }
        if self.models.len() < self.room {
            self.models.push(model.clone());
            said.push(Report::Added(ModelInfo { name: model, ..Default::default() }));
        }
        let later = (1..).zip(said).map(|(ms, report)| (Duration::from_millis(ms), Spoke::Says(report)));
        (None, later.collect())
    }
}

fn health(symptom: Option<Symptom>) -> Spoke {
    let temperature_c = if symptom == Some(Symptom::Hot) { 91.0 } else { 60.0 };
    Spoke::Says(Report::Health(Health { temperature_c, free_memory: 0 }))
}

fn done(job: Job, finish: Finish) -> Report {
    let usage = Usage { completion_tokens: job.index, ..Usage::default() };
    let (tail, timings) = Default::default();
    Report::Answer { id: job.id, event: Event::Done(Done { finish, tail, usage, timings, logprobs: None }) }
}
