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
        }
    }

    /// A process opened the driver.
    pub fn attach(&mut self, pid: u32, name: String, stream: UnixStream) -> u64 {
        let id = self.new_id();
        note(self.root.set_process(pid, true));
        self.announce("attached", json!({ "pid": pid, "name": name }));
        self.attached.push(Attached { id, pid, name, active: false, lost: false, stream, told: None });
        id
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
                self.tell(id, &Tell::Condition(condition.clone()));
                if let Some(attached) = self.attached.get_mut(at) {
                    attached.told = Some(condition);
                }
            }
        }
    }
}
