//! Places for connections. Where all are taken, the connection that has kept the service waiting
//! longest gives up its own for the next one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tracing::debug;

/// An address with no more connections than these is no crowd.
const FEW: usize = 16;

/// All places.
pub struct Places {
    most: usize,
    table: Mutex<Table>,
    /// A place was given back, or may now be taken from its holder.
    freed: Notify,
}

#[derive(Default)]
struct Table {
    last: u64,
    /// Counts whenever a connection begins to wait for its client.
    turn: u64,
    held: BTreeMap<u64, Holder>,
}

struct Holder {
    peer: IpAddr,
    stage: Stage,
    /// The client does not take what is sent.
    blocked: bool,
    /// The turn at which it began to wait for its client.
    since: u64,
    /// Dropped, it tells the connection to end.
    _keep: oneshot::Sender<()>,
}

/// How far a connection's present request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request is on its way, or none is.
    Asked,
    /// The answer is being made.
    Made,
    /// The same, for a client that can be sent nothing ahead of it.
    Mute,
    /// The answer is being sent.
    Told,
}

impl Holder {
    fn waits(&self) -> bool {
        self.stage == Stage::Asked || self.blocked
    }
}

impl Table {
    /// Who gives up a place: of those who wait for their clients, who has waited longest, but first
    /// those of the address with most connections, if that is a crowd.
    fn last_in_line(&self) -> Option<u64> {
        let mut connections: HashMap<IpAddr, usize> = HashMap::new();
        for holder in self.held.values() {
            *connections.entry(holder.peer).or_default() += 1;
        }
        let waiting = self.held.iter().filter(|(_, holder)| holder.waits());
        let crowd = |peer| connections.get(peer).copied().unwrap_or_default().max(FEW);
        let found = waiting.max_by_key(|(_, holder)| (crowd(&holder.peer), Reverse(holder.since)));
        found.map(|(&number, _)| number)
    }
}

impl Places {
    /// So many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, table: Mutex::default(), freed: Notify::new() })
    }

    /// A place, and what resolves when it is taken away. Waits only while every connection is
    /// being answered.
    pub async fn take(self: &Arc<Self>, peer: IpAddr) -> (Arc<Place>, oneshot::Receiver<()>) {
        loop {
            let freed = self.freed.notified();
            if let Some(taken) = self.try_take(peer.to_canonical()) {
                return taken;
            }
            freed.await;
        }
    }

    fn try_take(self: &Arc<Self>, peer: IpAddr) -> Option<(Arc<Place>, oneshot::Receiver<()>)> {
        let mut table = self.table();
        if table.held.len() >= self.most {
            let number = table.last_in_line()?;
            if let Some(holder) = table.held.remove(&number) {
                debug!(peer = %holder.peer, "a connection gives up its place");
            }
        }
        table.last += 1;
        table.turn += 1;
        let (number, since) = (table.last, table.turn);
        let (keep, ended) = oneshot::channel();
        table.held.insert(number, Holder { peer, stage: Stage::Asked, blocked: false, since, _keep: keep });
        Some((Arc::new(Place { number, places: Arc::clone(self) }), ended))
    }

    /// Waits until nobody holds one.
    pub async fn empty(&self) {
        loop {
            let freed = self.freed.notified();
            if self.table().held.is_empty() {
                return;
            }
            freed.await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. Given back when dropped.
pub struct Place {
    number: u64,
    places: Arc<Places>,
}

impl Place {
    /// How far its request is. [`Stage::Asked`] where the place was taken away.
    pub fn stage(&self) -> Stage {
        self.places.table().held.get(&self.number).map_or(Stage::Asked, |holder| holder.stage)
    }

    /// Its request is now so far.
    pub fn is(&self, stage: Stage) {
        self.change(|holder| holder.stage = stage);
    }

    /// Its client takes what is sent, or does not.
    pub fn blocked(&self, blocked: bool) {
        self.change(|holder| holder.blocked = blocked);
    }

    fn change(&self, change: impl FnOnce(&mut Holder)) {
        let mut table = self.places.table();
        let Table { turn, held, .. } = &mut *table;
        let Some(holder) = held.get_mut(&self.number) else { return };
        let waited = holder.waits();
        change(holder);
        if holder.waits() && !waited {
            *turn += 1;
            holder.since = *turn;
            self.places.freed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().held.remove(&self.number);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: [u8; 4] = [127, 0, 0, 1];
    const FAR: [u8; 4] = [10, 0, 0, 9];

    fn take(places: &Arc<Places>, peer: [u8; 4]) -> (Arc<Place>, oneshot::Receiver<()>) {
        places.try_take(peer.into()).unwrap()
    }

    fn ended(place: &mut (Arc<Place>, oneshot::Receiver<()>)) -> bool {
        place.1.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_longest_waiting_connection_makes_room() {
        let places = Places::new(2);
        let (mut first, mut second) = (take(&places, NEAR), take(&places, NEAR));
        // The first was answered meanwhile: now the second has waited longer.
        first.0.is(Stage::Made);
        first.0.is(Stage::Told);
        first.0.is(Stage::Asked);
        let _third = take(&places, NEAR);
        assert!(ended(&mut second) && !ended(&mut first));
        let _fourth = take(&places, NEAR);
        assert!(ended(&mut first));
        drop(second);
        assert_eq!(places.table().held.len(), 2, "a place taken away is not given back once more");
    }

    #[test]
    fn a_connection_that_is_answered_keeps_its_place_unless_its_client_takes_nothing() {
        let places = Places::new(2);
        let (mut made, mut told) = (take(&places, NEAR), take(&places, NEAR));
        made.0.is(Stage::Made);
        told.0.is(Stage::Told);
        assert!(places.try_take(NEAR.into()).is_none());
        told.0.blocked(true);
        let _next = take(&places, NEAR);
        assert!(ended(&mut told) && !ended(&mut made));
    }

    #[test]
    fn a_crowd_of_one_address_makes_room_before_others() {
        let places = Places::new(FEW + 2);
        let mut alone = take(&places, FAR);
        let mut crowd: Vec<_> = (0..=FEW).map(|_| take(&places, NEAR)).collect();
        let _next = take(&places, FAR);
        assert!(ended(&mut crowd[0]) && !ended(&mut alone));
        // Now it is none any more.
        let _next = take(&places, FAR);
        assert!(!ended(&mut crowd[1]) && ended(&mut alone));
    }

    #[tokio::test]
    async fn who_finds_no_place_is_let_in_by_the_next_that_is_free() {
        let places = Places::new(1);
        let busy = take(&places, NEAR);
        busy.0.is(Stage::Made);
        let next = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(NEAR.into()).await }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(busy);
        drop(next.await.unwrap());
        places.empty().await;
    }
}
