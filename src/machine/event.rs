//! What happens to the appliance, as far as policy cares.

use crate::fault::Fault;

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seat {
    /// The one on the card.
    Card,
    /// The one with the small model on the CPU.
    Cpu,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// Time passed; which worker is answering a request.
    Tick { busy: Option<Seat> },
    /// The worker's first frame.
    Hello(Seat),
    /// It made progress loading.
    Loading(Seat),
    /// Its model is loaded.
    Loaded(Seat),
    /// It generated a token.
    Token(Seat),
    /// It cannot be trusted any more.
    Broken(Seat, Fault),
    /// Its process ended, or could not be started.
    Exited(Seat, Fault),
    /// The answer to the test prompt came: whether it was the right one.
    Tested(bool),
    /// Something is wrong with card, driver or host.
    Trouble(Fault),
    /// Whether the card is on the bus.
    Card(bool),
    /// The card's temperature. °C.
    Heat(f32),
    /// The card computes much slower than usual.
    Slow,
    /// The helper did what it was asked; a probe says what it found.
    Helped(Found),
    /// It could not.
    Unhelped(Fault),
    /// The supervisor wants to end.
    Stop,
}

/// What a probe found; other verbs find nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The card is on the bus.
    pub card: bool,
    /// Its driver is loaded.
    pub driver: bool,
}
