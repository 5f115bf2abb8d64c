//! The made-up `/`: the files the kernel would show.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

/// The card's place on the bus.
pub const FUNCTION: &str = "0001:01:00.0";
/// The host bridge of its slot.
pub const BRIDGE: &str = "1000110000.pcie";
/// The host bridge of the Pi's own input and output.
pub const RP1_BRIDGE: &str = "1000120000.pcie";

const DEVICES: &str = "sys/bus/pci/devices";
const DRIVER: &str = "sys/bus/platform/drivers/brcm-pcie";
const FIRMWARE: &str = "lib/firmware/axcl/ax650_card.pac";
/// Speed and width of a Raspberry Pi 5's slot, and what the card could.
pub const LINK: (&str, u32) = ("5.0 GT/s PCIe", 1);
const MAX_LINK: (&str, u32) = ("5.0 GT/s PCIe", 2);

/// A file writing to which makes the kernel do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    Remove,
    Rescan,
    Bind,
    Unbind,
}

impl Knob {
    pub const ALL: [Self; 4] = [Self::Remove, Self::Rescan, Self::Bind, Self::Unbind];

    /// Where its FIFO stays, below the control directory.
    const fn keep(self) -> &'static str {
        match self {
            Self::Remove => ".fifo/remove",
            Self::Rescan => "root/sys/bus/pci/rescan",
            Self::Bind => "root/sys/bus/platform/drivers/brcm-pcie/bind",
            Self::Unbind => "root/sys/bus/platform/drivers/brcm-pcie/unbind",
        }
    }
}

/// The tree below `DIR/root`.
pub struct Root {
    dir: PathBuf,
}

fn fifo(path: &Path) -> io::Result<()> {
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?)
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Root {
    /// Makes the tree anew in `dir`; `programs` is what the host's programs are links to.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn new(dir: &Path, programs: &Path) -> io::Result<Self> {
        for old in ["root", ".fifo", ".draft", ".gone", ".new"] {
            let old = dir.join(old);
            absent_is_fine(if old.is_dir() { fs::remove_dir_all(old) } else { fs::remove_file(old) })?;
        }
        let root = Self { dir: dir.to_owned() };
        for folder in [
            "dev",
            DEVICES,
            DRIVER,
            "sys/module",
            "proc/sys/kernel/random",
            "usr/sbin",
            "usr/bin",
            "lib/firmware/axcl",
        ] {
            fs::create_dir_all(root.path(folder))?;
        }
        fs::create_dir_all(dir.join(".fifo"))?;
        for knob in Knob::ALL {
            fifo(&dir.join(knob.keep()))?;
        }
        fifo(&root.path("dev/kmsg"))?;
        for program in ["usr/sbin/modprobe", "usr/sbin/rmmod", "usr/bin/systemctl"] {
            symlink(programs, root.path(program))?;
        }
        let watchdog = root.path("sys/class/watchdog/watchdog0");
        fs::create_dir_all(&watchdog)?;
        fs::write(watchdog.join("state"), "active\n")?;
        fs::write(watchdog.join("timeout"), "60\n")?;
        root.set_firmware(true)?;
        root.new_boot_id()?;
        root.write("proc/modules", "")?;
        Ok(root)
    }

    /// `path` below the tree.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.join("root").join(path)
    }

    /// Puts `text` into a file, whole.
    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> io::Result<()> {
        let draft = self.dir.join(".draft");
        fs::write(&draft, text)?;
        fs::rename(draft, self.path(path))
    }

    /// Takes a folder away at once.
    fn take_away(&self, path: &Path) -> io::Result<()> {
        let gone = self.dir.join(".gone");
        absent_is_fine(fs::rename(path, &gone).and_then(|()| fs::remove_dir_all(gone)))
    }

    /// Opens the kernel log's FIFO for writing, so that nobody ever waits for the other side.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn kernel_log(&self) -> io::Result<File> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(self.path("dev/kmsg"))
    }

    /// A new boot id.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new_boot_id(&self) -> io::Result<String> {
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        self.write("proc/sys/kernel/random/boot_id", &id)?;
        Ok(id.trim().to_owned())
    }

    /// Puts the firmware's file there or takes it away.
    ///
    /// # Errors
    /// When it cannot be changed.
    pub fn set_firmware(&self, there: bool) -> io::Result<()> {
        if there {
            return self.write(FIRMWARE, "emulated firmware\n");
        }
        absent_is_fine(fs::remove_file(self.path(FIRMWARE)))
    }

    /// Whether the firmware's file is there.
    pub fn has_firmware(&self) -> bool {
        self.path(FIRMWARE).exists()
    }

    /// Shows a module or takes it and its node away.
    ///
    /// # Errors
    /// When the files cannot be changed.
    pub fn set_module(&self, name: &str, state: Option<&str>) -> io::Result<()> {
        let folder = format!("sys/module/{name}");
        let Some(state) = state else { return self.take_away(&self.path(folder)) };
        fs::create_dir_all(self.path(&folder))?;
        self.write(&format!("{folder}/initstate"), format!("{state}\n"))
    }

    /// Writes `/proc/modules`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_modules(&self, text: &str) -> io::Result<()> {
        self.write("proc/modules", text)
    }

    /// Makes a device node or takes it away.
    ///
    /// # Errors
    /// When it cannot be changed.
    pub fn set_node(&self, name: &str, there: bool) -> io::Result<()> {
        let path = self.path("dev").join(name);
        if there { fs::write(path, "") } else { absent_is_fine(fs::remove_file(path)) }
    }

    /// Shows the card on the bus or takes it away.
    ///
    /// # Errors
    /// When the files cannot be changed.
    pub fn set_function(&self, there: bool) -> io::Result<()> {
        let folder = self.path(DEVICES).join(FUNCTION);
        if !there {
            return self.take_away(&folder);
        }
        let new = self.dir.join(".new");
        fs::create_dir_all(&new)?;
        let files = [
            ("vendor", "0x1f4b"),
            ("device", "0x0650"),
            ("subsystem_vendor", "0x1f4b"),
            ("subsystem_device", "0x0650"),
            ("class", "0x040000"),
            ("max_link_speed", MAX_LINK.0),
        ];
        for (name, text) in files {
            fs::write(new.join(name), format!("{text}\n"))?;
        }
        fs::write(new.join("max_link_width"), format!("{}\n", MAX_LINK.1))?;
        fs::hard_link(self.dir.join(Knob::Remove.keep()), new.join("remove"))?;
        fs::rename(new, folder)
    }

    /// What reading the card's configuration gives, and its link.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn set_link(&self, answers: bool, speed: &str, width: u32) -> io::Result<()> {
        let folder = format!("{DEVICES}/{FUNCTION}");
        let mut config = [if answers { 0 } else { 0xff }; 256];
        if answers {
            let start = [0x4b, 0x1f, 0x50, 0x06, 0x06, 0x04, 0x10, 0x00, 0x01, 0x00, 0x00, 0x04];
            for (place, byte) in config.iter_mut().zip(start) {
                *place = byte;
            }
        }
        self.write(&format!("{folder}/config"), config)?;
        self.write(&format!("{folder}/current_link_speed"), format!("{speed}\n"))?;
        self.write(&format!("{folder}/current_link_width"), format!("{width}\n"))
    }

    /// Shows a host bridge as bound or not.
    ///
    /// # Errors
    /// When the files cannot be changed.
    pub fn set_bridge(&self, bridge: &str, bound: bool) -> io::Result<()> {
        let entry = self.path(DRIVER).join(bridge);
        if bound { fs::create_dir_all(entry) } else { self.take_away(&entry) }
    }

    /// Shows a process or takes it away.
    ///
    /// # Errors
    /// When the link cannot be changed.
    pub fn set_process(&self, pid: u32, there: bool) -> io::Result<()> {
        let link = self.path("proc").join(pid.to_string());
        absent_is_fine(fs::remove_file(&link))?;
        if there { symlink(format!("/proc/{pid}"), link) } else { Ok(()) }
    }

    /// Processes that hold a device node, by looking at what every process has open.
    pub fn holders(&self, node: &str) -> Vec<u32> {
        let Ok(node) = fs::canonicalize(self.path("dev").join(node)) else { return Vec::new() };
        let holds = |pid: &u32| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == node))
        };
        let names = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(holds).collect()
    }
}

/// What is written to a knob of the tree in `dir`: hands each write to `turned`, for ever.
///
/// # Errors
/// When the FIFO cannot be read.
pub fn watch(dir: &Path, knob: Knob, turned: impl Fn(Knob, &str)) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(dir.join(knob.keep()))?;
    let mut buffer = [0; 256];
    loop {
        let read = file.read(&mut buffer)?;
        let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
        turned(knob, text.trim());
    }
}
