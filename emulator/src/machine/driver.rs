//! What the driver does with the card: firmware, ports, restart.

use serde_json::json;

use super::breakage::{Kind, PushStep, Rung};
use super::host::{Chip, Heartbeat, Host};
use super::module::AXCL_HOST;
use crate::card::code::Code;

/// The driver has 128 ports per device; the first 21 are not for programs.
pub const PORTS: u32 = 128 - 21;
/// Ports a process takes.
const PER_PROCESS: u32 = 4;

/// How a request for ports goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Granted,
    /// After this many milliseconds.
    Refused(u64),
}

/// Where the driver pushes the firmware from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The module's start, which succeeds whatever happens.
    Start,
    /// DEVICE_BOOT, which can fail.
    Boot,
}

impl Host {
    /// Ports in use, lost ones included.
    pub fn ports_used(&self) -> u32 {
        let processes = self.attached.iter().filter(|a| a.active && !a.lost).count();
        u32::try_from(processes).unwrap_or(u32::MAX).saturating_mul(PER_PROCESS) + self.ports_leaked
    }

    /// The chip starts anew, as far as it can be reached; whoever used it has lost it.
    pub fn reset_chip(&mut self, rung: Rung) {
        self.climb(rung);
        if !self.link_lost() {
            self.chip = Chip::Download;
        }
        for attached in &mut self.attached {
            attached.lost = attached.active;
        }
    }

    fn push_fails(&mut self, step: PushStep) -> bool {
        let meant = |kind: &Kind| matches!(kind, Kind::FirmwareFails { at, .. } if *at == step);
        let found = self.find_break(meant);
        if let Some(id) = found {
            self.spend(id);
        }
        found.is_some()
    }

    /// Pushes the firmware and listens for the card; whether that went well as far as the
    /// driver can tell.
    pub fn push_firmware(&mut self, push: Push) -> bool {
        self.set_heartbeat(Heartbeat::None);
        if !self.enumerated {
            return push == Push::Start;
        }
        self.pushes += 1;
        let init = if push == Push::Start { "axcl_pcie_host_init, 1262" } else { "axcl_pcie_ioctl, 1170" };
        let failed = format!("[{init}]: Device 1 firmware load failed.");
        if !self.root.has_firmware() {
            self.kernel(3, "[axcl_firmware_load, 357]: Patch file not found axcl/ax650_card.pac.");
            self.kernel(3, failed);
            return false;
        }
        self.kernel(4, "############### Dev 1 Firmware loading ##############");
        // All ones look like success.
        let deaf = self.link_lost();
        if !deaf && (self.chip != Chip::Download || self.push_fails(PushStep::Chunk)) {
            self.chip = Chip::Silent;
            self.kernel(4, "[STATUS]: FAILED[-1]");
            self.kernel(3, failed);
            return false;
        }
        for _ in 0..5 {
            self.kernel(4, "[STATUS]: SUCCESS");
        }
        self.kernel(3, format!("[{init}]: axcl wait dev 1 handshake..."));
        let dead = self.is_broken(|kind| matches!(kind, Kind::Dead { .. }));
        if !deaf && (dead || self.push_fails(PushStep::Handshake)) {
            self.chip = Chip::Silent;
            self.kernel(3, "[ax_pcie_msg_check_remote, 118]: [step0]: Handshake timeout!");
            self.kernel(3, format!("[{init}]: axcl pcie check remote device 1 failed"));
            if push == Push::Boot {
                return false;
            }
        } else if !deaf {
            self.chip = Chip::Running;
        }
        self.set_heartbeat(Heartbeat::Alive);
        self.kernel(4, "device 1: alive!");
        self.announce("pushed", json!({ "chip": self.chip }));
        true
    }

    /// A process asks for ports.
    pub fn request_ports(&mut self, id: u64) -> Request {
        if !self.has_module(AXCL_HOST) || self.ports_used() + PER_PROCESS > PORTS {
            return Request::Refused(0);
        }
        let hold = self.settings.port_hold_ms;
        if let Some(exhausted) = self.find_break(|kind| matches!(kind, Kind::Ports { .. })) {
            let own = self.kinds().find_map(|kind| match kind {
                Kind::Ports { hold_ms, .. } => *hold_ms,
                _ => None,
            });
            self.spend(exhausted);
            self.ports_leaked += PER_PROCESS;
            return Request::Refused(own.unwrap_or(hold));
        }
        if !self.responsive() {
            if self.heartbeat == Heartbeat::None {
                return Request::Refused(0);
            }
            self.ports_leaked += PER_PROCESS;
            return Request::Refused(hold);
        }
        if let Some(attached) = self.attached.iter_mut().find(|attached| attached.id == id) {
            (attached.active, attached.lost) = (true, false);
        }
        Request::Granted
    }

    /// What the kernel says to a refused request.
    pub fn refuse_ports(&mut self) {
        self.kernel(3, "[axcl_pcie_port_create, 872]: Recv port ack timeout.");
        self.kernel(3, "[axcl_pcie_port_manage, 917]: axcl pcie port create failed.");
        self.kernel(3, "[axcl_pcie_ioctl, 1111]: axcl pcie req port failed.");
    }

    /// A process gives its ports back.
    pub fn release_ports(&mut self, id: u64) {
        if let Some(attached) = self.attached.iter_mut().find(|attached| attached.id == id) {
            (attached.active, attached.lost) = (false, false);
        }
    }

    /// DEVICE_BOOT begins: how long it takes, and whether it will fail.
    pub fn begin_reboot(&mut self, id: u64) -> (u64, bool) {
        self.release_ports(id);
        let found = self.find_break(|kind| matches!(kind, Kind::Reboot { .. }));
        let own = self.kinds().find_map(|kind| match kind {
            Kind::Reboot { takes_ms, fails } => Some((*takes_ms, *fails)),
            _ => None,
        });
        let (takes, fails) = own.unwrap_or_default();
        let takes = takes.unwrap_or(self.settings.reboot_ms);
        if !self.listed() {
            return (0, true);
        }
        if let Some(id) = found {
            self.spend(id);
        }
        if fails > 0 {
            // The chip is reset and stays so; what was broken is broken still.
            for attached in &mut self.attached {
                attached.lost = attached.active;
            }
            self.chip = Chip::Silent;
            self.set_heartbeat(Heartbeat::None);
        } else {
            self.reset_chip(Rung::R2);
        }
        (takes, fails > 0)
    }

    /// DEVICE_BOOT ends.
    ///
    /// # Errors
    /// [`Code::REBOOT`].
    pub fn end_reboot(&mut self, fails: bool) -> Result<(), Code> {
        if fails || !self.push_firmware(Push::Boot) {
            if fails {
                self.kernel(3, "[axcl_pcie_ioctl, 1170]: Device 1 firmware load failed.");
            }
            self.set_heartbeat(Heartbeat::Dead);
            self.begin_saying_dead();
            self.announce("reboot_failed", json!({}));
            return Err(Code::REBOOT);
        }
        Ok(())
    }
}
