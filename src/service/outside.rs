//! The world as it is: worker processes, the card helper, watchers, the ledger.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::chat::TokenId;
use crate::detect::Watch;
use crate::fault::{Failure, Result};
use crate::ledger::{Golden, Ledger, What};
use crate::link::frame::Command;
use crate::link::spawn::{Incoming, Worker};
use crate::machine::{Note, Seat, Verb};
use crate::recover::{Helper, Reply, Run};
use crate::sys::root::SysRoot;

use super::Launch;
use super::hands::{Hands, Happening};

/// How long a restart of the host waits for the ledger's disk.
const FLUSH: Duration = Duration::from_secs(2);

pub(super) struct Outside {
    launch: Launch,
    ledger: Ledger,
    golden: Golden,
    watch: Watch,
    /// Processes that may get stuck in the kernel.
    watched: watch::Sender<Vec<u32>>,
    helper: Helper,
    run: Option<Run>,
    card: Option<Worker>,
    cpu: Option<Worker>,
}

impl Outside {
    /// Must be called within a tokio runtime.
    pub fn new(launch: Launch, ledger: Ledger) -> Self {
        let recovery = &launch.recovery;
        let golden = Golden::open(&recovery.state_dir, &ledger);
        let (watched, processes) = watch::channel(Vec::new());
        let watch = Watch::start(&SysRoot::new(&recovery.system_root), processes);
        ledger.append(ledger.stamp(What::Boot));
        let helper = Helper::new(&launch.recovery.helper, &launch.config);
        Self { launch, ledger, golden, watch, watched, helper, run: None, card: None, cpu: None }
    }

    /// What happens next. May be dropped and called again.
    pub async fn next(&mut self) -> Happening {
        let happening = tokio::select! {
            incoming = worker(&mut self.card) => Happening::Worker(Seat::Card, incoming),
            incoming = worker(&mut self.cpu) => Happening::Worker(Seat::Cpu, incoming),
            reply = helper(&mut self.run) => Happening::Helper(reply),
            sighting = self.watch.next() => Happening::Sighted(sighting),
        };
        match &happening {
            Happening::Worker(seat, Incoming::Exited(_)) => {
                *self.seat(*seat) = None;
                self.watch_processes();
            }
            Happening::Helper(Reply::Done(_) | Reply::Failed(_)) => self.run = None,
            _ => {}
        }
        happening
    }

    fn watch_processes(&self) {
        let pids = self.card.iter().chain(&self.cpu).map(|worker| worker.pid).collect();
        self.watched.send_replace(pids);
    }

    fn seat(&mut self, seat: Seat) -> &mut Option<Worker> {
        match seat {
            Seat::Card => &mut self.card,
            Seat::Cpu => &mut self.cpu,
        }
    }
}

/// What a worker brings next; nothing while there is none.
async fn worker(worker: &mut Option<Worker>) -> Incoming {
    match worker {
        Some(worker) => worker.next().await,
        None => std::future::pending().await,
    }
}

/// What the card helper says next; nothing while it was not sent.
async fn helper(run: &mut Option<Run>) -> Reply {
    match run {
        Some(run) => run.next().await,
        None => std::future::pending().await,
    }
}

impl Hands for Outside {
    fn spawn(&mut self, seat: Seat) -> Result<u32> {
        let Launch { worker, fallback, program, config, .. } = &self.launch;
        let none = std::collections::BTreeMap::new();
        let (arguments, env): (Vec<PathBuf>, _) = match seat {
            Seat::Card => (Vec::new(), &worker.env),
            Seat::Cpu => {
                let (dir, runtime) = (fallback.model_dir.clone(), fallback.runtime.clone());
                (vec!["--model-dir".into(), dir, "--runtime".into(), runtime], &none)
            }
        };
        let spawned = Worker::spawn(program, config, &arguments, env)?;
        let pid = spawned.pid;
        *self.seat(seat) = Some(spawned);
        self.watch_processes();
        Ok(pid)
    }

    fn command(&mut self, seat: Seat, command: Command) -> Result<()> {
        self.seat(seat).as_ref().map_or(Ok(()), |worker| worker.command(command))
    }

    fn unlink(&mut self, seat: Seat) {
        if let Some(worker) = self.seat(seat) {
            worker.unlink();
        }
    }

    fn terminate(&mut self, seat: Seat) {
        if let Some(worker) = self.seat(seat) {
            worker.terminate();
        }
    }

    fn kill(&mut self, seat: Seat) {
        if let Some(worker) = self.seat(seat) {
            worker.kill();
        }
    }

    fn help(&mut self, verb: Verb) {
        // An earlier order that policy has given up is not listened to any more.
        let ledger = (verb == Verb::HostReboot).then(|| self.ledger.clone());
        let before = async move {
            if let Some(ledger) = ledger {
                ledger.flush(FLUSH).await;
            }
        };
        self.run = Some(self.helper.start_after(verb, self.launch.recovery.pace, before));
    }

    fn record(&mut self, note: &Note, cause: Option<&Failure>) {
        let what = match *note {
            Note::Incident(fault) => {
                What::Incident { fault, detail: cause.map(|cause| cause.detail.clone()).unwrap_or_default() }
            }
            Note::Rung(rung, fault) => What::Rung { rung, fault },
            Note::RungFailed(rung, fault) => What::RungFailed { rung, fault },
            Note::Recovered { rung, fault, took } => {
                What::Recovered { rung, fault, ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) }
            }
            Note::Resting { fault, wait } => What::Resting { fault, seconds: wait.as_secs() },
            Note::Retrying(fault) => What::Retrying { fault },
            Note::Heat { hot } => What::Heat { hot },
        };
        self.ledger.append(self.ledger.stamp(what));
    }

    fn golden(&self, fingerprint: &str) -> Option<Vec<TokenId>> {
        self.golden.get(fingerprint).map(<[TokenId]>::to_vec)
    }

    fn keep_golden(&mut self, fingerprint: &str, tokens: &[TokenId]) {
        self.golden.record(fingerprint, tokens.to_vec());
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.ledger.append(self.ledger.stamp(What::Stop));
    }
}
