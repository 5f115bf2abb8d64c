//! What the service needs of the world: processes, the card helper, the ledger. The real
//! thing is [`super::outside`]; the simulation has one of its own.

use crate::chat::TokenId;
use crate::detect::Sighting;
use crate::fault::{Failure, Result};
use crate::link::frame::Command;
use crate::link::spawn::Incoming;
use crate::machine::{Note, Seat, Verb};
use crate::recover::Reply;

/// Something the world brought.
#[derive(Debug)]
pub(super) enum Happening {
    Worker(Seat, Incoming),
    Helper(Reply),
    Sighted(Sighting),
}

/// Nothing here waits.
pub(super) trait Hands {
    /// Starts a worker and returns its process id.
    fn spawn(&mut self, seat: Seat) -> Result<u32>;
    /// Queues a command; without a worker it is lost.
    fn command(&mut self, seat: Seat, command: Command) -> Result<()>;
    fn unlink(&mut self, seat: Seat);
    fn terminate(&mut self, seat: Seat);
    fn kill(&mut self, seat: Seat);
    /// Sends the card helper; its reply comes as a [`Happening`].
    fn help(&mut self, verb: Verb);
    /// Keeps a note over restarts. `cause` is what the present incident last saw.
    fn record(&mut self, note: &Note, cause: Option<&Failure>);
    /// The recorded answer to the test prompt.
    fn golden(&self, fingerprint: &str) -> Option<Vec<TokenId>>;
    /// Records the answer to the test prompt.
    fn keep_golden(&mut self, fingerprint: &str, tokens: &[TokenId]);
}
