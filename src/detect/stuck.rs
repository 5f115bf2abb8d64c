//! Tasks stuck in the kernel: nothing can end such a process, not even SIGKILL.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Sighting, off_loop};
use crate::fault::{Failure, Fault};
use crate::sys::root::SysRoot;

/// How often tasks are looked at.
const POLL: Duration = Duration::from_secs(5);
/// Creating a port may rightly take 50 s; nothing takes longer.
const STUCK: Duration = Duration::from_secs(60);

/// A task in uninterruptible sleep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub process: u32,
    pub task: u32,
    pub name: String,
    /// Where in the kernel it sleeps: its stack where that may be read, else one function.
    pub place: String,
    /// Bytes and pages it ever had from disks. A task that reads a slow disk sleeps in
    /// the same place for minutes, but it gets on.
    pub read: u64,
}

#[derive(Debug)]
struct Seen {
    place: String,
    read: u64,
    since: Duration,
    told: bool,
}

/// Follows blocked tasks.
#[derive(Debug, Default)]
pub struct Judge {
    seen: HashMap<(u32, u32), Seen>,
}

impl Judge {
    /// The tasks among `blocked` that have now been stuck for too long, each once.
    pub fn judge(&mut self, blocked: Vec<Blocked>, now: Duration) -> Vec<Failure> {
        let mut before = std::mem::take(&mut self.seen);
        let mut failures = Vec::new();
        for task in blocked {
            let key = (task.process, task.task);
            let same = before.remove(&key).filter(|seen| seen.place == task.place && seen.read == task.read);
            let fresh = || Seen { place: task.place.clone(), read: task.read, since: now, told: false };
            let mut seen = same.unwrap_or_else(fresh);
            if !seen.told && now.saturating_sub(seen.since) >= STUCK {
                seen.told = true;
                failures.push(failure(&task, now.saturating_sub(seen.since)));
            }
            self.seen.insert(key, seen);
        }
        failures
    }
}

fn failure(task: &Blocked, time: Duration) -> Failure {
    let Blocked { process, task, name, place, .. } = task;
    let first = place.lines().next().unwrap_or_default();
    let detail = format!("task {task} ({name}) of process {process} for {} s in {first}", time.as_secs());
    Failure::new(Fault::TaskStuck, detail)
}

/// Watches the processes in `watched`.
pub async fn watch(root: SysRoot, watched: watch::Receiver<Vec<u32>>, out: mpsc::Sender<Sighting>) {
    let started = Instant::now();
    let mut judge = Judge::default();
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        poll.tick().await;
        let (root, processes) = (root.clone(), watched.borrow().clone());
        let Some(blocked) = off_loop(move || read(&root, &processes)).await else { continue };
        for failure in judge.judge(blocked, started.elapsed()) {
            // Fails only where nobody wants to know any more.
            let _ = out.send(Sighting::Trouble(failure)).await;
        }
    }
}

/// The tasks of `processes` in uninterruptible sleep. What ended meanwhile is left out.
pub fn read(root: &SysRoot, processes: &[u32]) -> Vec<Blocked> {
    let tasks = |&process: &u32| {
        let tasks = fs::read_dir(root.path(format!("proc/{process}/task"))).ok()?;
        Some(tasks.filter_map(move |entry| blocked(process, &entry.ok()?.path())))
    };
    processes.iter().filter_map(tasks).flatten().collect()
}

fn blocked(process: u32, path: &Path) -> Option<Blocked> {
    let stat = fs::read_to_string(path.join("stat")).ok()?;
    let (name, faults) = sleeping(&stat)?;
    let text = |file: &str| fs::read_to_string(path.join(file)).ok().filter(|text| !text.trim().is_empty());
    let bytes = text("io").as_deref().and_then(read_bytes).unwrap_or_default();
    Some(Blocked {
        process,
        task: path.file_name()?.to_str()?.parse().ok()?,
        name,
        place: text("stack").or_else(|| text("wchan")).unwrap_or_else(|| "an unknown place".into()),
        read: faults.saturating_add(bytes),
    })
}

/// Name and major page faults of a task in state D, from its `stat`. The name may hold
/// anything, brackets and blanks too; fields are counted from its end.
fn sleeping(stat: &str) -> Option<(String, u64)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_whitespace();
    let state = fields.next()?;
    let faults = fields.nth(8)?.parse().ok()?;
    (state == "D").then(|| (name.to_owned(), faults))
}

fn read_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked(task: u32, place: &str, read: u64) -> Blocked {
        Blocked { process: 7, task, name: "card".into(), place: place.into(), read }
    }

    const NEVER: [u64; 0] = [];

    /// Seconds at which `tasks`, looked at every five seconds, were reported.
    fn reports(seconds: u64, tasks: impl Fn(u64) -> Vec<Blocked>) -> Vec<u64> {
        let mut judge = Judge::default();
        let looks = (0..=seconds).step_by(5);
        looks.flat_map(|at| vec![at; judge.judge(tasks(at), Duration::from_secs(at)).len()]).collect()
    }

    #[test]
    fn a_task_is_stuck_after_a_minute_in_one_place_and_told_once() {
        assert_eq!(reports(300, |_| vec![blocked(8, "port_create", 0)]), [60]);
        assert_eq!(reports(300, |at| vec![blocked(8, "a", 0); usize::from(at < 60)]), NEVER);
        let two = |at| match at {
            0..20 => vec![blocked(8, "a", 0)],
            _ => vec![blocked(8, "a", 0), blocked(9, "a", 0)],
        };
        assert_eq!(reports(300, two), [60, 80]);
    }

    #[test]
    fn a_task_that_moves_reads_or_runs_is_not_stuck() {
        assert_eq!(reports(300, |at| vec![blocked(8, if at % 50 == 0 { "a" } else { "b" }, 0)]), NEVER);
        assert_eq!(reports(300, |at| vec![blocked(8, "folio_wait", at)]), NEVER);
        assert_eq!(reports(300, |at| if at % 50 == 0 { vec![] } else { vec![blocked(8, "a", 0)] }), NEVER);
    }

    #[test]
    fn a_task_stuck_again_is_told_again() {
        let gap = |at| if at == 100 { vec![] } else { vec![blocked(8, "a", 0)] };
        assert_eq!(reports(300, gap), [60, 165]);
    }

    #[test]
    fn the_failure_names_task_process_and_place() {
        let mut judge = Judge::default();
        judge.judge(vec![blocked(8, "[<0>] port_create+0x1c\n[<0>] ioctl", 0)], Duration::ZERO);
        let failures = judge.judge(vec![blocked(8, "[<0>] port_create+0x1c\n[<0>] ioctl", 0)], STUCK);
        assert_eq!(failures[0].fault, Fault::TaskStuck);
        assert_eq!(failures[0].detail, "task 8 (card) of process 7 for 60 s in [<0>] port_create+0x1c");
    }

    #[test]
    fn stat_lines_are_read_whatever_the_name() {
        let stat = |name: &str, state| format!("8 ({name}) {state} 1 8 8 0 -1 4194304 100 0 12 0 5 6 0 0");
        assert_eq!(sleeping(&stat("card", "D")), Some(("card".into(), 12)));
        assert_eq!(sleeping(&stat("a) S (b", "D")), Some(("a) S (b".into(), 12)));
        assert_eq!(sleeping(&stat("card", "S")), None);
        for broken in ["", "8 (x", "8 (x) D", "8 (x) D 1 2 3"] {
            assert_eq!(sleeping(broken), None, "{broken:?}");
        }
        assert_eq!(read_bytes("rchar: 5\nread_bytes: 4096\nwrite_bytes: 0\n"), Some(4096));
    }
}
