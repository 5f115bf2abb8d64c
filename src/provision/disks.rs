//! The data partitions before anything uses them: checked, repaired, made where they are none.
//! A factory reset makes them, too. `state` is mounted here, too: where it is not, systemd puts
//! memory in its place (`var.mount`).

use std::path::Path;
use std::time::{Duration, Instant};

use super::report;
use crate::slots::setup::{Access, Setup};
use crate::sys::program;
use crate::sys::root::SysRoot;

const FSCK: &str = "usr/sbin/fsck.ext4";
const MKFS: &str = "usr/sbin/mkfs.ext4";
const MOUNT: &str = "usr/bin/mount";
/// What mount(8) ends with where the file system, not the call, is at fault.
const UNMOUNTABLE: i32 = 32;
const LABELS: &str = "dev/disk/by-partlabel";
const STATE: &str = "state";
const MODELS: &str = "models";
const VAR: &str = "var";
const MOUNTS: &str = "proc/self/mounts";
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
    let state = work.look(STATE, reset.is_some());
    work.mount_state(state);
    work.look(MODELS, reset == Some(true));
    report::problems(root, "disks", &work.problems);
    work.problems
}

/// Whether `/var` is in memory: nothing kept there outlives a restart.
pub fn forgetful(root: &SysRoot) -> bool {
    let mounts = std::fs::read_to_string(root.path(MOUNTS)).unwrap_or_default();
    let word = |line: &str, which| line.split_whitespace().nth(which).map(str::to_owned);
    // The last is the one that is seen.
    let var = mounts.lines().rev().find(|line| word(line, 1).as_deref() == Some("/var"));
    var.is_some_and(|line| word(line, 2).as_deref() == Some("tmpfs"))
}

/// What a look at a partition came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// Checked, repaired, or made.
    Fit,
    /// Not there, or not checked: it may be sound.
    Unknown,
    /// Mounted already.
    InUse,
}

/// Why something is not mounted.
struct Unmounted {
    /// By the file system's fault, not the call's.
    damaged: bool,
    why: String,
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

    /// Checks and repairs; makes what cannot be repaired, or is to be made.
    fn look(&mut self, label: &str, made: bool) -> Looked {
        if made {
            tracing::warn!("factory reset: {label} is made again");
            self.make(label);
            return Looked::Fit;
        }
        if !self.root.path(LABELS).join(label).exists() {
            self.problems.push(format!("the card has no partition `{label}`: write the image again"));
            return Looked::Unknown;
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
                    return Looked::Fit;
                }
                Ok(ended) if ended.complaint.contains("is mounted") || ended.complaint.contains("in use") => {
                    self.problems.push(format!("{label} is not checked: {}", ended.complaint));
                    return Looked::InUse;
                }
                Ok(ended) => last = ended.complaint,
                // It did not run, or did not end: that is no reason to erase anything.
                Err(e) => {
                    self.problems.push(format!("{label} is not checked: {e}"));
                    return Looked::Unknown;
                }
            }
        }
        self.problems.push(format!("{label} could not be repaired, and is made again, empty: {last}"));
        self.make(label);
        Looked::Fit
    }

    fn make(&mut self, label: &str) {
        let made = self.run(MKFS, &["-q", "-F", "-m", "0", "-L", label], label);
        match made {
            Ok(ended) if ended.code == Some(0) => {}
            Ok(ended) => self.problems.push(format!("{label} cannot be made: {}", ended.complaint)),
            Err(e) => self.problems.push(format!("{label} cannot be made: {e}")),
        }
    }

    /// Mounts `state`. What cannot be is made again. Where that does not help either, the
    /// service answers, and remembers nothing.
    fn mount_state(&mut self, looked: Looked) {
        if looked == Looked::InUse || self.mounted(looked) {
            return;
        }
        let told = "nothing is remembered over a restart, for /var is in memory: write the image again, to another card";
        self.problems.push(told.into());
    }

    fn mounted(&mut self, looked: Looked) -> bool {
        if !self.root.path(LABELS).join(STATE).exists() {
            return false;
        }
        let mut mounted = self.mount();
        if let Err(Unmounted { damaged: true, why }) = &mounted
            && looked == Looked::Fit
        {
            self.problems.push(format!("{STATE} cannot be mounted, and is made again, empty: {why}"));
            self.make(STATE);
            mounted = self.mount();
        }
        mounted
            .map_err(|Unmounted { why, .. }| self.problems.push(format!("{STATE} cannot be mounted: {why}")))
            .is_ok()
    }

    fn mount(&self) -> Result<(), Unmounted> {
        let (device, place) = (self.root.path(LABELS).join(STATE), self.root.path(VAR));
        let arguments = [
            "-t",
            "ext4",
            "-o",
            "noatime,errors=remount-ro",
            &device.to_string_lossy(),
            &place.to_string_lossy(),
        ];
        match program::ended(&self.root.path(MOUNT), &arguments, None, Some(self.until)) {
            Ok(ended) if ended.code == Some(0) => Ok(()),
            Ok(ended) => Err(Unmounted { damaged: ended.code == Some(UNMOUNTABLE), why: ended.complaint }),
            Err(why) => Err(Unmounted { damaged: false, why }),
        }
    }
}
