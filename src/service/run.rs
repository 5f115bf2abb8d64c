//! The loop: one task that lets time pass, hears the world and obeys orders. The service
//! manager's watchdog is fed from its turns only.

use tokio::sync::mpsc;

use super::Order;
use super::actor::Actor;
use super::outside::Outside;
use crate::sys::{chance, clock::Clock};

/// Orders taken in one turn, so that a crowd of clients cannot keep the rest waiting.
const ORDERS: usize = 64;

/// Runs until the service was told to stop and the last worker is gone.
pub(super) async fn run(mut actor: Actor<Outside>, mut orders: mpsc::UnboundedReceiver<Order>, clock: Clock) {
    let mut waiting = Vec::with_capacity(ORDERS);
    loop {
        actor.at(clock.now(), chance::fraction());
        actor.advance();
        if actor.finished() {
            return;
        }
        let wake = actor.wake();
        tokio::select! {
            taken = orders.recv_many(&mut waiting, ORDERS) => {
                actor.at(clock.now(), chance::fraction());
                // Without anyone who could give orders there is nobody to serve.
                if taken == 0 {
                    actor.obey(Order::Stop);
                }
                waiting.drain(..).for_each(|order| actor.obey(order));
            }
            happening = actor.hands().next() => {
                actor.at(clock.now(), chance::fraction());
                actor.hear(happening);
            }
            () = clock.until(wake) => {}
        }
    }
}
