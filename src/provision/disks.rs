//! The data partitions before they are mounted: checked, repaired, made where they are none.
//! A factory reset makes them, too.

use std::path::Path;
use std::time::{Duration, Instant};

use super::report;
use crate::slots::setup::{Access, Setup};
use crate::sys::program;
use crate::sys::root::SysRoot;

const FSCK: &str = "usr/sbin/fsck.ext4";
const MKFS: &str = "usr/sbin/mkfs.ext4";
const LABELS: &str = "dev/disk/by-partlabel";
const STATE: &str = "state";
const MODELS: &str = "models";
/// For all of it; the unit's own limit is longer.
const PATIENCE: Duration = Duration::from_secs(270);

/// What asks for a factory reset, and whether that takes the models along. Some systems hide
/// or add the ending.
const ORDERS: [(&str, bool); 4] = [
    ("factory-reset", false),
    ("factory-reset.txt", false),
    ("factory-reset-models", true),
    ("factory-reset-models.txt", true),
];

/// The file on `setup` that asks for a reset.
pub fn order(models: bool) -> &'static str {
    if models { "factory-reset-models" } else { "factory-reset" }
}

/// Does it. Never fails: what goes wrong is reported.
pub fn disks(root: &SysRoot, given: Option<&Path>) -> Vec<String> {
    let mut work = Work { root, until: Instant::now() + PATIENCE, problems: Vec::new() };
    let reset = work.reset(given);
    for (label, made) in [(STATE, reset.is_some()), (MODELS, reset == Some(true))] {
        if made {
            tracing::warn!("factory reset: {label} is made again");
            work.make(label);
        } else {
            work.check(label);
        }
    }
    report::problems(root, "disks", &work.problems);
    work.problems
}

struct Work<'a> {
    root: &'a SysRoot,
    until: Instant,
    problems: Vec<String>,
}

impl Work<'_> {
    /// Takes the order for a reset, where there is one: whether it takes the models along. It
    /// is gone before it is carried out: one that stayed would reset at each start.
    fn reset(&mut self, given: Option<&Path>) -> Option<bool> {
        let found = |setup: &Setup| {
            let there = ORDERS.iter().filter(|(name, _)| setup.path(name).exists());
            there.map(|(_, models)| *models).reduce(|one, other| one || other)
        };
        // What is wrong with the partition is the settings' to report.
        let models = Setup::open(self.root, given, Access::Read).ok().as_ref().and_then(found)?;
        let setup = match Setup::open(self.root, given, Access::Write) {
            Ok(setup) => setup,
            Err(failure) => {
                self.problems.push(format!("the factory reset is not done: {failure}"));
                return None;
            }
        };
        for (name, _) in ORDERS {
            let path = setup.path(name);
            if path.exists()
                && let Err(e) =
                    std::fs::remove_file(&path).and_then(|()| crate::sys::store::sync_directory(&path))
            {
                self.problems.push(format!("the factory reset is not done: {}: {e}", path.display()));
                return None;
            }
        }
        Some(models)
    }

    fn run(&self, program: &str, arguments: &[&str], label: &str) -> Result<program::Ended, String> {
        let device = self.root.path(LABELS).join(label);
        let device = device.to_string_lossy();
        program::ended(&self.root.path(program), &[arguments, &[&device]].concat(), None, Some(self.until))
    }

    /// Checks and repairs; makes what cannot be.
    fn check(&mut self, label: &str) {
        if !self.root.path(LABELS).join(label).exists() {
            return self.problems.push(format!("the card has no partition `{label}`: write the image again"));
        }
        let mut last = String::new();
        // Repairs that lose nothing, then all of them.
        for arguments in [["-p"], ["-y"]] {
            match self.run(FSCK, &arguments, label) {
                // 1 and 2: repaired. It is not mounted yet, so nothing has to start anew.
                Ok(ended) if ended.code.is_some_and(|code| code & !3 == 0) => {
                    if ended.code != Some(0) {
                        tracing::warn!("{label}: repaired");
                    }
                    return;
                }
                Ok(ended) if ended.complaint.contains("is mounted") || ended.complaint.contains("in use") => {
                    return self.problems.push(format!("{label} is not checked: {}", ended.complaint));
                }
                Ok(ended) => last = ended.complaint,
                // It did not run, or did not end: that is no reason to erase anything.
                Err(e) => return self.problems.push(format!("{label} is not checked: {e}")),
            }
        }
        self.problems.push(format!("{label} could not be repaired, and is made again, empty: {last}"));
        self.make(label);
    }

    fn make(&mut self, label: &str) {
        let made = self.run(MKFS, &["-q", "-F", "-m", "0", "-L", label], label);
        match made {
            Ok(ended) if ended.code == Some(0) => {}
            Ok(ended) => self.problems.push(format!("{label} cannot be made: {}", ended.complaint)),
            Err(e) => self.problems.push(format!("{label} cannot be made: {e}")),
        }
    }
}
