//! The world as it is: worker processes, the card helper, watchers, the ledger.

use std::path::PathBuf;

use crate::chat::TokenId;
use crate::fault::{Failure, Result};
use crate::link::frame::Command;
use crate::link::spawn::{Incoming, Worker};
use crate::machine::{Note, Seat, Verb};
use crate::recover::{Helper, Reply, Run};

use super::Launch;
use super::hands::{Hands, Happening};

pub(super) struct Outside {
    launch: Launch,
    helper: Helper,
    run: Option<Run>,
    card: Option<Worker>,
    cpu: Option<Worker>,
}

impl Outside {
    pub fn new(launch: Launch) -> Self {
        let helper = Helper::new(&launch.recovery.helper, &launch.config);
        Self { launch, helper, run: None, card: None, cpu: None }
    }

    /// What happens next. May be dropped and called again.
    pub async fn next(&mut self) -> Happening {
        let happening = tokio::select! {
            incoming = worker(&mut self.card) => Happening::Worker(Seat::Card, incoming),
            incoming = worker(&mut self.cpu) => Happening::Worker(Seat::Cpu, incoming),
            reply = helper(&mut self.run) => Happening::Helper(reply),
        };
        match &happening {
            Happening::Worker(seat, Incoming::Exited(_)) => *self.seat(*seat) = None,
            Happening::Helper(Reply::Done(_) | Reply::Failed(_)) => self.run = None,
            _ => {}
        }
        happening
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
        self.run = Some(self.helper.start(verb, self.launch.recovery.pace));
    }

    fn record(&mut self, _note: &Note, _cause: Option<&Failure>) {}

    fn golden(&self, _fingerprint: &str) -> Option<Vec<TokenId>> {
        None
    }

    fn keep_golden(&mut self, _fingerprint: &str, _tokens: &[TokenId]) {}
}
