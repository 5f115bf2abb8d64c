//! What goes wrong outside the worker, turned into [`Sighting`]s. Nothing here decides
//! what to do about it.
//!
//! | to change | open |
//! |---|---|
//! | which lines of the kernel's log mean trouble | [`kmsg`] |
//! | when the card is there, its link lost or slow | [`link`] |
//! | when a process counts as stuck in the kernel | [`stuck`] |
//! | whether the hardware watchdog is armed | [`watchdog`] |
//!
//! Reading and judging are apart: judges are pure and are told the time. A read may hang
//! in the kernel: each watcher has at most one under way, off the event loop, and a
//! watcher that hangs stops none of the others.

pub mod kmsg;
pub mod link;
pub mod stuck;
pub mod watchdog;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::fault::Failure;
use crate::sys::root::SysRoot;

/// Sightings that may wait to be taken; watchers pause beyond that.
const WAITING: usize = 32;

/// What a watcher saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Something is wrong with the card, its driver or this host.
    Trouble(Failure),
    /// The card's PCI function is on the bus: seen first, or back.
    CardPresent,
    /// The card's PCI function is not on the bus.
    CardMissing,
}

/// All watchers. They end when it is dropped.
pub struct Watch {
    sightings: mpsc::Receiver<Sighting>,
    _watchers: JoinSet<()>,
}

impl Watch {
    /// Starts the watchers below `root`; `watched` are the processes that may get stuck
    /// in the kernel. Must be called within a tokio runtime.
    pub fn start(root: &SysRoot, watched: watch::Receiver<Vec<u32>>) -> Self {
        let (out, sightings) = mpsc::channel(WAITING);
        let mut watchers = JoinSet::new();
        watchers.spawn(kmsg::watch(root.path("dev/kmsg"), out.clone()));
        watchers.spawn(link::watch(root.clone(), out.clone()));
        watchers.spawn(stuck::watch(root.clone(), watched, out));
        Self { sightings, _watchers: watchers }
    }

    /// The next sighting, however long that takes. Nothing is lost where this is
    /// dropped before its end.
    pub async fn next(&mut self) -> Sighting {
        match self.sightings.recv().await {
            Some(sighting) => sighting,
            None => std::future::pending().await,
        }
    }
}

/// Runs what may hang in the kernel off the event loop. `None` where it panicked.
async fn off_loop<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(read).await.ok()
}

#[cfg(test)]
mod tests;
