//! The status light and the fault light.
//!
//! | to change | open |
//! |---|---|
//! | what they show in which state | [`pattern`] |
//! | when they are told what | [`player`] |
//! | how the kernel's LEDs are driven | [`leds`] |
//! | how GPIO pins are driven | [`gpio`] |
//!
//! Lights are no reason to fail: what goes wrong is logged once and tried again.

pub mod gpio;
pub mod leds;
pub mod pattern;
pub mod player;

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info};

use crate::config;
use crate::fault::{Failure, Fault};
use crate::sys::root::SysRoot;
use pattern::Pattern;
pub use pattern::{Lamps, Look};
use player::{Command, Player};

/// Wait before lights that failed are tried again.
const RETRY: Duration = Duration::from_secs(30);

/// One of the two lights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lamp {
    Status,
    Fault,
}

/// What makes lights shine. May block: called off the event loop.
pub trait Driver: Send {
    /// Whether `lamp` plays patterns by itself. Otherwise it is set step by step.
    fn plays(&self, lamp: Lamp) -> bool;

    /// Plays `pattern` for some ten seconds, then goes dark.
    ///
    /// # Errors
    /// Naming the file or pin.
    fn play(&mut self, lamp: Lamp, pattern: &Pattern) -> io::Result<()>;

    /// Makes `lamp` shine with `brightness`.
    ///
    /// # Errors
    /// Naming the file or pin.
    fn set(&mut self, lamp: Lamp, brightness: u8) -> io::Result<()>;
}

type Lights = Box<dyn Driver>;

/// Shows `looks` until their sender is gone, then goes dark.
pub async fn run(config: config::Lights, root: SysRoot, looks: watch::Receiver<Look>) {
    match chosen(&config, &root) {
        config::Driver::Leds => show(looks, move || Ok(Box::new(leds::Leds::open(&config, &root)?))).await,
        config::Driver::Gpio => show(looks, move || Ok(Box::new(gpio::Pins::open(&config)?))).await,
        config::Driver::Auto | config::Driver::None => debug!("there are no lights"),
    }
}

/// The driver that `auto` means here.
fn chosen(config: &config::Lights, root: &SysRoot) -> config::Driver {
    let model = || std::fs::read_to_string(root.path("proc/device-tree/model")).unwrap_or_default();
    match config.driver {
        config::Driver::Auto if leds::Leds::exist(config, root) => config::Driver::Leds,
        config::Driver::Auto if model().contains("Raspberry Pi") => config::Driver::Gpio,
        config::Driver::Auto => config::Driver::None,
        driver => driver,
    }
}

/// A driver that may be there or not, and how it is had.
struct Stage<O> {
    open: O,
    lights: Option<Lights>,
    /// Whether the present failure was reported.
    ailing: bool,
}

impl<O: Fn() -> io::Result<Lights> + Clone + Send + 'static> Stage<O> {
    /// Opens the lights where they are not.
    async fn enter(&mut self) -> bool {
        if self.lights.is_none() {
            let open = self.open.clone();
            let opened = tokio::task::spawn_blocking(open).await;
            self.lights = self.judged(opened.unwrap_or_else(|e| Err(io::Error::other(e))));
        }
        self.lights.is_some()
    }

    /// Has `command` carried out, in a thread that may block. What fails is closed.
    async fn tell(&mut self, lamp: Lamp, command: Command) -> bool {
        let Some(mut lights) = self.lights.take() else { return false };
        let told = tokio::task::spawn_blocking(move || {
            match command {
                Command::Play(pattern) => lights.play(lamp, &pattern),
                Command::Set(brightness) => lights.set(lamp, brightness),
            }
            .map(|()| lights)
        });
        self.lights = self.judged(told.await.unwrap_or_else(|e| Err(io::Error::other(e))));
        self.lights.is_some()
    }

    fn judged(&mut self, result: io::Result<Lights>) -> Option<Lights> {
        match result {
            Ok(lights) => Some(lights),
            Err(e) => {
                if !std::mem::replace(&mut self.ailing, true) {
                    error!(code = Fault::Lights.code(), "{}", Failure::new(Fault::Lights, e.to_string()));
                }
                None
            }
        }
    }

    fn plays(&self, lamp: Lamp) -> bool {
        self.lights.as_ref().is_some_and(|lights| lights.plays(lamp))
    }
}

async fn show<O>(mut looks: watch::Receiver<Look>, open: O)
where
    O: Fn() -> io::Result<Lights> + Clone + Send + 'static,
{
    let start = Instant::now();
    let end = looks.clone();
    let mut stage = Stage { open, lights: None, ailing: false };
    let mut shown = *looks.borrow_and_update();
    let Lamps { status, fault } = shown.lamps();
    let now = start.elapsed();
    let mut players = [(Lamp::Status, Player::new(status, now)), (Lamp::Fault, Player::new(fault, now))];
    loop {
        let well = perform(&mut stage, &mut players, start).await;
        let due = if well {
            let due = players.iter().map(|(_, player)| player.due()).min();
            due.unwrap_or_default()
        } else {
            start.elapsed() + RETRY
        };
        tokio::select! {
            () = tokio::time::sleep_until(start + due) => {}
            // Lights that fail are not tried again with every token.
            changed = looks.changed(), if well => if changed.is_err() { break },
            () = closed(&end), if !well => break,
        }
        let look = *looks.borrow_and_update();
        let (Lamps { status, fault }, now) = (look.lamps(), start.elapsed());
        let [(_, first), (_, second)] = &mut players;
        first.show(status, look.tokens != shown.tokens && !look.button, now);
        second.show(fault, false, now);
        shown = look;
    }
    for lamp in [Lamp::Status, Lamp::Fault] {
        let dark = if stage.plays(lamp) { Command::Play(Pattern::off()) } else { Command::Set(0) };
        stage.tell(lamp, dark).await;
    }
}

/// Tells each light what is due. False where the lights fail.
async fn perform<O>(stage: &mut Stage<O>, players: &mut [(Lamp, Player); 2], start: Instant) -> bool
where
    O: Fn() -> io::Result<Lights> + Clone + Send + 'static,
{
    let absent = stage.lights.is_none();
    if !stage.enter().await {
        return false;
    }
    for (lamp, player) in players {
        if absent {
            player.restart(start.elapsed());
        }
        let plays = stage.plays(*lamp);
        if let Some(command) = player.command(plays, start.elapsed())
            && !stage.tell(*lamp, command).await
        {
            return false;
        }
    }
    if std::mem::take(&mut stage.ailing) {
        info!("the lights can be driven again");
    }
    true
}

async fn closed(looks: &watch::Receiver<Look>) {
    let mut looks = looks.clone();
    while looks.changed().await.is_ok() {}
}

#[cfg(test)]
mod tests;
