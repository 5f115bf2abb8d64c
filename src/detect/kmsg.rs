//! The kernel's log: what the card's driver says there.

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::Sighting;
use crate::fault::{Failure, Fault};

/// A record is at most half of this; a read of less than a record fails.
const BUFFER: usize = 16 * 1024;
/// Wait before the log is opened again.
const REOPEN: Duration = Duration::from_secs(1);
/// The driver repeats a card's death every 20 s. After a restart it takes it for dead no
/// earlier than 50 s without a heartbeat, so a line after this long is a new death.
const DEAD_QUIET: Duration = Duration::from_secs(45);
/// The second refused port within this time is a fault.
const PORTS_WITHIN: Duration = Duration::from_secs(120);
/// A failed firmware push says so in several lines.
const FIRMWARE_QUIET: Duration = Duration::from_secs(5);
/// As much of a line is quoted.
const QUOTED: usize = 200;

const DEAD: &str = ": dead!";
const LOADED: &str = "alive";
const PORT_REFUSED: &str = "Recv port ack timeout";
const FIRMWARE: [&str; 3] = ["[STATUS]: FAILED[-1]", "Handshake timeout!", "Patch file not found"];

/// Tells news from repeats.
#[derive(Debug, Default)]
pub struct Judge {
    dead: Option<Duration>,
    refused: Option<Duration>,
    firmware: Option<Duration>,
}

impl Judge {
    /// What `text`, said by the kernel at `now`, means.
    pub fn judge(&mut self, text: &str, now: Duration) -> Option<Failure> {
        let fault = if is_death(text) {
            heard(&mut self.dead, DEAD_QUIET, now).then_some(Fault::CardDead)
        } else if text.contains(PORT_REFUSED) {
            self.refuse(now).then_some(Fault::CardPorts)
        } else if FIRMWARE.iter().any(|part| text.contains(part)) {
            heard(&mut self.firmware, FIRMWARE_QUIET, now).then_some(Fault::Firmware)
        } else {
            if text.contains("device") && text.contains(LOADED) {
                // Started anew: its next death is news.
                self.dead = None;
            }
            None
        }?;
        let quoted: String = text.chars().take(QUOTED).collect();
        Some(Failure::new(fault, format!("the kernel says {quoted:?}")))
    }

    /// Whether this is the second refusal in time; counting then begins anew.
    fn refuse(&mut self, now: Duration) -> bool {
        match self.refused.take() {
            Some(first) if now.saturating_sub(first) <= PORTS_WITHIN => true,
            _ => {
                self.refused = Some(now);
                false
            }
        }
    }
}

/// Notes that something was said at `now`: true unless it was said within `quiet` before.
fn heard(last: &mut Option<Duration>, quiet: Duration, now: Duration) -> bool {
    last.replace(now).is_none_or(|last| now.saturating_sub(last) > quiet)
}

/// `device N: dead!`
fn is_death(text: &str) -> bool {
    let Some((before, _)) = text.split_once(DEAD) else { return false };
    let name = before.trim_end_matches(|c: char| c.is_ascii_digit());
    name.len() < before.len() && name.ends_with("device ")
}

/// The text of one line of the log: `prio,seq,usec,flags;text`. Lines that begin with a
/// blank hold properties of the record before them.
fn text(line: &str) -> Option<&str> {
    let (head, text) = line.split_once(';')?;
    let whole = head.split(',').count() >= 3 && head.starts_with(|c: char| c.is_ascii_digit());
    whole.then_some(text)
}

/// Bytes as they come, handed on line by line.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.len() > BUFFER {
                each(String::from_utf8_lossy(&self.begun).trim_end());
                self.begun.clear();
            }
        }
    }
}

/// Watches the log at `path` and opens it again whenever it ends or fails.
pub async fn watch(path: PathBuf, out: mpsc::Sender<Sighting>) {
    let started = Instant::now();
    let mut judge = Judge::default();
    loop {
        match open(&path) {
            Ok(log) => {
                let end = follow(&log, &mut judge, started, &out).await;
                debug!("{}: {end}", path.display());
            }
            Err(e) => debug!("{}: {e}", path.display()),
        }
        sleep(REOPEN).await;
    }
}

/// Opens the log at its end: what was said before is history.
fn open(path: &Path) -> io::Result<Receiver> {
    // Opening a FIFO without blocking succeeds at once, too.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut log = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // A FIFO has no end to go to.
    let _ = log.seek(SeekFrom::End(0));
    // No more is asked of a pipe than to be readable: the kernel's log will do, too.
    Receiver::from_file_unchecked(log)
}

/// Reads until the log fails, and says how it did.
async fn follow(
    log: &Receiver,
    judge: &mut Judge,
    started: Instant,
    out: &mpsc::Sender<Sighting>,
) -> io::Error {
    let mut buffer = vec![0; BUFFER];
    let mut lines = Lines::default();
    loop {
        if let Err(e) = log.readable().await {
            return e;
        }
        match log.try_read(&mut buffer) {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(length) => {
                let mut found = Vec::new();
                lines.feed(buffer.get(..length).unwrap_or_default(), |line| {
                    found.extend(text(line).and_then(|text| judge.judge(text, started.elapsed())));
                });
                for failure in found {
                    // Fails only where nobody wants to know any more.
                    let _ = out.send(Sighting::Trouble(failure)).await;
                }
            }
            // Records were overwritten before they were read: the next read goes on after them.
            Err(e) if e.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(e) => return e,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEATH: &str = "axcl [heartbeat_recv_thread, 578]: device 1: dead!";
    const REFUSAL: &str = "axcl_pcie_port_create [211]: Recv port ack timeout.";

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fault(judge: &mut Judge, text: &str, seconds: u64) -> Option<Fault> {
        judge.judge(text, at(seconds)).map(|failure| failure.fault)
    }

    #[test]
    fn a_death_is_told_once_while_the_driver_repeats_it() {
        let mut judge = Judge::default();
        let told: Vec<_> = (0..10).map(|n| fault(&mut judge, DEATH, 20 * n)).collect();
        assert_eq!(told[0], Some(Fault::CardDead));
        assert!(told[1..].iter().all(Option::is_none), "{told:?}");
        assert_eq!(fault(&mut judge, DEATH, 180 + 46), Some(Fault::CardDead), "after a silence it is news");
    }

    #[test]
    fn a_death_after_a_restart_is_news() {
        let mut judge = Judge::default();
        assert!(fault(&mut judge, DEATH, 0).is_some());
        assert_eq!(fault(&mut judge, "axcl: device 1: alive!", 10), None);
        assert_eq!(fault(&mut judge, DEATH, 20), Some(Fault::CardDead));
    }

    #[test]
    fn one_refused_port_is_none_two_in_two_minutes_are_a_fault() {
        for (seconds, told) in [
            (&[0, 50][..], vec![1]),
            (&[0, 121], vec![]),
            (&[0, 121, 241], vec![2]),
            (&[0, 50, 100, 150], vec![1, 3]),
        ] {
            let mut judge = Judge::default();
            let faults = seconds.iter().map(|&at| fault(&mut judge, REFUSAL, at));
            let found: Vec<usize> =
                faults.enumerate().filter(|(_, f)| *f == Some(Fault::CardPorts)).map(|(n, _)| n).collect();
            assert_eq!(found, told, "{seconds:?}");
        }
    }

    #[test]
    fn a_failed_push_is_one_fault_however_many_lines_it_takes() {
        for text in ["[STATUS]: FAILED[-1]", "[step0]: Handshake timeout!", "Patch file not found axcl/x.pac"]
        {
            let mut judge = Judge::default();
            assert_eq!(fault(&mut judge, text, 0), Some(Fault::Firmware), "{text}");
            assert_eq!(fault(&mut judge, "[STATUS]: FAILED[-1]", 1), None);
            assert_eq!(fault(&mut judge, text, 100), Some(Fault::Firmware), "{text}");
        }
    }

    #[test]
    fn the_kernel_is_quoted_and_others_are_not_heeded() {
        let mut judge = Judge::default();
        let failure = judge.judge(DEATH, at(0)).unwrap();
        assert!(failure.detail.contains(DEATH), "{failure}");
        let long = format!("{DEATH}{}", "x".repeat(5000));
        assert!(Judge::default().judge(&long, at(0)).unwrap().detail.len() < 300);
        for other in
            ["usb 1-1: device dead!", "my device: dead!", "device 1: dead", "[STATUS]: SUCCESS[0]", ""]
        {
            assert_eq!(Judge::default().judge(other, at(0)), None, "{other:?}");
        }
    }

    #[test]
    fn records_are_told_from_their_properties_and_from_noise() {
        assert_eq!(text("6,1234,5678901,-;a; b"), Some("a; b"));
        assert_eq!(text("4,12,5,-,caller=T1;x"), Some("x"));
        for noise in [" SUBSYSTEM=pci;x", "no record", "", ";x", "a,b,c;x"] {
            assert_eq!(text(noise), None, "{noise:?}");
        }
    }

    #[test]
    fn lines_come_whole_from_any_pieces() {
        let whole = b"6,1,1,-;one\n KEY=x\n6,2,2,-;t\xffwo\n";
        for cut in 0..whole.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            lines.feed(&whole[..cut], |line| seen.push(line.to_owned()));
            lines.feed(&whole[cut..], |line| seen.push(line.to_owned()));
            assert_eq!(seen, ["6,1,1,-;one", " KEY=x", "6,2,2,-;t\u{fffd}wo"], "cut at {cut}");
        }
        let mut lines = Lines::default();
        (0..100).for_each(|_| lines.feed(&[b'x'; 1000], |_| ()));
        assert!(lines.begun.len() <= BUFFER + 1000, "a line without end does not grow for ever");
    }
}
