//! Two GPIO pins of a Raspberry Pi.

use std::io;

use rppal::gpio::{Gpio, Level, OutputPin};

use super::pattern::Pattern;
use super::{Driver, Lamp};
use crate::config::{Lights, Polarity};

/// From this brightness on a pin is on.
const ON: u8 = 128;

/// Both pins. Off when dropped.
pub struct Pins {
    status: OutputPin,
    fault: OutputPin,
    on: Level,
}

impl Pins {
    /// Takes both pins, dark.
    ///
    /// # Errors
    /// Where this is no Raspberry Pi, or the pins cannot be had.
    pub fn open(config: &Lights) -> io::Result<Self> {
        let gpio = Gpio::new().map_err(|e| io::Error::other(format!("GPIO: {e}")))?;
        let on = match config.polarity {
            Polarity::ActiveHigh => Level::High,
            Polarity::ActiveLow => Level::Low,
        };
        let pin = |number: u8| {
            let pin = gpio.get(number).map_err(|e| io::Error::other(format!("GPIO {number}: {e}")))?;
            Ok::<_, io::Error>(match on {
                Level::High => pin.into_output_low(),
                Level::Low => pin.into_output_high(),
            })
        };
        Ok(Self { status: pin(config.status_pin)?, fault: pin(config.fault_pin)?, on })
    }
}

impl Driver for Pins {
    fn plays(&self, _: Lamp) -> bool {
        false
    }

    fn play(&mut self, _: Lamp, _: &Pattern) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set(&mut self, lamp: Lamp, brightness: u8) -> io::Result<()> {
        let level = if brightness >= ON { self.on } else { !self.on };
        match lamp {
            Lamp::Status => self.status.write(level),
            Lamp::Fault => self.fault.write(level),
        }
        Ok(())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.status.write(!self.on);
        self.fault.write(!self.on);
    }
}
