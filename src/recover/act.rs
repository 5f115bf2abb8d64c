//! One verb's deed, done in a process that may hang: its parent watches the deadline.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::verb::{Facts, Order, Reply, Verb};
use super::{card, host, modules, slot};
use crate::config::Worker;
use crate::fault::{Failure, Fault, Result};
use crate::sys::root::SysRoot;
use crate::sys::{lines, program};

/// Held by whoever changes something, and by the programs it runs: two deeds at once, say
/// after the supervisor was started anew in the middle of one, would spoil each other.
const LOCK: &str = "run/llm8850/card.lock";
const POLL: Duration = Duration::from_millis(50);
/// Shortest wait for an effect, at whatever pace.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);

/// What a deed works on.
pub(super) struct Scene<'a> {
    pub root: SysRoot,
    pub order: &'a Order,
    pub worker: &'a Worker,
    pub stream: &'a File,
    pub lock: Option<File>,
}

/// Does what `order` says on the system below `root` and tells so, line by line, on `stream`.
///
/// # Errors
/// As told on the stream.
pub fn act(order: &Order, root: &SysRoot, worker: &Worker, stream: &File) -> Result<()> {
    // Links in /proc show a root's real path.
    let real = std::fs::canonicalize(root.path("")).unwrap_or_else(|_| root.path(""));
    let mut scene = Scene { root: SysRoot::new(real), order, worker, stream, lock: None };
    let done = perform(&mut scene);
    scene.say(&match &done {
        Ok(facts) => Reply::Done(facts.clone()),
        Err(failure) => Reply::Failed(failure.clone()),
    });
    done?;
    if order.verb == Verb::HostReboot { host::reboot(&scene) } else { Ok(()) }
}

fn perform(scene: &mut Scene<'_>) -> Result<Option<Facts>> {
    match scene.order.verb {
        // Looking disturbs nobody, and the host is restarted whatever hangs.
        Verb::Probe => return card::probe(&scene.root).map(Some),
        Verb::HostReboot => return host::prepare(scene).map(|()| None),
        _ => scene.lock = Some(scene.take_lock()?),
    }
    match scene.order.verb {
        Verb::CardReboot => card::reboot(scene),
        Verb::ModulesOut => modules::unload(scene, None),
        Verb::ModulesIn => modules::load(scene),
        _ => slot::reset(scene),
    }?;
    Ok(None)
}

impl Scene<'_> {
    /// Tells what is done now.
    pub fn step(&self, what: impl Into<String>) {
        let what = what.into();
        tracing::info!(verb = self.order.verb.name(), "{what}");
        self.say(&Reply::Step(what));
    }

    fn say(&self, reply: &Reply) {
        // Nobody may be listening any more; the deed is finished all the same.
        let _ = lines::send(self.stream, reply);
    }

    /// Whether `effect` shows within `seconds`, at the order's pace.
    pub fn shows(&self, seconds: u64, mut effect: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + self.patience(seconds);
        loop {
            if effect() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(POLL);
        }
    }

    /// `seconds` at the order's pace.
    pub fn patience(&self, seconds: u64) -> Duration {
        self.order.hasten(Duration::from_secs(seconds)).max(SHORTEST_WAIT)
    }

    /// Runs a program of the system.
    pub fn run(
        &self,
        program: &str,
        arguments: &[&str],
        until: Option<Instant>,
    ) -> std::result::Result<(), String> {
        program::run(&self.root.path(program), arguments, self.lock.as_ref(), until)
    }

    /// Writes to a file of sysfs, which must exist.
    pub fn write(&self, path: &Path, text: &str) -> std::io::Result<()> {
        use std::io::Write;
        OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
    }

    /// Waits for its turn; the parent's deadline ends the wait.
    fn take_lock(&self) -> Result<File> {
        let path: PathBuf = self.root.path(LOCK);
        let failed = |e: std::io::Error| Failure::new(Fault::Helper, format!("{}: {e}", path.display()));
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let mut told = false;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if !told {
                self.step("waiting for an earlier order to end");
                told = true;
            }
            thread::sleep(POLL);
        }
        Ok(file)
    }
}
