//! How the driver listens for the card's heartbeat and what it says when there is none.

use super::host::{Deed, Heartbeat, Host};

impl Host {
    /// The driver listens for a heartbeat, or no longer.
    pub fn set_heartbeat(&mut self, heartbeat: Heartbeat) {
        self.heartbeat = heartbeat;
        self.heart += 1;
        self.missing = false;
        if heartbeat == Heartbeat::Alive && !self.responsive() {
            self.missing = true;
            self.later(self.settings.first_heartbeat_ms, Deed::MissHeartbeat(self.heart));
        }
    }

    /// The driver has waited long enough.
    pub fn miss_heartbeat(&mut self, heart: u64) {
        if heart != self.heart || !self.missing {
            return;
        }
        self.missing = false;
        if self.responsive() {
            return;
        }
        let timeout = self.settings.heartbeat_ms;
        self.kernel(
            3,
            format!("[axcl_heartbeat_recv_timeout, 187]: master: 4711, slave: 4711, runtime: {}, timeout: {timeout}", timeout * 1000 + 24),
        );
        self.set_heartbeat(Heartbeat::Dead);
        self.begin_saying_dead();
    }

    /// The driver is about to say that the card is dead. Whoever reads that may rely on the
    /// processes knowing, so it is said by the clock, which waits for them.
    pub fn begin_saying_dead(&mut self) {
        self.later(0, Deed::SayDead(self.heart));
    }

    /// The driver says, again and again, that the card is dead.
    pub fn say_dead(&mut self, heart: u64) {
        if heart == self.heart && self.heartbeat == Heartbeat::Dead {
            self.kernel(3, "[heartbeat_recv_thread, 591]: device 1: dead!");
            self.later(self.settings.dead_repeat_ms, Deed::SayDead(heart));
        }
    }
}
