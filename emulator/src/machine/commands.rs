//! The machine's socket: commands of tests and of the host's programs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde::Deserialize;
use serde_json::{Value, json};

use super::breakage::Breakage;
use super::host::Active;
use super::wire::{Run, Said};
use super::{Machine, lock, programs, requests};

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

/// The next line of a connection; `None` at its end.
///
/// # Errors
/// As reading fails.
pub fn next_line(reader: &mut BufReader<&UnixStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = reader.by_ref().take(LINE).read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}

fn converse(machine: &Machine, mut stream: &UnixStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(line) = next_line(&mut reader)? {
        if line.trim().is_empty() {
            continue;
        }
        if let Ok(Said::Ask(first)) = serde_json::from_str(&line) {
            return requests::attend(machine, stream, &mut reader, first);
        }
        let reply = match serde_json::from_str(&line) {
            Ok(command) => obey(machine, command, stream),
            Err(e) => json!({ "error": e.to_string() }),
        };
        stream.write_all(format!("{reply}\n").as_bytes())?;
    }
    Ok(())
}

/// Serves one connection until it ends.
pub fn serve(machine: &Machine, stream: &UnixStream) {
    // A broken connection is an ended one.
    let _ = converse(machine, stream);
}
