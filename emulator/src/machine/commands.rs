//! The machine's socket: commands of tests and of the host's programs, and attached processes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde::Deserialize;
use serde_json::{Value, json};

use super::breakage::Breakage;
use super::driver::Request;
use super::host::Active;
use super::wire::{Answer, Ask, Run, Tell};
use super::{Machine, lock, programs};
use crate::card::code::Code;

/// Longest line in bytes.
const LINE: u64 = 64 * 1024;

/// Which breaks are meant: all, unless one is named.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Which {
    kind: Option<String>,
    #[serde(rename = "break")]
    id: Option<u64>,
}

impl Which {
    fn means(&self, active: &Active) -> bool {
        self.kind.as_ref().is_none_or(|kind| active.breakage.name() == *kind)
            && self.id.is_none_or(|id| active.id == id)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    State {},
    Subscribe {},
    Break(Value),
    Heal(Which),
    Set(Value),
    /// A line for the kernel log.
    Kernel {
        text: String,
    },
    Run(Run),
}

fn obey(machine: &Machine, command: Command, stream: &UnixStream) -> Value {
    match command {
        Command::State {} => lock(&machine.host).report(),
        Command::Subscribe {} => match stream.try_clone() {
            Ok(stream) => {
                lock(&machine.host).subscribe(stream);
                json!({ "ok": true })
            }
            Err(e) => json!({ "error": e.to_string() }),
        },
        Command::Break(value) => match Breakage::from_value(value) {
            Ok(breakage) => json!({ "ok": true, "break": machine.change(|host| host.break_it(breakage)) }),
            Err(reason) => json!({ "error": reason }),
        },
        Command::Heal(which) => {
            let mended = machine.change(|host| {
                let before = host.broken.len();
                host.mend(|active| which.means(active));
                before - host.broken.len()
            });
            json!({ "ok": true, "healed": mended })
        }
        Command::Set(changes) => machine.change(|host| match host.settings.with(&changes) {
            Ok(settings) => {
                host.settings = settings;
                json!({ "ok": true })
            }
            Err(reason) => json!({ "error": reason }),
        }),
        Command::Kernel { text } => {
            lock(&machine.host).kernel(4, text);
            json!({ "ok": true })
        }
        Command::Run(run) => json!(programs::run(machine, &run)),
    }
}

fn activate(machine: &Machine, id: u64) -> Option<Code> {
    match machine.change(|host| host.request_ports(id)) {
        Request::Granted => None,
        Request::Refused(hold) => {
            Machine::pass(hold);
            machine.change(super::host::Host::refuse_ports);
            Some(Code::PORTS)
        }
    }
}

fn reboot(machine: &Machine, id: u64) -> Option<Code> {
    let (takes, fails) = machine.change(|host| host.begin_reboot(id));
    Machine::pass(takes);
    machine.change(|host| host.end_reboot(fails)).err()
}

/// Answers what a process's library asks.
fn answer(machine: &Machine, ask: Ask, attached: &mut Option<u64>, stream: &UnixStream) -> io::Result<()> {
    machine.wait_sane();
    let _mutex = lock(&machine.driver);
    if let Ask::Attach { pid, name } = &ask {
        let stream = stream.try_clone()?;
        *attached = Some(machine.change(|host| host.attach(*pid, name.clone(), stream)));
    }
    let Some(id) = *attached else { return Err(io::Error::other("not attached")) };
    let code = match ask {
        Ask::Attach { .. } => None,
        Ask::Activate {} => activate(machine, id),
        Ask::Release {} => {
            machine.change(|host| host.release_ports(id));
            None
        }
        Ask::Reboot {} => reboot(machine, id),
    };
    machine.change(|host| {
        // What follows from it is told first.
        host.settle();
        let listed = host.listed();
        host.tell(id, &Tell::Answer(Answer { code, listed }));
    });
    Ok(())
}

fn converse(machine: &Machine, stream: &UnixStream, attached: &mut Option<u64>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        if let Ok(ask) = serde_json::from_str::<Ask>(&line) {
            answer(machine, ask, attached, stream)?;
            continue;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(command) => obey(machine, command, stream),
            Err(e) => json!({ "error": e.to_string() }),
        };
        writer.write_all(format!("{reply}\n").as_bytes())?;
    }
}

/// Serves one connection until it ends.
pub fn serve(machine: &Machine, stream: UnixStream) {
    let mut attached = None;
    // A broken connection is an ended one.
    let _ = converse(machine, &stream, &mut attached);
    if let Some(id) = attached {
        machine.change(|host| host.detach(id));
    }
}
