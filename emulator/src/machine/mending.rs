//! How breaks begin and end.

use std::collections::HashSet;

use serde_json::json;

use super::breakage::{Breakage, Kind, Rung};
use super::host::{Active, Chip, Deed, Heartbeat, Host, note};
use crate::card::condition::{Ramp, unix_ms};

impl Active {
    /// The temperature this break imposes.
    pub fn heat(&self) -> Option<Ramp> {
        match self.breakage.kind {
            Kind::Heat { from, to, over_ms, .. } => {
                Some(Ramp { from, to, over_ms, began_unix_ms: self.began_unix_ms })
            }
            _ => None,
        }
    }
}

/// When a ramp reaches a temperature, in milliseconds from its beginning.
fn reaches(from: i32, to: i32, over_ms: u64, limit: i32) -> Option<u64> {
    if from >= limit {
        return Some(0);
    }
    let (rise, way) =
        (u64::try_from(limit.checked_sub(from)?).ok()?, u64::try_from(to.checked_sub(from)?).ok()?);
    (way >= rise && way > 0).then(|| over_ms.saturating_mul(rise) / way)
}

impl Host {
    /// Breaks something; its number.
    pub fn break_it(&mut self, breakage: Breakage) -> u64 {
        let id = self.new_id();
        match &breakage.kind {
            Kind::Absent { appears_ms } => {
                if let Some(ms) = *appears_ms {
                    self.later(ms, Deed::Mend(id));
                }
                self.enumerate(false);
                self.chip = Chip::Download;
            }
            Kind::FirmwareMissing {} => note(self.root.set_firmware(false)),
            Kind::Heat { from, to, over_ms, reset_at } => {
                let crossing = reset_at.and_then(|limit| reaches(*from, *to, *over_ms, limit));
                if let Some(ms) = crossing {
                    self.later(ms, Deed::Overheat(id));
                }
                // One temperature at a time: the newest.
                self.broken.retain(|active| active.heat().is_none());
            }
            _ => {}
        }
        let at_once = breakage.kind.acts_at_once();
        let witnesses = self.attached.iter().filter(|a| a.active).map(|a| a.pid).collect();
        self.broken.push(Active { id, breakage, began_unix_ms: unix_ms(), acted: false, witnesses });
        if at_once {
            self.acted(id);
        }
        id
    }

    /// Ends the breaks that are `meant`.
    pub fn mend(&mut self, meant: impl Fn(&Active) -> bool) {
        let (mended, broken) = std::mem::take(&mut self.broken).into_iter().partition(|a| meant(a));
        self.broken = broken;
        let mended: Vec<Active> = mended;
        for active in &mended {
            match active.breakage.kind {
                Kind::Absent { .. } if self.present() && self.bridge_bound => self.enumerate(true),
                Kind::FirmwareMissing {} => note(self.root.set_firmware(true)),
                _ => {}
            }
            self.announce("healed", json!({ "break": active.id, "healed": active.breakage }));
        }
        // Mended by hand, the heartbeat is simply back.
        if !mended.is_empty() && self.heartbeat == Heartbeat::Dead && self.responsive() {
            self.set_heartbeat(Heartbeat::Alive);
        }
    }

    /// The oldest break like `meant`.
    pub fn find_break(&self, meant: impl Fn(&Kind) -> bool) -> Option<u64> {
        self.broken.iter().find(|active| meant(&active.breakage.kind)).map(|active| active.id)
    }

    /// A break that acts a number of times has acted once more.
    pub fn spend(&mut self, id: u64) {
        self.acted(id);
        let Some(active) = self.broken.iter_mut().find(|active| active.id == id) else { return };
        let times = match &mut active.breakage.kind {
            Kind::Ports { starts: times, .. }
            | Kind::FirmwareFails { times, .. }
            | Kind::RmmodInUse { times, .. }
            | Kind::Reboot { fails: times, .. }
            | Kind::ShutdownHangs { times } => times,
            _ => return,
        };
        match *times {
            0 => {}
            1 => self.mend(|active| active.id == id),
            _ => *times -= 1,
        }
    }

    /// A process that used the card ended without giving it back, or was killed.
    pub fn process_ended(&mut self, pid: u32) {
        let leaks: Vec<u64> = self
            .broken
            .iter()
            .filter(|active| matches!(active.breakage.kind, Kind::Memory { .. }) && !active.acted)
            .map(|active| active.id)
            .collect();
        let begun: HashSet<u64> = leaks.iter().copied().collect();
        for id in leaks {
            self.acted(id);
        }
        self.mend(|active| {
            active.breakage.heals_at == Rung::R1
                && !begun.contains(&active.id)
                && (active.witnesses.is_empty() || active.witnesses.contains(&pid))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_crosses_its_limit_in_proportion() {
        assert_eq!(reaches(40_000, 120_000, 800, 100_000), Some(600));
        assert_eq!(reaches(40_000, 90_000, 800, 100_000), None);
        assert_eq!(reaches(110_000, 40_000, 800, 100_000), Some(0));
        assert_eq!(reaches(40_000, 40_000, 800, 100_000), None);
    }
}
