//! Processes that have the driver open: what they find, and what they are told.

use std::os::unix::net::UnixStream;

use rustix::net::{SendFlags, send};
use serde_json::json;

use super::breakage::{Calls, Kind};
use super::host::{Heartbeat, Host, note};
use super::wire::Tell;
use crate::card::condition::{Condition, Gate};

/// A process that has the driver open.
#[derive(Debug)]
pub struct Attached {
    pub id: u64,
    pub pid: u32,
    pub name: String,
    /// It has ports on the card.
    pub active: bool,
    /// The card was reset under it.
    pub lost: bool,
    stream: UnixStream,
    told: Option<Condition>,
    /// Of what it was told last.
    number: u64,
    /// Of what it has in force.
    heard: u64,
    /// It has been waited for in vain, and is no more until it is heard of.
    deaf: bool,
}

impl Attached {
    /// Whether it is yet to take in what was told up to `number`.
    fn owes(&self, number: u64) -> bool {
        !self.deaf && self.heard < self.number.min(number)
    }

    /// Whether it takes in what it is told, as far as is known.
    pub fn hears(&self) -> bool {
        !self.deaf
    }
}

/// Sends a line without ever waiting; false if it did not go as a whole.
pub fn send_line(stream: &UnixStream, mut line: String) -> bool {
    line.push('\n');
    send(stream, line.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        .is_ok_and(|sent| sent == line.len())
}

impl Host {
    /// Tells a process something; one that does not read loses its connection.
    pub fn tell(&mut self, id: u64, tell: &Tell) {
        let Some(attached) = self.attached.iter().find(|attached| attached.id == id) else { return };
        if !serde_json::to_string(tell).is_ok_and(|line| send_line(&attached.stream, line)) {
            let _ = attached.stream.shutdown(std::net::Shutdown::Both);
            self.deafen(id);
        }
    }

    /// A process has in force what it was told under `number`.
    pub fn heard(&mut self, id: u64, number: u64) {
        if let Some(attached) = self.attached.iter_mut().find(|attached| attached.id == id) {
            (attached.heard, attached.deaf) = (number, false);
        }
    }

    /// A process will take in nothing more.
    pub fn deafen(&mut self, id: u64) {
        if let Some(attached) = self.attached.iter_mut().find(|attached| attached.id == id) {
            attached.deaf = true;
        }
    }

    /// Whether a process is yet to take in what was told up to `number`.
    pub fn is_owed(&self, number: u64) -> bool {
        self.attached.iter().any(|attached| attached.owes(number))
    }

    /// Waits no longer for processes that have not taken in what was told up to `number`.
    pub fn give_up(&mut self, number: u64) {
        for attached in &mut self.attached {
            attached.deaf |= attached.owes(number);
        }
    }

    /// A process opened the driver. `id` is its connection's.
    pub fn attach(&mut self, id: u64, pid: u32, name: String, stream: UnixStream) {
        note(self.root.set_process(pid, true));
        self.announce("attached", json!({ "pid": pid, "name": name }));
        self.attached.push(Attached {
            id,
            pid,
            name,
            active: false,
            lost: false,
            stream,
            told: None,
            number: 0,
            heard: 0,
            deaf: false,
        });
    }

    /// A process closed the driver, or ended.
    pub fn detach(&mut self, id: u64) {
        let Some(at) = self.attached.iter().position(|attached| attached.id == id) else { return };
        let gone = self.attached.remove(at);
        if self.attached.iter().all(|attached| attached.pid != gone.pid) {
            note(self.root.set_process(gone.pid, false));
        }
        self.announce("detached", json!({ "pid": gone.pid, "name": gone.name, "active": gone.active }));
        if gone.active {
            self.process_ended(gone.pid);
        }
    }

    fn condition_for(&self, attached: &Attached) -> Condition {
        let mut condition = Condition { gate: self.gate_for(attached), ..Condition::default() };
        for active in &self.broken {
            match &active.breakage.kind {
                Kind::Slow { factor } => condition.slow *= factor,
                Kind::Wrong {} => condition.wrong = true,
                Kind::Versions { firmware } => condition.firmware = Some(firmware.clone()),
                Kind::Memory { mib, .. } if active.acted => condition.retained_kib += mib << 10,
                _ => condition.heat = active.heat().or(condition.heat),
            }
        }
        condition
    }

    /// What becomes of a process's calls.
    pub fn gate_for(&self, attached: &Attached) -> Gate {
        if !self.oopses.is_empty() {
            return Gate::Hang;
        }
        if !attached.active {
            return Gate::Open;
        }
        if attached.lost {
            return Gate::Fail;
        }
        if self.responsive() {
            let stuck = self.is_broken(|kind| matches!(kind, Kind::Stuck {}));
            return if stuck { Gate::Hang } else { Gate::Open };
        }
        let hang = self.kinds().any(
            |kind| matches!(kind, Kind::Dead { calls } | Kind::LinkLost { calls } if *calls == Calls::Hang),
        );
        if self.heartbeat == Heartbeat::Alive || hang { Gate::Hang } else { Gate::Fail }
    }

    /// Tells every process what has changed for it.
    pub fn tell_all(&mut self) {
        for at in 0..self.attached.len() {
            let Some(attached) = self.attached.get(at) else { break };
            let (id, condition) = (attached.id, self.condition_for(attached));
            if attached.told.as_ref() != Some(&condition) {
                self.tellings += 1;
                let number = self.tellings;
                if let Some(attached) = self.attached.get_mut(at) {
                    (attached.told, attached.number) = (Some(condition.clone()), number);
                }
                self.tell(id, &Tell::Condition { number, condition });
            }
        }
    }
}
