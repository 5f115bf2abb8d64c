//! modprobe, rmmod and systemctl: what the machine does for them, and the programs themselves.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::json;

use super::attachment::SOCKET;
use super::breakage::{Kind, Rung};
use super::driver::Push;
use super::host::{Heartbeat, Host, note};
use super::module::{self, AXCL_HOST, Loaded, MODULES, Module, Stage};
use super::wire::{Ended, Run};
use super::{Machine, lock};

const KERNEL: &str = "6.12.47+rpt-rpi-2712";

/// Loads every module, as the appliance does at start.
pub fn load_driver(machine: &Machine) {
    for module in &MODULES {
        load(machine, module);
    }
}

impl Host {
    fn set_stage(&mut self, module: &'static Module, stage: Stage) {
        match self.modules.iter_mut().find(|loaded| loaded.module == module) {
            Some(loaded) => loaded.stage = stage,
            None => self.modules.push(Loaded { module, stage }),
        }
        self.show_modules();
    }

    fn loaded(&mut self, module: &'static Module) {
        self.set_stage(module, Stage::Live);
        if let Some(node) = module.node {
            note(self.root.set_node(node, true));
        }
        self.announce("module", json!({ "name": module.name, "loaded": true }));
    }

    /// Why a module cannot be unloaded, in rmmod's words.
    fn held(&mut self, module: &Module) -> Option<String> {
        let name = module.name;
        let Some(loaded) = self.modules.iter().find(|loaded| loaded.module == module) else {
            return Some(format!("Module {name} is not currently loaded"));
        };
        if loaded.stage != Stage::Live {
            return Some(format!("could not remove '{name}': Device or resource busy"));
        }
        let users = module::users(&self.modules, name);
        if !users.is_empty() {
            return Some(format!("Module {name} is in use by: {}", users.join(" ")));
        }
        let meant = |kind: &Kind| matches!(kind, Kind::RmmodInUse { module, .. } if module == name);
        if let Some(id) = self.find_break(meant) {
            self.spend(id);
            return Some(format!("Module {name} is in use"));
        }
        let held = module.node.is_some_and(|node| !self.root.holders(node).is_empty());
        held.then(|| format!("Module {name} is in use"))
    }

    fn unloaded(&mut self, module: &'static Module) {
        if let Some(node) = module.node {
            note(self.root.set_node(node, false));
        }
        self.modules.retain(|loaded| loaded.module != module);
        note(self.root.set_module(module.name, None));
        self.show_modules();
        if module.name == AXCL_HOST {
            self.set_heartbeat(Heartbeat::None);
            self.ports_leaked = 0;
            self.reset_chip(Rung::R3);
        }
        self.announce("module", json!({ "name": module.name, "loaded": false }));
    }
}

fn load(machine: &Machine, module: &'static Module) {
    let boot = machine.change(|host| {
        host.set_stage(module, Stage::Loading);
        host.boot_id.clone()
    });
    let hangs = |kind: &Kind| matches!(kind, Kind::ModprobeHangs { module: m } if *m == module.name);
    machine.change(|host| {
        if let Some(id) = host.find_break(hangs) {
            host.acted(id);
        }
    });
    machine.wait_until(|host| !host.is_broken(hangs) || host.boot_id != boot);
    if module.name == AXCL_HOST {
        let takes = lock(&machine.host).settings.modprobe_ms;
        Machine::pass(takes);
    }
    machine.change(|host| {
        // The host may have been rebooted meanwhile.
        if host.boot_id == boot {
            if module.name == AXCL_HOST {
                host.push_firmware(Push::Start);
            }
            host.loaded(module);
        }
    });
}

fn insert(machine: &Machine, name: &str) -> Ended {
    let Some(module) = module::find(name) else {
        return Ended::failed(format!(
            "modprobe: FATAL: Module {name} not found in directory /lib/modules/{KERNEL}"
        ));
    };
    machine.wait_sane();
    let _one_at_a_time = lock(&machine.modules);
    let needed = MODULES.iter().filter(|other| *other == module || module.needs.contains(&other.name));
    for module in needed {
        if !lock(&machine.host).has_module(module.name) {
            load(machine, module);
        }
    }
    Ended::default()
}

/// `says` is how the program begins its complaints.
fn remove(machine: &Machine, name: &str, says: &str) -> Ended {
    let Some(module) = module::find(name) else {
        return Ended::failed(format!("{says} Module {name} is not currently loaded"));
    };
    machine.wait_sane();
    let _one_at_a_time = lock(&machine.modules);
    if let Some(reason) = machine.change(|host| host.held(module)) {
        return Ended::failed(format!("{says} {reason}"));
    }
    if module.name == AXCL_HOST {
        let takes = machine.change(|host| {
            host.set_stage(module, Stage::Unloading);
            host.settings.rmmod_ms
        });
        Machine::pass(takes);
    }
    machine.change(|host| host.unloaded(module));
    Ended::default()
}

fn systemctl(machine: &Machine, words: &[&str], flags: &[&str]) -> Ended {
    if words != ["reboot"] {
        return Ended::failed(format!("Unknown command verb '{}'.", words.join(" ")));
    }
    let forced = flags.iter().any(|flag| matches!(*flag, "--force" | "-f" | "-ff"));
    machine.change(|host| {
        let hangs = host.find_break(|kind| matches!(kind, Kind::ShutdownHangs { .. }));
        match hangs.filter(|_| !forced) {
            Some(id) => host.spend(id),
            None => host.reboot_host(),
        }
    });
    Ended::default()
}

/// Does what a program was called for.
pub(super) fn run(machine: &Machine, run: &Run) -> Ended {
    let is_flag = |word: &&str| word.starts_with('-');
    let arguments = run.arguments.iter().map(String::as_str);
    let (flags, words): (Vec<&str>, Vec<&str>) = arguments.partition(is_flag);
    let each = |act: &dyn Fn(&str) -> Ended| {
        let ends = words.iter().map(|name| act(name));
        ends.reduce(|a, b| if a.exit == 0 { b } else { a })
            .unwrap_or_else(|| Ended::failed(format!("{}: ERROR: missing module name.", run.program)))
    };
    match run.program.as_str() {
        "modprobe" if flags.iter().any(|flag| matches!(*flag, "-r" | "--remove")) => each(&|name| {
            let there = module::find(name).is_some_and(|module| lock(&machine.host).has_module(module.name));
            if there { remove(machine, name, "modprobe: FATAL:") } else { Ended::default() }
        }),
        "modprobe" => each(&|name| insert(machine, name)),
        "rmmod" => each(&|name| remove(machine, name, "rmmod: ERROR:")),
        "systemctl" => systemctl(machine, &words, &flags),
        other => Ended::failed(format!("{other}: not a program of this host")),
    }
}

/// Acts as the program of this name, if it is one of the host's: its exit code. `called` is how
/// it was called, which says which machine is meant.
pub fn act_as(called: &Path, arguments: impl Iterator<Item = OsString>) -> Option<i32> {
    let program = called.file_name()?.to_str()?.to_owned();
    if !matches!(program.as_str(), "modprobe" | "rmmod" | "systemctl") {
        return None;
    }
    // DIR/root/usr/sbin/modprobe
    let socket = called.ancestors().nth(4)?.join(SOCKET);
    let arguments = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let run = Run { program: program.clone(), arguments };
    let ended =
        ask(&socket, &run).unwrap_or_else(|e| Ended::failed(format!("{program}: {e}: {}", socket.display())));
    if !ended.stderr.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", ended.stderr);
    }
    Some(ended.exit)
}

fn ask(socket: &Path, run: &Run) -> std::io::Result<Ended> {
    let mut stream = UnixStream::connect(socket)?;
    writeln!(stream, "{}", json!({ "run": run }))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
