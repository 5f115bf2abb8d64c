//! What is remembered over restarts and reboots, in the state directory.
//!
//! | to change | open |
//! |---|---|
//! | what is recorded and how it is written | [`record`] |
//! | the recorded answers to the test prompt | [`golden`] |
//! | the records of incidents, told one by one | [`story`] |
//! | how files are written, retried, shortened | `writer` |
//!
//! A thread of its own writes: whoever records something never waits for a disk.

pub mod golden;
pub mod record;
pub mod story;
mod writer;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, warn};

use crate::fault::{Failure, Fault};
pub use golden::Golden;
pub use record::{History, Record, What};
pub use story::Story;
use writer::{Order, Writer};

/// Orders that may wait for the writer.
const ORDERS: usize = 256;
/// Records kept in memory for who asks.
const RECENT: usize = 500;

/// Writes records. Clones write to the same file. What was ordered is written although
/// the last of them is dropped, as long as the process lives: see [`Ledger::flush`].
#[derive(Clone)]
pub struct Ledger {
    orders: Option<SyncSender<Order>>,
    /// Oldest first.
    recent: Arc<Mutex<VecDeque<Record>>>,
    boot: String,
    base: Duration,
    started: Instant,
}

impl Ledger {
    /// Opens the ledger in `state_dir`, and tells what it holds. Reads it at once, which
    /// is meant for the start. With an empty `state_dir` nothing is kept.
    pub fn open(state_dir: &Path, boot_id: String) -> (Self, History) {
        let mut ledger = Self {
            orders: None,
            recent: Arc::default(),
            boot: boot_id,
            base: Duration::ZERO,
            started: Instant::now(),
        };
        if state_dir.as_os_str().is_empty() {
            return (ledger, History::default());
        }
        let history = writer::read(state_dir);
        ledger.base = history.base;
        history.records.iter().cloned().for_each(|record| ledger.remember(record));
        let (orders, waiting) = sync_channel(ORDERS);
        let writer = Writer::new(state_dir, ledger.clone());
        match std::thread::Builder::new().name("ledger".into()).spawn(move || writer.run(&waiting)) {
            Ok(_) => ledger.orders = Some(orders),
            Err(e) => error!("{}", Failure::new(Fault::State, format!("no thread to write it: {e}"))),
        }
        (ledger, history)
    }

    /// The operating time.
    pub fn now(&self) -> Duration {
        record::whole_milliseconds(self.base + self.started.elapsed())
    }

    /// `what`, happening now.
    pub fn stamp(&self, what: What) -> Record {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        Record { at: self.now(), unix_ms, boot: self.boot.clone(), what }
    }

    /// Has `record` written soon.
    pub fn append(&self, record: Record) {
        self.remember(record.clone());
        self.order(Order::Record(record));
    }

    /// What was recorded last, in this and earlier lives; oldest first.
    pub fn recent(&self) -> Vec<Record> {
        self.lock().iter().cloned().collect()
    }

    /// The last incidents, newest first.
    pub fn stories(&self) -> Vec<Story> {
        story::stories(self.lock().iter())
    }

    fn remember(&self, record: Record) {
        if record.what == What::Mark {
            return;
        }
        let mut recent = self.lock();
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back(record);
    }

    /// Held for a moment only, and never over a write.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all that was appended is on the disk; false where it is not within
    /// `at_most`.
    pub async fn flush(&self, at_most: Duration) -> bool {
        let Some(orders) = &self.orders else { return true };
        let (done, written) = oneshot::channel();
        orders.try_send(Order::Flush(done)).is_ok() && matches!(timeout(at_most, written).await, Ok(Ok(true)))
    }

    fn order(&self, order: Order) {
        let Some(orders) = &self.orders else { return };
        if orders.try_send(order).is_err() {
            warn!(
                "{}",
                Failure::new(Fault::State, "a write hangs and too many others wait: one was dropped")
            );
        }
    }
}

#[cfg(test)]
mod tests;
