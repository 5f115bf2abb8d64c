//! A button that, held for ten seconds, asks for a factory reset, as `/v1/factory-reset` does.

use std::mem;
use std::path::Path;
use std::time::Duration;

use rppal::gpio::{Gpio, InputPin};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::config;
use crate::fault::{Failure, Fault, Result};
use crate::sys::store;

const HELD: Duration = Duration::from_secs(10);
/// Contacts bounce for less.
const BOUNCE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(50);
/// The order's name.
const RESET: &str = "factory-reset";

/// Watches the configured button, if there is one; orders are left in the directory `orders`. `held`
/// is told while it is held, until it has been for long enough.
pub async fn run(config: config::Button, orders: impl AsRef<Path>, held: watch::Sender<bool>) {
    let Some(number) = config.pin else { return };
    let orders = orders.as_ref();
    if orders.as_os_str().is_empty() {
        return warn!("the button is not watched: elsewhere than on the image there is nothing to reset");
    }
    match open(number) {
        Ok(pin) => attend(|| pin.is_low(), orders, &held).await,
        Err(failure) => error!(code = failure.fault.code(), "{failure}"),
    }
}

fn open(number: u8) -> Result<InputPin> {
    let pin = Gpio::new().and_then(|gpio| gpio.get(number));
    let failed = |e| Failure::new(Fault::Button, format!("GPIO {number}: {e}"));
    Ok(pin.map_err(failed)?.into_input_pullup())
}

async fn attend(mut pressed: impl FnMut() -> bool, orders: &Path, told: &watch::Sender<bool>) {
    let (began, mut held, mut ticks) = (Instant::now(), Held::default(), interval(POLL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let asks = held.see(pressed(), now.saturating_duration_since(began));
        let holds = held.pressed.is_some();
        told.send_if_modified(|told| mem::replace(told, holds) != holds);
        if !asks {
            continue;
        }
        match store::replace(&orders.join(RESET), b"") {
            Ok(()) => info!("the button was held: a factory reset is ordered"),
            Err(e) => error!("{}: {e}", orders.join(RESET).display()),
        }
    }
}

/// How long it has been held.
#[derive(Debug, Default)]
struct Held {
    /// It was seen open. One that is stuck, or is no button at all, would ask at each start.
    armed: bool,
    pressed: Option<Duration>,
    open: Option<Duration>,
}

impl Held {
    /// What is seen at `now`: whether it asks for something, which it does once.
    fn see(&mut self, pressed: bool, now: Duration) -> bool {
        if !pressed {
            let since = *self.open.get_or_insert(now);
            if now.saturating_sub(since) >= BOUNCE {
                (self.armed, self.pressed) = (true, None);
            }
            return false;
        }
        self.open = None;
        if !self.armed {
            return false;
        }
        let since = *self.pressed.get_or_insert(now);
        let asks = now.saturating_sub(since) >= HELD;
        if asks {
            *self = Self::default();
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// When it asks, in milliseconds, where it is pressed during `spans` of them.
    fn asked(spans: &[(u64, u64)], until: u64) -> Vec<u64> {
        let mut held = Held::default();
        let pressed = |ms: u64| spans.iter().any(|(from, to)| (*from..*to).contains(&ms));
        let asks = |&ms: &u64| held.see(pressed(ms), Duration::from_millis(ms));
        (0..until).step_by(50).filter(asks).collect()
    }

    #[test]
    fn only_who_holds_it_for_ten_seconds_resets_and_once() {
        assert_eq!(asked(&[(1_000, 60_000)], 60_000), [11_000]);
        assert_eq!(asked(&[(1_000, 10_900)], 60_000), [0; 0]);
        assert_eq!(asked(&[(1_000, 9_000), (10_000, 19_000)], 60_000), [0; 0]);
        assert_eq!(asked(&[(1_000, 12_000), (20_000, 40_000)], 60_000), [11_000, 30_000]);
    }

    #[test]
    fn a_contact_that_bounces_is_held_all_the_same() {
        assert_eq!(asked(&[(1_000, 1_050), (1_150, 5_000), (5_100, 30_000)], 60_000), [11_000]);
    }

    #[test]
    fn one_that_is_stuck_never_asks_until_it_was_let_go() {
        assert_eq!(asked(&[(0, 60_000)], 60_000), [0; 0]);
        assert_eq!(asked(&[(0, 20_000), (30_000, 60_000)], 60_000), [40_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_asks_is_left_as_an_order() {
        let directory = tempfile::tempdir().unwrap();
        let (began, order) = (Instant::now(), directory.path().join(RESET));
        let pressed = || began.elapsed() > Duration::from_secs(1);
        let (told, seen) = watch::channel(false);
        let seconds = |s| Duration::from_secs(s);
        let watched = timeout(seconds(10), attend(pressed, directory.path(), &told)).await;
        assert!(watched.is_err() && !order.exists() && *seen.borrow());
        let pressed = || began.elapsed() > Duration::from_secs(12);
        let watched = timeout(seconds(15), attend(pressed, directory.path(), &told)).await;
        assert!(watched.is_err() && order.exists());
        assert!(!*seen.borrow(), "it was held for long enough");
    }
}
