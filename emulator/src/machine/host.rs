//! The state of the emulated host and card, and what follows from it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::breakage::{Breakage, Kind, Rung};
use super::module::{self, AXCL_HOST, HOST_DEV, Loaded, Stage};
use super::processes::{Attached, send_line};
use super::root::{BRIDGE, LINK, RP1_BRIDGE, Root};
use super::settings::Settings;
use crate::card::condition::unix_ms;

/// What the card's chip does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chip {
    /// Waits for its firmware.
    Download,
    /// The firmware runs.
    Running,
    /// Neither.
    Silent,
}

/// What the driver believes of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heartbeat {
    /// Nobody listens for it.
    None,
    Alive,
    Dead,
}

/// Something broken.
#[derive(Debug, Serialize)]
pub struct Active {
    pub id: u64,
    #[serde(flatten)]
    pub breakage: Breakage,
    pub began_unix_ms: u64,
    /// It has done something.
    pub acted: bool,
    /// Processes that used the card when it broke.
    #[serde(skip)]
    pub witnesses: Vec<u32>,
}

/// Something to be done later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The driver has waited long enough for a heartbeat; the number is that of the push.
    MissHeartbeat(u64),
    /// The driver repeats itself.
    SayDead(u64),
    /// A break ends by itself.
    Mend(u64),
    /// The chip is too hot.
    Overheat(u64),
    /// The slot's link is up again.
    LinkUp,
}

/// The emulated host with its card.
pub struct Host {
    pub dir: PathBuf,
    pub root: Root,
    pub settings: Settings,
    pub modules: Vec<Loaded>,
    pub chip: Chip,
    pub heartbeat: Heartbeat,
    /// How often the driver began to listen for a heartbeat.
    pub heart: u64,
    /// The card is shown on the bus.
    pub enumerated: bool,
    pub bridge_bound: bool,
    pub ports_leaked: u32,
    pub oopses: Vec<String>,
    pub broken: Vec<Active>,
    pub attached: Vec<Attached>,
    /// How often a process was told something.
    pub tellings: u64,
    pub boot_id: String,
    pub reboots: u64,
    pub pushes: u64,
    pub deeds: Vec<(Instant, Deed)>,
    pub last_id: u64,
    subscribers: Vec<UnixStream>,
    log: File,
    log_lines: u64,
    booted: Instant,
    /// A missing heartbeat is being waited for.
    pub missing: bool,
    link_shown: Option<(bool, String, u32)>,
}

/// Says what could not be done to the files; the machine goes on.
pub fn note(result: io::Result<()>) {
    if let Err(e) = result {
        let _ = writeln!(io::stderr(), "axcl-machine: {e}");
    }
}

impl Host {
    /// A freshly booted host without modules, its card in download mode.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub fn new(dir: &Path, programs: &Path, settings: Settings) -> io::Result<Self> {
        let root = Root::new(dir, programs)?;
        let log = root.kernel_log()?;
        let boot_id = root.new_boot_id()?;
        root.set_bridge(BRIDGE, true)?;
        root.set_bridge(RP1_BRIDGE, true)?;
        root.set_function(true)?;
        Ok(Self {
            dir: dir.to_owned(),
            root,
            settings,
            modules: Vec::new(),
            chip: Chip::Download,
            heartbeat: Heartbeat::None,
            heart: 0,
            enumerated: true,
            bridge_bound: true,
            ports_leaked: 0,
            oopses: Vec::new(),
            broken: Vec::new(),
            attached: Vec::new(),
            tellings: 0,
            boot_id,
            reboots: 0,
            pushes: 0,
            deeds: Vec::new(),
            last_id: 0,
            subscribers: Vec::new(),
            log,
            log_lines: 0,
            booted: Instant::now(),
            missing: false,
            link_shown: None,
        })
    }

    /// A number never used before.
    pub fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Writes a line to the kernel log.
    pub fn kernel(&mut self, level: u8, text: impl AsRef<str>) {
        self.log_lines += 1;
        let at = self.booted.elapsed().as_micros();
        let record = format!("{level},{},{at},-;{}\n", self.log_lines, text.as_ref());
        // Nobody may be reading: then the oldest records stay and new ones are lost.
        let _ = self.log.write_all(record.as_bytes());
    }

    /// Tells everyone who subscribed.
    pub fn announce(&mut self, event: &str, details: Value) {
        let mut line = json!({ "event": event, "unix_ms": unix_ms() });
        if let (Some(line), Value::Object(details)) = (line.as_object_mut(), details) {
            line.extend(details);
        }
        let line = line.to_string();
        self.subscribers.retain(|stream| send_line(stream, line.clone()));
    }

    /// From now on a connection is told what happens.
    pub fn subscribe(&mut self, stream: UnixStream) {
        self.subscribers.push(stream);
    }

    /// Plans something.
    pub fn later(&mut self, ms: u64, deed: Deed) {
        self.deeds.push((Instant::now() + Duration::from_millis(ms), deed));
    }

    /// Whether a module is in the kernel, however far.
    pub fn has_module(&self, name: &str) -> bool {
        self.modules.iter().any(|loaded| loaded.module.name == name)
    }

    /// Breaks of interest, oldest first.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.broken.iter().map(|active| &active.breakage.kind)
    }

    /// Whether something like `wanted` is broken.
    pub fn is_broken(&self, wanted: impl Fn(&Kind) -> bool) -> bool {
        self.kinds().any(wanted)
    }

    /// The card reads as all ones.
    pub fn link_lost(&self) -> bool {
        self.is_broken(|kind| matches!(kind, Kind::LinkLost { .. }))
    }

    /// The card is in its slot and powered.
    pub fn present(&self) -> bool {
        !self.is_broken(|kind| matches!(kind, Kind::Absent { .. }))
    }

    /// The card's firmware sends heartbeats and answers the driver.
    pub fn responsive(&self) -> bool {
        self.enumerated
            && self.chip == Chip::Running
            && !self.link_lost()
            && !self.is_broken(|kind| matches!(kind, Kind::Dead { .. }))
    }

    /// The driver knows of a card.
    pub fn listed(&self) -> bool {
        self.enumerated && self.has_module(HOST_DEV)
    }

    /// A break begins to act: noted for whoever measures how soon that is noticed.
    pub fn acted(&mut self, id: u64) {
        let Some(active) = self.broken.iter_mut().find(|active| active.id == id) else { return };
        active.acted = true;
        let breakage = json!(active.breakage);
        let line =
            json!({ "acted": &breakage, "break": id, "unix_ms": unix_ms(), "pid": std::process::id() });
        note(append(&self.dir.join("acted.jsonl"), &line));
        self.announce("acted", json!({ "break": id, "acted": breakage }));
    }

    /// Draws the consequences of any change: files, heartbeat, what processes are told.
    pub fn settle(&mut self) {
        if self.heartbeat == Heartbeat::Alive && !self.responsive() && !self.missing {
            self.missing = true;
            self.later(self.settings.heartbeat_ms, Deed::MissHeartbeat(self.heart));
        }
        if self.enumerated {
            let (mut speed, mut width) = (LINK.0.to_owned(), LINK.1);
            for kind in self.kinds() {
                if let Kind::LinkDrop { speed: new_speed, width: new_width } = kind {
                    speed = new_speed.clone().unwrap_or(speed);
                    width = new_width.unwrap_or(width);
                }
            }
            let shown = Some((!self.link_lost(), speed, width));
            if shown != self.link_shown {
                if let Some((answers, speed, width)) = &shown {
                    note(self.root.set_link(*answers, speed, *width));
                }
                self.link_shown = shown;
            }
        }
        self.tell_all();
    }

    /// Shows the card on the bus or takes it away.
    pub fn enumerate(&mut self, there: bool) {
        if self.enumerated != there {
            self.enumerated = there;
            self.link_shown = None;
            note(self.root.set_function(there));
            self.announce("card", json!({ "on_bus": there }));
        }
    }

    /// Does what was planned.
    pub fn act(&mut self, deed: Deed) {
        match deed {
            Deed::MissHeartbeat(heart) => self.miss_heartbeat(heart),
            Deed::SayDead(heart) => self.say_dead(heart),
            Deed::Mend(id) => self.mend(|active| active.id == id),
            Deed::Overheat(id) => {
                if self.broken.iter().any(|active| active.id == id) {
                    self.chip = Chip::Download;
                }
            }
            Deed::LinkUp => self.train(),
        }
    }

    /// Weighs a rung: what it mends is mended.
    pub fn climb(&mut self, rung: Rung) {
        self.mend(|active| active.breakage.heals_at <= rung);
    }

    /// `/proc/modules` and the modules' folders.
    pub fn show_modules(&self) {
        let text = module::proc_modules(&self.modules, |module| {
            module.node.map_or(0, |node| self.root.holders(node).len())
        });
        note(self.root.set_modules(&text));
        for loaded in &self.modules {
            let state = match loaded.stage {
                Stage::Loading => "coming",
                Stage::Live => "live",
                Stage::Unloading => "going",
            };
            note(self.root.set_module(loaded.module.name, Some(state)));
        }
    }

    /// Everything, for the command `state`.
    pub fn report(&self) -> Value {
        let process = |a: &Attached| json!({ "pid": a.pid, "name": a.name, "active": a.active, "lost": a.lost, "gate": self.gate_for(a), "hears": a.hears() });
        json!({
            "boot_id": self.boot_id, "reboots": self.reboots, "pushes": self.pushes,
            "modules": self.modules.iter().map(|l| json!({"name": l.module.name, "stage": l.stage})).collect::<Vec<_>>(),
            "driver_up": self.modules.iter().any(|l| l.module.name == AXCL_HOST && l.stage == Stage::Live),
            "bridge_bound": self.bridge_bound, "on_bus": self.enumerated, "present": self.present(),
            "chip": self.chip, "heartbeat": self.heartbeat, "responsive": self.responsive(),
            "ports": { "used": self.ports_used(), "leaked": self.ports_leaked },
            "oops": self.oopses, "broken": self.broken, "settings": self.settings,
            "attached": self.attached.iter().map(process).collect::<Vec<_>>(),
        })
    }
}

/// Adds a line to a file that several processes write.
pub fn append(path: &Path, line: &Value) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(format!("{line}\n").as_bytes())
}
