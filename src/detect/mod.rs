//! What goes wrong outside the worker, turned into [`Sighting`]s. Nothing here decides
//! what to do about it.

use crate::fault::Failure;

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
