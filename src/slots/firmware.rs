//! The machine's boot firmware: what it says of this start, and what it is to do at the next.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::policy::Restart;
use super::record::Slot;
use super::setup::{Access, Setup};
use crate::fault::{Failure, Fault, Result};
use crate::sys::program;
use crate::sys::root::SysRoot;

const TOLD: &str = "proc/device-tree/chosen/bootloader";
const SYSTEMCTL: &str = "usr/bin/systemctl";
/// Ordering one takes no longer.
const RESTART: Duration = Duration::from_secs(60);
/// 2025-03-10: bootloaders before it do not know `[boot_partition=N]`.
const PROVEN: u32 = 1_741_564_800;

/// How the machine was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    pub slot: Slot,
    /// It was asked for this once.
    pub tryboot: bool,
}

/// A boot firmware with two slots.
pub trait Firmware {
    /// How this start came about; nothing where the firmware knows of no slots.
    fn started(&self) -> Option<Started>;

    /// What is started by itself; nothing where that cannot be read.
    fn committed(&self) -> Option<Slot>;

    /// Has `slot` started by itself from now on, as one write that is whole or not at all.
    ///
    /// # Errors
    /// [`Fault::Setup`].
    fn commit(&mut self, slot: Slot) -> Result<()>;

    /// Restarts the machine.
    ///
    /// # Errors
    /// [`Fault::HostReboot`].
    fn restart(&mut self, into: Restart) -> Result<()>;

    /// Whether it can start a slot for once.
    ///
    /// # Errors
    /// [`Fault::Bootloader`] with what to do.
    fn can_try(&self) -> Result<()>;
}

/// The Raspberry Pi's: tells in the device tree, reads `autoboot.txt`, and starts the other
/// slot once when the restart was asked for with `tryboot`.
pub struct RaspberryPi {
    root: SysRoot,
    /// A directory that stands for the partition `setup`.
    setup: Option<PathBuf>,
}

impl RaspberryPi {
    pub fn new(root: SysRoot, setup: Option<PathBuf>) -> Self {
        Self { root, setup }
    }

    /// One of its numbers.
    fn cell(&self, name: &str) -> Option<u32> {
        let bytes = std::fs::read(self.root.path(TOLD).join(name)).ok()?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    fn setup(&self, access: Access) -> Result<Setup> {
        Setup::open(&self.root, self.setup.as_deref(), access)
    }
}

impl Firmware for RaspberryPi {
    fn started(&self) -> Option<Started> {
        let slot = Slot::of_partition(self.cell("partition")?)?;
        Some(Started { slot, tryboot: self.cell("tryboot").is_some_and(|flag| flag != 0) })
    }

    fn committed(&self) -> Option<Slot> {
        self.setup(Access::Read)
            .inspect_err(|failure| tracing::warn!(code = failure.fault.code(), "{failure}"))
            .ok()?
            .committed()
    }

    fn commit(&mut self, slot: Slot) -> Result<()> {
        self.setup(Access::Write)?.commit(slot)
    }

    fn restart(&mut self, into: Restart) -> Result<()> {
        let trial: &[&str] = match into {
            Restart::Plain => &[],
            // "0": whatever partition is committed; its `[tryboot]` section then holds.
            Restart::Trial => &["--reboot-argument=0 tryboot"],
        };
        let order = |verb: &[&str]| {
            let until = Instant::now() + RESTART;
            program::run(&self.root.path(SYSTEMCTL), &[verb, trial].concat(), None, Some(until))
        };
        order(&["reboot"])
            .or_else(|text| {
                tracing::error!("systemctl reboot: {text}: the restart is forced");
                order(&["reboot", "--force"])
            })
            .map_err(|text| Failure::new(Fault::HostReboot, text))
    }

    fn can_try(&self) -> Result<()> {
        match self.cell("build-timestamp") {
            Some(built) if built >= PROVEN => Ok(()),
            Some(built) => {
                let at = std::time::UNIX_EPOCH + Duration::from_secs(built.into());
                let day = crate::sys::calendar::format(at, "%Y-%m-%d");
                Err(Failure::new(Fault::Bootloader, format!("it is of {day}, 2025-03-10 is needed")))
            }
            None => Err(Failure::new(Fault::Bootloader, "it does not tell its date")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn machine(cells: &[(&str, u32)]) -> (tempfile::TempDir, RaspberryPi) {
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join(TOLD);
        fs::create_dir_all(&told).unwrap();
        for (name, number) in cells {
            fs::write(told.join(name), number.to_be_bytes()).unwrap();
        }
        let setup = directory.path().join("setup");
        fs::create_dir(&setup).unwrap();
        let firmware = RaspberryPi::new(SysRoot::new(directory.path()), Some(setup));
        (directory, firmware)
    }

    #[test]
    fn what_the_firmware_tells_is_understood() {
        let started = |cells: &[(&str, u32)]| machine(cells).1.started();
        assert_eq!(started(&[]), None);
        assert_eq!(started(&[("partition", 1)]), None);
        assert_eq!(started(&[("partition", 2)]), Some(Started { slot: Slot::A, tryboot: false }));
        let trial = [("partition", 3), ("tryboot", 1)];
        assert_eq!(started(&trial), Some(Started { slot: Slot::B, tryboot: true }));
        let (directory, firmware) = machine(&trial);
        fs::write(directory.path().join(TOLD).join("partition"), "3").unwrap();
        assert_eq!(firmware.started(), None, "not a number of four bytes");
    }

    #[test]
    fn a_bootloader_that_is_too_old_is_refused_with_the_remedy() {
        assert_eq!(machine(&[("build-timestamp", PROVEN)]).1.can_try(), Ok(()));
        let text = machine(&[("build-timestamp", PROVEN - 1)]).1.can_try().unwrap_err().to_string();
        assert!(text.contains("it is of 2025-03-09") && text.contains("rpi-eeprom-update"), "{text}");
        assert_eq!(machine(&[]).1.can_try().unwrap_err().fault, Fault::Bootloader);
    }

    #[test]
    fn a_restart_names_the_trial_to_systemd() {
        let (directory, mut firmware) = machine(&[]);
        let program = directory.path().join(SYSTEMCTL);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        let asked = directory.path().join("asked");
        let script = format!("#!/bin/sh\nprintf '%s|' \"$@\" >> {}\n", asked.display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        firmware.restart(Restart::Trial).unwrap();
        firmware.restart(Restart::Plain).unwrap();
        assert_eq!(fs::read_to_string(&asked).unwrap(), "reboot|--reboot-argument=0 tryboot|reboot|");
        fs::write(&program, format!("#!/bin/sh\necho $* >> {}\n[ \"$2\" = --force ]\n", asked.display()))
            .unwrap();
        firmware.restart(Restart::Plain).unwrap();
        assert!(fs::read_to_string(&asked).unwrap().ends_with("reboot\nreboot --force\n"), "forced");
    }
}
