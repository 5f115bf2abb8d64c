//! The PCI bus and the host's reboot.

use serde_json::json;

use super::breakage::Rung;
use super::host::{Chip, Deed, Heartbeat, Host, note};
use super::module::AXCL_HOST;
use super::root::{BRIDGE, FUNCTION, Knob, LINK, RP1_BRIDGE};

impl Host {
    /// Something was written to one of the kernel's files.
    pub fn turn(&mut self, knob: Knob, text: &str) {
        match knob {
            Knob::Remove if self.enumerated => self.remove_card(),
            Knob::Rescan => self.find_card(),
            Knob::Unbind if text.contains(RP1_BRIDGE) => {
                self.oops("the host's own input and output was unbound")
            }
            Knob::Unbind if text.contains(BRIDGE) && self.bridge_bound => self.unbind_slot(),
            Knob::Bind if text.contains(BRIDGE) && !self.bridge_bound => {
                self.bridge_bound = true;
                note(self.root.set_bridge(BRIDGE, true));
                self.reset_chip(Rung::R4);
                self.later(self.settings.link_up_ms, Deed::LinkUp);
            }
            _ => {}
        }
    }

    fn remove_card(&mut self) {
        if !self.crashes("a card was removed") {
            self.enumerate(false);
        }
    }

    fn unbind_slot(&mut self) {
        if !self.crashes("a card's slot was unbound") {
            self.enumerate(false);
            self.bridge_bound = false;
            note(self.root.set_bridge(BRIDGE, false));
        }
    }

    /// The slot's link comes up, if there is something at its other end.
    pub fn train(&mut self) {
        if !self.bridge_bound {
            return;
        }
        self.find_card();
        let text = if self.enumerated {
            format!("brcm-pcie {BRIDGE}: link up, {} x{} (!SSC)", LINK.0, LINK.1)
        } else {
            format!("brcm-pcie {BRIDGE}: link down")
        };
        self.kernel(6, text);
    }

    fn find_card(&mut self) {
        if self.bridge_bound && self.present() && !self.link_lost() && !self.enumerated {
            self.kernel(6, format!("pci {FUNCTION}: [1f4b:0650] type 00 class 0x040000 PCIe Endpoint"));
            self.enumerate(true);
        }
    }

    /// The driver's thread reads what is no longer mapped: with it loaded, taking the card
    /// away crashes the kernel.
    fn crashes(&mut self, what: &str) -> bool {
        let crashes = self.has_module(AXCL_HOST);
        if crashes {
            self.oops(&format!("{what} under {AXCL_HOST}"));
        }
        crashes
    }

    fn oops(&mut self, what: &str) {
        self.kernel(1, "Unable to handle kernel paging request at virtual address ffffc00085a00000");
        self.kernel(0, "Internal error: Oops: 0000000096000007 [#1] PREEMPT SMP");
        self.oopses.push(what.to_owned());
        self.announce("oops", json!({ "what": what }));
    }

    /// The host reboots.
    pub fn reboot_host(&mut self) {
        self.reboots += 1;
        let drivers = std::mem::take(&mut self.modules);
        for loaded in &drivers {
            note(self.root.set_module(loaded.module.name, None));
            if let Some(node) = loaded.module.node {
                note(self.root.set_node(node, false));
            }
        }
        self.show_modules();
        self.set_heartbeat(Heartbeat::None);
        self.oopses.clear();
        self.ports_leaked = 0;
        let chip = self.chip;
        self.reset_chip(Rung::R5);
        if !self.settings.reboot_resets_card {
            // It goes on as it was, unless unloading the driver had reset it.
            self.chip = chip;
        }
        self.bridge_bound = true;
        note(self.root.set_bridge(BRIDGE, true));
        self.enumerate(false);
        match self.root.new_boot_id() {
            Ok(id) => self.boot_id = id,
            Err(e) => note(Err(e)),
        }
        self.kernel(5, "Booting Linux on physical CPU 0x0000000000 [0x414fd0b1]");
        self.train();
        let chip = if self.chip == Chip::Download { "download" } else { "running" };
        self.announce("reboot", json!({ "boot_id": self.boot_id, "chip": chip }));
    }
}
