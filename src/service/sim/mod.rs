//! Random faults in virtual time against the service's real mind: machine, queue, jobs.
//!
//! `make sim N=1000 SEED=1` runs seeds 1 to 1000; a failing seed is printed and replays alone.

mod clients;
mod worker;
mod world;

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::watch;

use super::actor::{Actor, Parts};
use super::{Launch, Order, Settings, Status};
use crate::chat::KeepAlive;
use crate::config::{Config, Installed};
use crate::machine::{Ladder, Machine, Rung, Seat, State, ladder};
use clients::Client;
use world::{Break, Next, Symptom, World};

/// Where an appliance's operating time begins in a run.
const START: Duration = Duration::from_secs(100_000);
/// Faults come for this long.
const STORM: Duration = Duration::from_secs(2400);
/// After the last fault a lasting state is reached within this.
const CALM: Duration = Duration::from_secs(5400);
/// A retry that was under way then is over within this.
const RETRY: Duration = Duration::from_secs(900);

/// The token of a model at some place of an answer: the CPU's is one and the same for all.
fn token(seat: Seat, model: Option<&str>, seed: u64, index: u32) -> u32 {
    let model = if seat == Seat::Cpu { "CPU" } else { model.unwrap_or("first") };
    crc32fast::hash(&[model.as_bytes(), &seed.to_le_bytes()[..], &index.to_le_bytes()[..]].concat())
}

/// Chance that can be repeated.
#[derive(Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0.next_u64() % most.max(1)
    }

    pub fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// What a run amounted to.
#[derive(Default)]
struct Tally {
    answered: u64,
    asked: u64,
    breaks: u64,
    rungs: [u64; 5],
    reboots: u64,
    degraded: u64,
    loads: u64,
}

struct Run {
    actor: Actor<World>,
    launch: Launch,
    clients: Vec<Client>,
    number: u64,
    tally: Tally,
    status: watch::Receiver<Status>,
    settings: watch::Sender<Settings>,
}

fn actor(
    launch: &Launch,
    world: World,
    settings: &watch::Sender<Settings>,
) -> (Actor<World>, watch::Receiver<Status>) {
    let (publish, status) = watch::channel(Status::default());
    let ladder = Ladder::new(world.used.clone(), world.boots.clone());
    let parts = Parts {
        machine: Machine::new(launch.policy(), ladder),
        hands: world,
        settings: settings.subscribe(),
        publish,
        beat: Box::new(|_| {}),
        worker: launch.worker.clone(),
        recovery: launch.recovery.clone(),
        metrics: Default::default(),
    };
    (Actor::new(parts), status)
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        let mut config = Config::default();
        if !dice.one_in(5) {
            config.recovery.helper = "simulated".into();
        }
        if dice.one_in(2) {
            config.fallback.model_dir = "simulated".into();
        }
        let launch = Launch::new(&config, "simulated".into());
        let mut settings = Settings::default();
        settings.limits.queue = dice.pick(&[1, 4, 16]);
        let keep = |dice: &mut Dice| dice.pick(&[KeepAlive::FOR_EVER, KeepAlive(300), KeepAlive(20)]);
        let models = ["first", "second", "third"].map(|name| {
            let keep_alive = keep(&mut dice);
            Installed { name: name.into(), keep_alive, ..Installed::default() }
        });
        settings.models = models.into_iter().take(dice.pick(&[1, 2, 3])).collect();
        let settings = watch::channel(settings).0;
        let (actor, status) = actor(&launch, World::new(dice, START), &settings);
        Self { actor, launch, clients: Vec::new(), number: 0, tally: Tally::default(), status, settings }
    }

    fn world(&mut self) -> &mut World {
        self.actor.hands()
    }

    /// Lets time pass until `until`; requests come all the time, breaks while `storm`.
    fn pass(&mut self, until: Duration, storm: bool) -> Result<(), String> {
        let mut request = self.world().now;
        let mut strike = self.world().now + Duration::from_secs(60);
        loop {
            let now = [Some(self.actor.wake()), self.world().due(), Some(request), storm.then_some(strike)]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(until)
                .max(self.world().now);
            if now >= until {
                return Ok(());
            }
            self.world().now = now;
            self.actor.at(now, 0.5);
            if now >= request {
                self.ask(now);
                request = now + self.world().dice.millis(500, 30_000);
            }
            if storm && now >= strike {
                self.strike(now);
                strike = now + self.world().dice.millis(1000, 400_000);
            }
            if self.world().due().is_some_and(|due| due <= now) {
                match self.world().next() {
                    Next::Happening(happening) => self.actor.hear(happening),
                    Next::Reboot => self.reboot(now)?,
                    Next::Nothing => {}
                }
            }
            self.actor.advance();
            self.look(now)?;
        }
    }

    fn ask(&mut self, now: Duration) {
        self.number += 1;
        self.tally.asked += 1;
        let models = self.settings.borrow().models.len() as u64;
        let world = self.world();
        let (tokens, buffered) = (1 + world.dice.below(60), world.dice.one_in(2));
        // The first is asked for most.
        let model = [None, Some("second"), Some("third")]
            .get(usize::try_from(world.dice.below(models * 2).saturating_sub(models)).unwrap())
            .copied()
            .flatten();
        let (client, job) = Client::new(self.number, now, u32::try_from(tokens).unwrap(), buffered, model);
        self.clients.push(client);
        self.actor.obey(Order::Submit(Box::new(job)));
        if self.world().dice.one_in(10)
            && let Some(client) = self.clients.first_mut()
        {
            client.left = true;
            let id = client.id;
            self.actor.obey(Order::Abandon(id));
        }
    }

    fn strike(&mut self, now: Duration) {
        self.tally.breaks += 1;
        let world = self.world();
        let symptom = world.dice.pick(&Symptom::ALL);
        let heals = match world.dice.below(8) {
            number @ 0..=5 => Rung::ALL.get(usize::try_from(number).unwrap_or(0)).copied(),
            _ => None,
        };
        let until = now + world.dice.millis(5_000, 3_000_000);
        world.strike(Break { symptom, heals, until });
    }

    /// The host restarts: everything but card, records and clients is new.
    fn reboot(&mut self, now: Duration) -> Result<(), String> {
        self.tally.reboots += 1;
        self.look(now)?;
        let fresh = World::new(self.world().dice.clone(), now);
        let mut world = std::mem::replace(self.world(), fresh);
        world.now = now + Duration::from_secs(30);
        (self.actor, self.status) = actor(&self.launch, world, &self.settings);
        // The requests of before have ended; whoever was not told would wait in vain.
        for client in self.clients.drain(..) {
            let mut client = client;
            if !client.look(now, &mut self.tally.answered)? {
                return Err(format!("request {} did not end before the host's restart", client.id.0));
            }
        }
        Ok(())
    }

    fn look(&mut self, now: Duration) -> Result<(), String> {
        let mut wrong = None;
        let answered = &mut self.tally.answered;
        self.clients.retain_mut(|client| match client.look(now, answered) {
            Ok(over) => !over,
            Err(what) => {
                wrong = Some(what);
                false
            }
        });
        let violation = self.world().violations.first().cloned();
        let limit = self.settings.borrow().limits.queue + 1;
        let at_hand = self.status.borrow().queue + usize::from(self.status.borrow().running);
        let crowded = (at_hand > limit).then(|| format!("{at_hand} requests are at hand, {limit} may be"));
        wrong.or(violation).or(crowded).map_or(Ok(()), Err)
    }

    fn check_budgets(&mut self) -> Result<(), String> {
        let helper = !self.launch.recovery.helper.as_os_str().is_empty();
        let used = self.world().used.clone();
        for rung in Rung::ALL {
            // Without helper and stand-in, workers are all there is: they are not counted.
            if rung == Rung::R1 && !helper {
                continue;
            }
            let times: Vec<Duration> = used.iter().filter(|(r, _)| *r == rung).map(|(_, at)| *at).collect();
            self.tally.rungs[usize::from(rung.number()) - 1] += times.len() as u64;
            for budget in ladder::budgets(rung) {
                for window in times.windows(budget.most + 1) {
                    let span = window[budget.most] - window[0];
                    if span < budget.span {
                        return Err(format!("{rung} was used {} times in {span:?}", window.len()));
                    }
                }
            }
        }
        Ok(())
    }

    /// The calm ends in a lasting state.
    fn settle(&mut self) -> Result<(), String> {
        let until = START + STORM + CALM + RETRY;
        loop {
            let state = self.status.borrow().state;
            match state {
                State::Ready | State::Busy | State::Degraded | State::Parked | State::NoCard => return Ok(()),
                other if self.world().now >= until => {
                    return Err(format!("after {CALM:?} of calm it is {other:?}"));
                }
                _ => {}
            }
            let next = self.world().now.max(START + STORM + CALM) + Duration::from_secs(10);
            self.pass(next, false)?;
            self.world().now = next;
        }
    }

    /// One whole run.
    fn play(mut self) -> Result<Tally, (String, String)> {
        let outcome = self
            .pass(START + STORM, true)
            .and_then(|()| self.pass(START + STORM + CALM, false))
            .and_then(|()| self.settle())
            .and_then(|()| self.check_budgets());
        self.tally.degraded = self.status.borrow().counters.degraded;
        self.tally.loads = self.world().loads;
        outcome.map(|()| std::mem::take(&mut self.tally)).map_err(|what| {
            let notes = self.world().notes.iter().map(|(at, note)| format!("  {at:?} {note:?}\n")).collect();
            (what, notes)
        })
    }
}

#[test]
fn random_faults_break_no_promise() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (runs, first) = (number("SIM_RUNS").unwrap_or(1000), number("SIM_SEED").unwrap_or(1));
    let mut sum = Tally::default();
    for seed in first..first + runs {
        match Run::new(seed).play() {
            Ok(tally) => {
                sum.answered += tally.answered;
                sum.asked += tally.asked;
                sum.breaks += tally.breaks;
                sum.reboots += tally.reboots;
                sum.degraded += tally.degraded;
                sum.loads += tally.loads;
                sum.rungs.iter_mut().zip(tally.rungs).for_each(|(all, one)| *all += one);
            }
            Err((what, notes)) => panic!("seed {seed}: {what}\n{notes}replay: make sim N=1 SEED={seed}"),
        }
    }
    println!(
        "{runs} runs: {} faults, rungs R1–R5 used {:?} times, {} restarts of the host; {} of {} requests answered ({} on the CPU), {} loads of further models",
        sum.breaks, sum.rungs, sum.reboots, sum.answered, sum.asked, sum.degraded, sum.loads
    );
    assert!(runs < 100 || sum.loads > runs, "models were hardly exchanged");
    assert!(runs < 100 || sum.rungs.iter().all(|&used| used > 0), "some rung was never used");
}
