//! The order of things at each start. What was understood is safe on `state` before anything
//! on `setup` is changed, and that before anything is applied: whenever the power is cut, the
//! next start finds the file as it was, or what was imported of it.

use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use toml::Table;

use super::understand::{Understood, overlay, understand};
use super::{NAME, disks, report, system, text};
use crate::fault::{Failure, Fault, Result};
use crate::slots::setup::{Access, DEVICE, Setup};
use crate::slots::{Firmware, Keeper};
use crate::sys::root::SysRoot;
use crate::sys::{program, store};

const IMPORTED: &str = "var/lib/llm8850-settings/appliance.toml";
/// The file as it stands on `setup`, without secrets: to be put there again.
const COPY: &str = "var/lib/llm8850-settings/setup.toml";
const TEMPLATE: &str = "usr/share/llm8850/appliance.toml";
const READ_ME: &str = "usr/share/llm8850/READ-ME.txt";
const STATUS: &str = "status.txt";
const FSCK: &str = "usr/sbin/fsck.vfat";
const MKFS: &str = "usr/sbin/mkfs.vfat";
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the settings, keeps them, applies them, reports. `given` is a directory that stands
/// for the partition. Never fails: what goes wrong is reported, and the rest is done.
pub fn settings<F: Firmware>(root: &SysRoot, given: Option<&Path>, keeper: &Keeper<F>) -> Vec<String> {
    let mut work = Work { root, given, problems: Vec::new() };
    let imported = work.imported();
    let good = match work.open(keeper) {
        Ok(setup) => work.import(setup, &imported),
        Err(failure) => {
            work.problems.push(format!("{failure} The settings of the last start apply."));
            imported
        }
    };
    match own_key() {
        Ok(key) => work.problems.extend(system::apply(root, &good, &key)),
        Err(e) => work.problems.push(format!("the system gives no random numbers: {e}")),
    }
    report::problems(root, "settings", &work.problems);
    work.problems
}

/// There are other packages than before: whether the service's next start makes a difference.
pub fn packages(root: &SysRoot) -> bool {
    let mut work = Work { root, given: None, problems: Vec::new() };
    system::packages(root, &work.imported())
}

/// A key nobody knows.
fn own_key() -> std::result::Result<String, getrandom::Error> {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret)?;
    Ok(secret.iter().fold("sk-".to_owned(), |key, byte| format!("{key}{byte:02x}")))
}

struct Work<'a> {
    root: &'a SysRoot,
    given: Option<&'a Path>,
    problems: Vec<String>,
}

impl Work<'_> {
    fn failed(&mut self, path: &Path, e: &io::Error) {
        self.problems.push(format!("{}: {e}", path.display()));
    }

    /// What was imported at an earlier start.
    fn imported(&mut self) -> Table {
        let path = self.root.path(IMPORTED);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Table::new(),
            Err(e) => {
                self.failed(&path, &e);
                return Table::new();
            }
        };
        toml::from_str(&text).unwrap_or_else(|e| {
            self.problems.push(format!("{}: {}: it is made again", path.display(), e.message()));
            Table::new()
        })
    }

    /// Mounts the partition to be read. One that cannot be is repaired, then made again.
    fn open<F: Firmware>(&mut self, keeper: &Keeper<F>) -> Result<Setup> {
        let open = |access| Setup::open(self.root, self.given, access);
        let first = match open(Access::Read) {
            Ok(setup) => return Ok(setup),
            Err(failure) => failure,
        };
        let device = self.root.path(DEVICE);
        let device = device.to_string_lossy();
        let run = |path: &str, arguments: &[&str]| {
            program::run(&self.root.path(path), arguments, None, Some(Instant::now() + PATIENCE))
        };
        if !self.root.path(DEVICE).exists() {
            return Err(first);
        }
        let repaired = run(FSCK, &["-a", "-w", &device]);
        if let Ok(setup) = open(Access::Read) {
            self.problems.push(format!("{first} It was repaired."));
            return Ok(setup);
        }
        tracing::warn!("fsck.vfat: {repaired:?}");
        // Asked before the partition is mounted here: to tell, the firmware mounts it itself.
        let slot = keeper.meant();
        run(MKFS, &["-F", "32", "-n", "SETUP", &device]).map_err(|e| Failure::new(Fault::Setup, e))?;
        let setup = open(Access::Write)?;
        if let Ok(slot) = slot {
            setup.commit(slot)?;
        }
        self.problems.push(format!("{first} It was made again, with the settings of the last start."));
        Ok(setup)
    }

    /// The settings in force, once they are safe.
    fn import(&mut self, setup: Setup, imported: &Table) -> Table {
        let path = setup.path(NAME);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(e) => {
                if e.kind() != io::ErrorKind::NotFound {
                    self.failed(&path, &e);
                }
                // Lost, or a name half changed in a power cut.
                let copy = self.template();
                return self.restore(setup, &copy, imported);
            }
        };
        self.take(setup, &bytes, imported, false)
    }

    fn restore(&mut self, setup: Setup, copy: &[u8], imported: &Table) -> Table {
        tracing::warn!("{NAME} was not there: it is written again");
        self.take(setup, copy, imported, true)
    }

    /// What the file was when it was last seen, or what it is at first.
    fn template(&self) -> Vec<u8> {
        let read = |path: &str| std::fs::read(self.root.path(path)).ok();
        read(COPY).or_else(|| read(TEMPLATE)).unwrap_or_default()
    }

    fn take(&mut self, setup: Setup, bytes: &[u8], imported: &Table, missing: bool) -> Table {
        let Understood { good, problems, cleared, whole } = understand(bytes, imported, Path::new(NAME));
        let good = if whole { good } else { overlay(imported, &good) };
        let mistakes: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let kept = self.keep(&good, imported, cleared.as_deref().unwrap_or(bytes));
        let safe = kept && !disks::forgetful(self.root);
        let status = report::status(self.root, &good, &[mistakes.clone(), self.problems.clone()].concat());
        self.problems.extend(mistakes);
        let mut files = Vec::new();
        // Secrets leave the card only when they are elsewhere.
        if let Some(cleared) = cleared.filter(|_| safe) {
            files.push((NAME, cleared));
        } else if missing {
            files.push((NAME, bytes.to_vec()));
        }
        if read(&setup.path(STATUS)).ok().as_deref() != Some(status.as_bytes()) {
            files.push((STATUS, status.into_bytes()));
        }
        if !setup.path("READ-ME.txt").exists() {
            files.extend(std::fs::read(self.root.path(READ_ME)).ok().map(|text| ("READ-ME.txt", text)));
        }
        drop(setup);
        if !files.is_empty() {
            self.write(&files);
        }
        good
    }

    /// Whether everything that was understood is on `state`.
    fn keep(&mut self, good: &Table, imported: &Table, file: &[u8]) -> bool {
        let (path, copy) = (self.root.path(IMPORTED), self.root.path(COPY));
        let kept = path
            .parent()
            .map_or(Ok(()), |directory| {
                std::fs::create_dir_all(directory)?;
                std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            })
            .and_then(|()| {
                if good != imported {
                    let text = toml::to_string(good).map_err(io::Error::other)?;
                    store::replace_as(&path, text.as_bytes(), 0o600)?;
                }
                if std::fs::read(&copy).ok().as_deref() != Some(file) {
                    store::replace_as(&copy, file, 0o600)?;
                }
                Ok(())
            });
        if let Err(e) = &kept {
            self.failed(&path, e);
        }
        kept.is_ok()
    }

    fn write(&mut self, files: &[(&str, Vec<u8>)]) {
        let setup = match Setup::open(self.root, self.given, Access::Write) {
            Ok(setup) => setup,
            Err(failure) => return self.problems.push(failure.to_string()),
        };
        for (name, bytes) in files {
            let path = setup.path(name);
            if let Err(e) = store::replace(&path, bytes) {
                self.failed(&path, &e);
            }
        }
    }
}

/// A little more than may be read, for that to be noticed.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(text::LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
