//! The control socket: one JSON command per line, one JSON answer per line.
//!
//! It has threads of its own and takes no lock that is held during work, so it answers
//! while a call hangs.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Card;
use super::fault::Rule;

/// Longest command in bytes.
const LINE: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct TraceCommand {
    reset: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct DeviceCommand {
    /// From now on, in thousandths of °C.
    temperature: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Trace(TraceCommand),
    Fault(Value),
    Faults {},
    Clear {},
    Device(DeviceCommand),
}

/// Answers one command.
pub fn answer(card: &Card, line: &str) -> Value {
    let command = match serde_json::from_str(line) {
        Ok(command) => command,
        Err(e) => return json!({ "error": e.to_string() }),
    };
    match command {
        Command::Trace(TraceCommand { reset }) => {
            let snapshot = card.trace.snapshot(Instant::now());
            if reset {
                card.trace.reset();
            }
            json!({ "trace": snapshot })
        }
        Command::Fault(rule) => match Rule::from_value(rule) {
            Ok(rule) => {
                card.faults.arm(rule);
                json!({ "ok": true })
            }
            Err(reason) => json!({ "error": reason }),
        },
        Command::Faults {} => {
            let (faults, problems) = card.faults.list();
            json!({ "faults": faults, "problems": problems })
        }
        Command::Clear {} => {
            card.faults.clear();
            json!({ "ok": true })
        }
        Command::Device(DeviceCommand { temperature }) => {
            if let Some(temperature) = temperature {
                card.set_temperature(temperature);
            }
            json!({ "device": card.status() })
        }
    }
}

fn serve(card: &Card, stream: UnixStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        let mut reply = answer(card, &line).to_string();
        reply.push('\n');
        writer.write_all(reply.as_bytes())?;
    }
}

fn serve_all(card: &Arc<Card>, path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let card = Arc::clone(card);
    std::thread::Builder::new().name("emu-control".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let card = Arc::clone(&card);
            let _ =
                std::thread::Builder::new().name("emu-control".into()).spawn(move || serve(&card, stream));
        }
    })?;
    Ok(())
}

/// Listens at `path` for the rest of the process's life; behind a living process that does so
/// already, as soon as that one has ended.
///
/// # Errors
/// When the socket, its lock or its thread cannot be had.
pub fn listen(card: &Arc<Card>, path: &Path) -> io::Result<()> {
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).open(path.with_extension("lock"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // Held until the process ends.
            std::mem::forget(lock);
            serve_all(card, path)
        }
        Err(Errno::WOULDBLOCK) => {
            let (card, path) = (Arc::clone(card), path.to_owned());
            let wait = move || {
                if flock(&lock, FlockOperation::LockExclusive).is_ok() {
                    std::mem::forget(lock);
                    let _ = serve_all(&card, &path);
                }
            };
            std::thread::Builder::new().name("emu-control".into()).spawn(wait).map(|_| ())
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::fault::Act;

    fn ask(reader: &mut impl BufRead, writer: &mut impl Write, command: &str) -> Value {
        writeln!(writer, "{command}").unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn commands_over_the_socket_are_answered_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let card = Arc::new(Card::default());
        drop(UnixListener::bind(&path).unwrap());
        listen(&card, &path).expect("a stale socket is replaced");
        listen(&Arc::new(Card::default()), &path).expect("a second one waits for its turn");
        let mut writer = UnixStream::connect(&path).unwrap();
        let mut reader = BufReader::new(writer.try_clone().unwrap());
        let mut ask = |command| ask(&mut reader, &mut writer, command);

        card.trace.begin(5, Instant::now());
        let trace = ask(r#"{"trace":{"reset":true}}"#);
        assert_eq!(trace["trace"]["requests"][0]["id"], 5);
        assert_eq!(ask(r#"{"trace":{}}"#)["trace"]["requests"], json!([]));

        let rule = r#"{"fault":{"call":"axclrtFree","act":{"fail":"0x80300581"}}}"#;
        assert_eq!(ask(rule), json!({"ok": true}));
        let faults = ask(r#"{"faults":{}}"#);
        assert_eq!(faults["faults"][0]["act"], json!({"fail": "0x80300581"}));
        assert!(matches!(card.faults.meet("axclrtFree"), Some(Act::Fail(_))));
        assert_eq!(ask(r#"{"clear":{}}"#), json!({"ok": true}));

        let device = ask(r#"{"device":{"temperature":91000}}"#);
        assert_eq!(device["device"]["temperature"], 91_000);
        assert_eq!(device["device"]["free_cmm_kb"], 7_190_528);
        assert!(ask("nonsense")["error"].is_string());
        assert!(ask(r#"{"fault":{"call":"x","nth":0,"act":{"hang":true}}}"#)["error"].is_string());
    }
}
