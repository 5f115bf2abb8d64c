//! The journal under systemd, with structured fields; the terminal otherwise.

use std::io::{IsTerminal, stderr};
use std::os::fd::AsFd;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::Level;
use crate::fault::{Failure, Fault, Result};

/// Changes how much is logged while the program runs.
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Begins to log. `RUST_LOG` goes before `level`.
///
/// # Errors
/// [`Fault::Internal`] where logging was begun before.
pub fn start(level: Level) -> Result<LogControl> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let journal = to_journal().then(tracing_journald::layer).and_then(std::result::Result::ok);
    let output = match journal {
        Some(journal) => journal.boxed(),
        None => tracing_subscriber::fmt::layer()
            .with_writer(stderr)
            .with_ansi(stderr().is_terminal())
            .with_target(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .try_init()
        .map_err(|e| Failure::new(Fault::Internal, format!("the log: {e}")))?;
    Ok(LogControl { filter: handle })
}

impl LogControl {
    /// Puts another level in force, unless `RUST_LOG` rules.
    pub fn set(&self, level: Level) {
        // Fails only when logging has ended.
        let _ = self.filter.reload(filter(level));
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
