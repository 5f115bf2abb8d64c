//! Carries decisions out: keeps the record, tells others, orders the firmware.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::TOLD;
use super::firmware::Firmware;
use super::policy::{self, Decision, Facts, Restart, Role};
use super::record::{Record, Slot};
use crate::fault::{Failure, Fault, Result};
use crate::sys::root::SysRoot;
use crate::sys::store;

const KEPT: &str = "var/lib/llm8850-slots/slots.json";
const LOCK: &str = "var/lib/llm8850-slots/lock";
const OS_RELEASE: &str = "usr/lib/os-release";
/// The oldest version that this system allows to be installed after it.
const FLOOR: &str = "usr/lib/llm8850/minimum-version";

/// How far an update is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Update {
    pub bundle: String,
    pub version: String,
    pub percent: u8,
    /// What is done, or why it failed.
    pub what: String,
    pub failed: bool,
}

/// `slots.json`, as others read it.
#[derive(Serialize)]
struct Told<'a> {
    running: Slot,
    on_trial: bool,
    #[serde(flatten)]
    record: &'a Record,
    #[serde(skip_serializing_if = "Option::is_none")]
    update: Option<Update>,
}

/// The record with its machine.
pub struct Keeper<F> {
    root: SysRoot,
    firmware: F,
}

impl<F: Firmware> Keeper<F> {
    pub fn new(root: SysRoot, firmware: F) -> Self {
        Self { root, firmware }
    }

    pub fn firmware(&self) -> &F {
        &self.firmware
    }

    pub fn root(&self) -> &SysRoot {
        &self.root
    }

    /// Restarts the machine.
    ///
    /// # Errors
    /// [`Fault::HostReboot`].
    pub fn restart(&mut self, into: Restart) -> Result<()> {
        self.firmware.restart(into)
    }

    /// What the machine tells.
    ///
    /// # Errors
    /// [`Fault::Bootloader`] where its firmware knows of no slots.
    pub fn facts(&self) -> Result<Facts> {
        let started = self
            .firmware
            .started()
            .ok_or_else(|| Failure::new(Fault::Bootloader, "it tells of no slot that it started"))?;
        let read = |path: &str| std::fs::read_to_string(self.root.path(path)).unwrap_or_default();
        let version = read(OS_RELEASE).lines().find_map(|line| {
            line.strip_prefix("IMAGE_VERSION=").map(|version| version.trim_matches(['"', '\'']).to_owned())
        });
        Ok(Facts {
            running: started.slot,
            tryboot: started.tryboot,
            committed: self.firmware.committed(),
            version: version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
            floor: read(FLOOR).trim().into(),
        })
    }

    /// Reads the record; a damaged one counts as none.
    fn read(&self) -> Record {
        let path = self.root.path(KEPT);
        let read = std::fs::read(&path).map_err(|e| e.to_string());
        read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string())).unwrap_or_else(|e| {
            warn!("{}: {e}: what was known of the slots is gone", path.display());
            Record::default()
        })
    }

    /// Reads something off.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn look<T>(&self, read: impl FnOnce(&Record, &Facts) -> T) -> Result<T> {
        let facts = self.facts()?;
        Ok(read(&self.read(), &facts))
    }

    /// Decides by `policy` and carries that out: whether the machine restarts.
    ///
    /// # Errors
    /// [`Fault::Slots`] with the policy's refusal; what could not be carried out.
    pub fn decide(
        &mut self,
        policy: impl FnOnce(&Record, &Facts) -> std::result::Result<Decision, String>,
    ) -> Result<bool> {
        let lock = self.lock();
        let mut facts = self.facts()?;
        let decision = policy(&self.read(), &facts).map_err(|why| Failure::new(Fault::Slots, why))?;
        decision.says.iter().for_each(|said| info!("{said}"));
        if let Some(slot) = decision.commit {
            self.firmware.commit(slot)?;
            facts.committed = Some(slot);
        }
        let saved = self.save(&decision.record);
        self.tell(&decision.record, &facts, None);
        drop(lock);
        match (decision.restart, saved) {
            // Attempts that are not counted would never end.
            (None | Some(Restart::Trial), Err(failure)) => Err(failure),
            (None, Ok(())) => Ok(false),
            (Some(restart), _) => self.firmware.restart(restart).map(|()| true),
        }
    }

    /// The system started: whether it restarts. A lost sector that cannot be written is reported, and
    /// is no failure: its partition is made again next, for the slot that [`Self::meant`] tells.
    ///
    /// # Errors
    /// As [`Self::decide`].
    pub fn start(&mut self) -> Result<bool> {
        let mut lost = None;
        let decided = self.decide(|record, facts| {
            let mut decision = policy::start(record, facts);
            if facts.committed.is_none() && decision.restart.is_none() {
                lost = decision.commit.take();
            }
            Ok(decision)
        });
        if let (Some(slot), Ok(_)) = (lost, &decided)
            && let Err(failure) = self.firmware.commit(slot)
        {
            error!(code = failure.fault.code(), "{failure}");
        }
        decided
    }

    /// What `autoboot.txt` is to name where it must be made again.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn meant(&self) -> Result<Slot> {
        self.look(|record, facts| policy::settle(record, facts).1)
    }

    /// Whether what runs is a trial.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn on_trial(&self) -> Result<bool> {
        self.look(|record, facts| policy::settle(record, facts).2 == Role::Trial)
    }

    /// Tells others how far an update is.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn tell_update(&self, update: &Update) -> Result<()> {
        let facts = self.facts()?;
        self.tell(&policy::settle(&self.read(), &facts).0, &facts, Some(update.clone()));
        Ok(())
    }

    /// One change at a time. Where the partition takes no file, that is the save's to report.
    fn lock(&self) -> Option<File> {
        let path = self.root.path(LOCK);
        std::fs::create_dir_all(path.parent()?).ok()?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
        flock(&lock, FlockOperation::LockExclusive).ok()?;
        Some(lock)
    }

    fn save(&self, record: &Record) -> Result<()> {
        let path = self.root.path(KEPT);
        let saved = serde_json::to_vec_pretty(record).map_err(std::io::Error::from);
        saved
            .and_then(|bytes| store::replace(&path, &bytes))
            .map_err(|e| Failure::new(Fault::Slots, format!("{}: {e}", path.display())))
    }

    /// An update's end is told until the next one, or the next start of the machine.
    fn tell(&self, record: &Record, facts: &Facts, update: Option<Update>) {
        let path = self.told();
        let before = || {
            let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            serde_json::from_value(told.get("update")?.clone()).ok()
        };
        let on_trial = policy::settle(record, facts).2 == Role::Trial;
        let update = update.or_else(before);
        let told = Told { running: facts.running, on_trial, record, update };
        let written = serde_json::to_vec_pretty(&told).map_err(std::io::Error::from).and_then(|bytes| {
            std::fs::create_dir_all(self.root.path(TOLD))?;
            store::replace(&path, &bytes)
        });
        if let Err(e) = written {
            warn!("{}: {e}", path.display());
        }
    }

    fn told(&self) -> PathBuf {
        self.root.path(TOLD).join("slots.json")
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
pub(super) mod tests;
