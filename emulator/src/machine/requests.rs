//! Attached processes: their connections and what they ask of the driver.

use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::commands::next_line;
use super::driver::Request;
use super::host::Host;
use super::wire::{Answer, Ask, Said, Tell};
use super::{Machine, lock};
use crate::card::code::Code;

fn activate(machine: &Machine, id: u64) -> Option<Code> {
    match machine.change(|host| host.request_ports(id)) {
        Request::Granted => None,
        Request::Refused(hold) => {
            Machine::pass(hold);
            machine.change(Host::refuse_ports);
            Some(Code::PORTS)
        }
    }
}

fn reboot(machine: &Machine, id: u64) -> Option<Code> {
    let (takes, fails) = machine.change(|host| host.begin_reboot(id));
    Machine::pass(takes);
    machine.change(|host| host.end_reboot(fails)).err()
}

/// Answers what a process asks, once all processes know what follows from it.
fn answer(machine: &Machine, id: u64, ask: Ask, stream: &UnixStream) -> io::Result<()> {
    machine.wait_sane();
    let _mutex = lock(&machine.driver);
    let code = match ask {
        Ask::Attach { pid, name } => {
            let stream = stream.try_clone()?;
            machine.change(|host| host.attach(id, pid, name, stream));
            None
        }
        Ask::Activate {} => activate(machine, id),
        Ask::Release {} => {
            machine.change(|host| host.release_ports(id));
            None
        }
        Ask::Reboot {} => reboot(machine, id),
    };
    let mut host = lock(&machine.host);
    let listed = host.listed();
    host.tell(id, &Tell::Answer(Answer { code, listed }));
    Ok(())
}

fn listen(
    machine: &Machine,
    id: u64,
    reader: &mut BufReader<&UnixStream>,
    asks: &Sender<Ask>,
) -> io::Result<()> {
    while let Some(line) = next_line(reader)? {
        match serde_json::from_str(&line)? {
            Said::Heard(number) => machine.hear(|host| host.heard(id, number)),
            Said::Ask(ask) => asks.send(ask).map_err(io::Error::other)?,
        }
    }
    Ok(())
}

/// Serves a process until its connection ends. It is heard while its requests wait.
///
/// # Errors
/// As its connection fails.
pub fn attend(
    machine: &Machine,
    stream: &UnixStream,
    reader: &mut BufReader<&UnixStream>,
    first: Ask,
) -> io::Result<()> {
    if !matches!(first, Ask::Attach { .. }) {
        return Err(io::Error::other("not attached"));
    }
    let id = lock(&machine.host).new_id();
    let (asks, queue) = mpsc::channel();
    let _ = asks.send(first);
    let result = thread::scope(|scope| {
        thread::Builder::new().name("requests".into()).spawn_scoped(scope, move || {
            for ask in queue {
                if answer(machine, id, ask, stream).is_err() {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        })?;
        let result = listen(machine, id, reader, &asks);
        drop(asks);
        machine.hear(|host| host.deafen(id));
        result
    });
    machine.change(|host| host.detach(id));
    result
}
