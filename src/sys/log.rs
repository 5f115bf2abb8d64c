//! The journal under systemd, with structured fields; the terminal otherwise.

use std::collections::BTreeSet;
use std::io::{IsTerminal, stderr};
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::recent::Recent;
use crate::config::Level;
use crate::fault::{Failure, Fault, Result};

/// Changes how much is logged while the program runs.
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
    recent: Recent,
}

/// Begins to log. `RUST_LOG` goes before `level`.
///
/// # Errors
/// [`Fault::Internal`] where logging was begun before.
pub fn start(level: Level) -> Result<LogControl> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let before = descriptors();
    let journal = to_journal().then(tracing_journald::layer).and_then(std::result::Result::ok);
    descriptors().difference(&before).for_each(|&descriptor| never_wait(descriptor));
    let output = match journal {
        Some(journal) => journal.boxed(),
        None => tracing_subscriber::fmt::layer()
            .with_writer(stderr)
            .with_ansi(stderr().is_terminal())
            .with_target(false)
            .boxed(),
    };
    let recent = Recent::default();
    let kept =
        tracing_subscriber::fmt::layer().with_writer(recent.clone()).with_ansi(false).with_target(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .with(kept)
        .try_init()
        .map_err(|e| Failure::new(Fault::Internal, format!("the log: {e}")))?;
    Ok(LogControl { filter: handle, recent })
}

impl LogControl {
    /// The last lines.
    pub fn recent(&self) -> Recent {
        self.recent.clone()
    }

    /// Puts another level in force, unless `RUST_LOG` rules.
    pub fn set(&self, level: Level) {
        // Fails only when logging has ended.
        let _ = self.filter.reload(filter(level));
    }
}

/// This process's open descriptors.
fn descriptors() -> BTreeSet<i32> {
    let listed = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut open: BTreeSet<i32> =
        listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The one that listed them is closed by now.
    open.retain(|descriptor| std::fs::symlink_metadata(format!("/proc/self/fd/{descriptor}")).is_ok());
    open
}

/// Sends on this socket fail instead of waiting: a journal that hangs costs lines, not the
/// supervisor's life. Its layer keeps the socket to itself, but shares its settings with a
/// duplicate.
fn never_wait(descriptor: i32) {
    let duplicate = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, descriptor, PidfdGetfdFlags::empty()));
    if let Ok(socket) = duplicate
        && rustix::net::sockopt::socket_type(&socket).is_ok()
        && let Ok(flags) = fcntl_getfl(&socket)
    {
        // Where it cannot be set, lines are waited for, as before.
        let _ = fcntl_setfl(&socket, flags | OFlags::NONBLOCK);
    }
}

fn filter(level: Level) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level.as_str()))
}

/// Whether standard error is the journal's: systemd names its device and inode. A
/// variable merely inherited from a service does not count.
fn to_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(actual) = rustix::fs::fstat(stderr().as_fd()) else { return false };
    named == format!("{}:{}", actual.st_dev, actual.st_ino)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_socket_that_nobody_reads_is_not_waited_for() {
        let before = descriptors();
        let (near, _far) = UnixDatagram::pair().unwrap();
        assert!(descriptors().difference(&before).any(|&descriptor| descriptor == near.as_raw_fd()));
        never_wait(near.as_raw_fd());
        let refused = (0..1_000_000).find_map(|_| near.send(&[0; 4096]).err());
        assert_eq!(refused.unwrap().kind(), std::io::ErrorKind::WouldBlock);
    }
}
