//! LEDs of the kernel's LED class. Where the kernel can play patterns, a finite one is
//! handed to it, which ends dark: lights go out by themselves when nobody renews them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::pattern::Pattern;
use super::{Driver, Lamp};
use crate::config::Lights;
use crate::sys::root::SysRoot;

const CLASS: &str = "sys/class/leds";
/// A pattern handed to the kernel lasts this long: twice the time between two of them.
const LASTS_MS: u32 = 10_000;
/// The kernel glides in steps of this length, and takes one more of them than it is told.
const GLIDE_STEP_MS: u32 = 50;

/// Both LEDs.
pub struct Leds {
    status: Led,
    fault: Led,
}

struct Led {
    directory: PathBuf,
    brightest: u32,
    /// Whether the kernel plays patterns.
    plays: bool,
}

impl Leds {
    /// Whether both LEDs exist.
    pub fn exist(config: &Lights, root: &SysRoot) -> bool {
        [&config.status_led, &config.fault_led].iter().all(|name| root.path(CLASS).join(name).is_dir())
    }

    /// Takes both LEDs over.
    ///
    /// # Errors
    /// Those of their files.
    pub fn open(config: &Lights, root: &SysRoot) -> io::Result<Self> {
        let led = |name: &String| Led::open(root.path(CLASS).join(name));
        Ok(Self { status: led(&config.status_led)?, fault: led(&config.fault_led)? })
    }

    fn led(&self, lamp: Lamp) -> &Led {
        match lamp {
            Lamp::Status => &self.status,
            Lamp::Fault => &self.fault,
        }
    }
}

impl Driver for Leds {
    fn plays(&self, lamp: Lamp) -> bool {
        self.led(lamp).plays
    }

    fn play(&mut self, lamp: Lamp, pattern: &Pattern) -> io::Result<()> {
        self.led(lamp).play(pattern)
    }

    fn set(&mut self, lamp: Lamp, brightness: u8) -> io::Result<()> {
        let led = self.led(lamp);
        led.put("brightness", &led.scaled(brightness).to_string())
    }
}

impl Led {
    fn open(directory: PathBuf) -> io::Result<Self> {
        let brightest = fs::read_to_string(directory.join("max_brightness"));
        let brightest = brightest.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(255);
        let mut led = Self { directory, brightest, plays: false };
        let triggers = led.text("trigger")?;
        led.plays = triggers.split_whitespace().any(|name| name.trim_matches(['[', ']']) == "pattern");
        if led.plays
            && let Err(e) = led.takes_patterns()
        {
            warn!("{e}: the brightness is set step by step, and stays as it is if this program is killed");
            led.plays = false;
        }
        if !led.plays {
            led.put("trigger", "none")?;
        }
        Ok(led)
    }

    /// Whether patterns may be written: their files come with the trigger, and belong to root
    /// unless systemd/llm8850.rules saw to it. Missing ones are no matter of rights.
    fn takes_patterns(&self) -> io::Result<()> {
        self.choose()?;
        for file in [self.pattern_file(), "repeat"] {
            let path = self.directory.join(file);
            match OpenOptions::new().write(true).open(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(&path, &e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Has the kernel play patterns. Choosing that again would let the light go out for a moment.
    fn choose(&self) -> io::Result<()> {
        if self.text("trigger")?.contains("[pattern]") { Ok(()) } else { self.put("trigger", "pattern") }
    }

    /// By the coarse timers behind `pattern`, each step of a glide lasts an eighth longer.
    fn pattern_file(&self) -> &'static str {
        if self.directory.join("hr_pattern").exists() { "hr_pattern" } else { "pattern" }
    }

    fn play(&self, pattern: &Pattern) -> io::Result<()> {
        self.choose()?;
        self.put(self.pattern_file(), &self.programme(pattern))?;
        // Last, because it begins the pattern anew with its own count.
        self.put("repeat", "1")
    }

    /// As the kernel wants it: pairs of brightness and time, gliding from each to the
    /// next; a second one of no length makes it jump. Ends dark.
    fn programme(&self, pattern: &Pattern) -> String {
        let smooth = pattern.smooth && self.brightest > 1;
        let times = (LASTS_MS / pattern.period().max(1)).max(1);
        let mut programme = String::new();
        for _ in 0..times {
            let following = pattern.steps.iter().cycle().skip(1);
            for (&(brightness, ms), &(next, _)) in pattern.steps.iter().zip(following) {
                let glides = smooth && brightness != next;
                let ms = if glides { ms.saturating_sub(GLIDE_STEP_MS).max(1) } else { ms };
                let brightness = self.scaled(brightness);
                programme += &format!("{brightness} {ms} ");
                if !smooth {
                    programme += &format!("{brightness} 0 ");
                }
            }
        }
        programme + "0 1 0 0"
    }

    fn scaled(&self, brightness: u8) -> u32 {
        (u32::from(brightness) * self.brightest + 127) / 255
    }

    fn text(&self, file: &str) -> io::Result<String> {
        let path = self.directory.join(file);
        fs::read_to_string(&path).map_err(|e| named(&path, &e))
    }

    fn put(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.directory.join(file);
        let write = || OpenOptions::new().write(true).truncate(true).open(&path)?.write_all(value.as_bytes());
        write().map_err(|e| named(&path, &e))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
