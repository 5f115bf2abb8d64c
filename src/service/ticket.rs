//! A client's side of a request.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Order;
use crate::chat::{Event, RequestId};
use crate::fault::{Failure, Fault};

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// [`Fault::Busy`], [`Fault::NotReady`] or [`Fault::Stopping`].
    pub failure: Failure,
    /// When it is worth trying again.
    pub retry_after: Duration,
    /// The place in line it would have had, where that is known: 1 is the request being answered.
    pub position: Option<usize>,
}

impl Refused {
    pub(super) fn stopping() -> Self {
        let failure = Failure::new(Fault::Stopping, "no further requests are taken");
        Self { failure, retry_after: Duration::from_secs(10), position: None }
    }
}

/// A request that was taken. Dropping it before its last event gives the request up:
/// it leaves the queue, or the worker stops within one token.
#[derive(Debug)]
pub struct Ticket {
    id: RequestId,
    events: mpsc::Receiver<Event>,
    orders: mpsc::UnboundedSender<Order>,
    settled: bool,
}

impl Ticket {
    pub(super) fn new(
        id: RequestId,
        events: mpsc::Receiver<Event>,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Self {
        Self { id, events, orders, settled: false }
    }

    /// The request's number.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The next event; `None` after the last, which is `Done` or `Failed`. May be
    /// dropped and called again.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Ticket::next`], for who waits for several at a time.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.settled {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(context)).unwrap_or_else(|| {
            let detail = "the client read its answer too slowly, or the service ended";
            Event::Failed(Failure::new(Fault::Timeout, detail))
        });
        self.settled = matches!(event, Event::Done(_) | Event::Failed(_));
        Poll::Ready(Some(event))
    }

    /// Nothing is left to give up.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            // A service that has ended has nothing to give up.
            let _ = self.orders.send(Order::Abandon(self.id));
        }
    }
}
