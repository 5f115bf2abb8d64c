//! The card on its bus: whether it is there, and how good its link is.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::{Sighting, off_loop};
use crate::fault::{Failure, Fault};
use crate::sys::root::SysRoot;

/// How often the card is looked at.
const POLL: Duration = Duration::from_secs(2);
/// A single bad reading means nothing.
const STRIKES: u32 = 2;
const DEVICES: &str = "sys/bus/pci/devices";
const VENDOR: &str = "0x1f4b";
const DEVICE: &str = "0x0650";

/// What the bus shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// There is no PCI bus.
    NoBus,
    Missing,
    Present(Card),
}

/// The card's PCI function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    /// Such as `0001:01:00.0`.
    pub address: String,
    /// The vendor as the card itself answers; all ones where nobody answers.
    pub vendor: Option<u16>,
    /// GT/s.
    pub speed: Option<f64>,
    /// Lanes.
    pub width: Option<u32>,
}

/// Something bad is told once, when it was seen twice in a row, and again after it was good.
#[derive(Debug, Default)]
struct Strikes(u32);

impl Strikes {
    fn count(&mut self, bad: bool) -> bool {
        self.0 = if bad { self.0.saturating_add(1) } else { 0 };
        self.0 == STRIKES
    }
}

/// Compares readings.
#[derive(Debug, Default)]
pub struct Judge {
    present: Option<bool>,
    lost: Strikes,
    slow: Strikes,
    best_speed: f64,
    best_width: u32,
}

impl Judge {
    /// What `reading` shows that the ones before did not.
    pub fn judge(&mut self, reading: &Reading) -> Vec<Sighting> {
        match reading {
            Reading::NoBus => Vec::new(),
            Reading::Missing => {
                (self.lost, self.slow) = Default::default();
                self.appear(false).into_iter().collect()
            }
            Reading::Present(card) => {
                let came = self.appear(true);
                came.into_iter().chain(self.look(card).map(Sighting::Trouble)).collect()
            }
        }
    }

    fn appear(&mut self, present: bool) -> Option<Sighting> {
        let news = self.present.replace(present) != Some(present);
        news.then_some(if present { Sighting::CardPresent } else { Sighting::CardMissing })
    }

    fn look(&mut self, card: &Card) -> Option<Failure> {
        let vendor = card.vendor?;
        let lost = vendor == u16::MAX;
        if self.lost.count(lost) {
            let detail = format!("{} answers all ones", card.address);
            return Some(Failure::new(Fault::CardLink, detail));
        }
        // Speed and width read as nonsense where the link is lost.
        if lost {
            return None;
        }
        let (speed, width) = (card.speed.unwrap_or(self.best_speed), card.width.unwrap_or(self.best_width));
        let slow = speed < self.best_speed || width < self.best_width;
        self.best_speed = self.best_speed.max(speed);
        self.best_width = self.best_width.max(width);
        self.slow.count(slow).then(|| {
            let detail = format!(
                "{} runs at {speed} GT/s on {width} lanes; it ran at {} GT/s on {}",
                card.address, self.best_speed, self.best_width
            );
            Failure::new(Fault::CardLink, detail)
        })
    }
}

/// Watches the bus below `root`.
pub async fn watch(root: SysRoot, out: mpsc::Sender<Sighting>) {
    let mut judge = Judge::default();
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        poll.tick().await;
        let root = root.clone();
        let Some(reading) = off_loop(move || read(&root)).await else { continue };
        for sighting in judge.judge(&reading) {
            // Fails only where nobody wants to know any more.
            let _ = out.send(sighting).await;
        }
    }
}

/// Looks for the card and at its link.
pub fn read(root: &SysRoot) -> Reading {
    let Ok(devices) = fs::read_dir(root.path(DEVICES)) else { return Reading::NoBus };
    let mut devices = devices.filter_map(|entry| Some(entry.ok()?.path()));
    match devices.find(|path| has(path, "vendor", VENDOR) && has(path, "device", DEVICE)) {
        Some(path) => Reading::Present(card(&path)),
        None => Reading::Missing,
    }
}

fn has(device: &Path, file: &str, value: &str) -> bool {
    line(&device.join(file)).is_some_and(|line| line == value)
}

fn line(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn card(path: &Path) -> Card {
    let name = path.file_name().unwrap_or_default();
    Card {
        address: name.to_string_lossy().into_owned(),
        vendor: vendor(path),
        speed: line(&path.join("current_link_speed")).and_then(|text| leading(&text)),
        width: line(&path.join("current_link_width")).and_then(|text| leading(&text)),
    }
}

/// The number before the first blank: `5.0 GT/s PCIe`. `None` for `Unknown`.
fn leading<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.split_whitespace().next()?.parse().ok()
}

/// The vendor from configuration space: the kernel keeps a copy of what `vendor` shows,
/// which stays the same when the link is lost.
fn vendor(device: &Path) -> Option<u16> {
    let mut id = [0; 4];
    File::open(device.join("config")).ok()?.read_exact(&mut id).ok()?;
    let [low, high, ..] = id;
    Some(u16::from_le_bytes([low, high]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(vendor: u16, speed: f64, width: u32) -> Reading {
        let address = "0001:01:00.0".to_owned();
        Reading::Present(Card { address, vendor: Some(vendor), speed: Some(speed), width: Some(width) })
    }

    fn good() -> Reading {
        card(0x1f4b, 8.0, 4)
    }

    fn lost() -> Reading {
        card(0xffff, 8.0, 4)
    }

    const NEVER: [usize; 0] = [];

    /// Numbers of readings at which the link was reported.
    fn reports(readings: &[Reading]) -> Vec<usize> {
        let mut judge = Judge::default();
        let trouble = |seen: Vec<Sighting>| {
            seen.iter().any(|s| matches!(s, Sighting::Trouble(f) if f.fault == Fault::CardLink))
        };
        let all = readings.iter().enumerate();
        all.filter(|(_, reading)| trouble(judge.judge(reading))).map(|(n, _)| n).collect()
    }

    #[test]
    fn the_first_look_and_every_change_are_told() {
        use Reading::{Missing, NoBus};
        let mut judge = Judge::default();
        for (reading, told) in [
            (NoBus, None),
            (Missing, Some(Sighting::CardMissing)),
            (Missing, None),
            (good(), Some(Sighting::CardPresent)),
            (good(), None),
            (NoBus, None),
            (good(), None),
            (Missing, Some(Sighting::CardMissing)),
        ] {
            assert_eq!(judge.judge(&reading), Vec::from_iter(told), "{reading:?}");
        }
        assert_eq!(Judge::default().judge(&good()), [Sighting::CardPresent]);
    }

    #[test]
    fn a_link_lost_twice_in_a_row_is_told_once_until_it_is_back() {
        assert_eq!(reports(&[good(), lost(), good(), lost(), good()]), NEVER);
        assert_eq!(reports(&[good(), lost(), lost(), lost(), lost()]), [2]);
        assert_eq!(reports(&[lost(), lost(), good(), lost(), lost()]), [1, 4]);
        assert_eq!(reports(&[lost(), lost(), Reading::Missing, lost(), lost()]), [1, 4]);
    }

    #[test]
    fn a_link_below_its_best_is_told_once_until_it_is_back() {
        let (slow, narrow) = (card(0x1f4b, 2.5, 4), card(0x1f4b, 8.0, 1));
        assert_eq!(reports(&[good(), slow.clone(), good(), narrow.clone()]), NEVER);
        assert_eq!(reports(&[good(), slow.clone(), narrow.clone(), slow.clone()]), [2]);
        assert_eq!(reports(&[slow.clone(), slow.clone(), good(), slow.clone(), slow.clone()]), [4]);
        // The best survives the card's absence: a slot reset may bring it back narrower.
        assert_eq!(reports(&[good(), Reading::Missing, narrow.clone(), narrow]), [3]);
    }

    #[test]
    fn what_cannot_be_read_is_not_judged() {
        let blind = Reading::Present(Card { address: "x".into(), ..Card::default() });
        let unknown = Reading::Present(Card { vendor: Some(0x1f4b), ..Card::default() });
        assert_eq!(reports(&[good(), blind.clone(), blind, unknown.clone(), unknown]), NEVER);
    }

    #[test]
    fn link_figures_are_read_as_the_kernel_writes_them() {
        assert_eq!(leading::<f64>("5.0 GT/s PCIe"), Some(5.0));
        assert_eq!(leading::<f64>("8 GT/s"), Some(8.0));
        assert_eq!(leading::<f64>("Unknown"), None);
        assert_eq!(leading::<u32>("2"), Some(2));
    }
}
