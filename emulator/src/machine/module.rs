//! The driver's modules.

use serde::Serialize;

/// A kernel module of the driver.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    pub name: &'static str,
    pub size: u32,
    /// Modules it needs.
    pub needs: &'static [&'static str],
    /// The device node it makes.
    pub node: Option<&'static str>,
}

/// In the order they load.
pub const MODULES: [Module; 5] = [
    Module { name: "ax_pcie_host_dev", size: 57_344, needs: &[], node: None },
    Module { name: "ax_pcie_msg", size: 16_384, needs: &["ax_pcie_host_dev"], node: Some("msg_userdev") },
    Module { name: "ax_pcie_mmb", size: 24_576, needs: &["ax_pcie_host_dev"], node: Some("ax_mmb_dev") },
    Module {
        name: "axcl_host",
        size: 49_152,
        needs: &["ax_pcie_host_dev", "ax_pcie_msg", "ax_pcie_mmb"],
        node: Some("axcl_host"),
    },
    Module { name: "ax_pcie_p2p_rc", size: 20_480, needs: &["ax_pcie_host_dev"], node: Some("p2p") },
];

/// The one that drives the card itself.
pub const AXCL_HOST: &str = "axcl_host";
/// The one that finds the card on the bus.
pub const HOST_DEV: &str = "ax_pcie_host_dev";

/// The module of a name, as modprobe takes it.
pub fn find(name: &str) -> Option<&'static Module> {
    let name = name.replace('-', "_");
    MODULES.iter().find(|module| module.name == name)
}

/// How far a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Stage {
    Loading,
    Live,
    Unloading,
}

/// A module in the kernel.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub module: &'static Module,
    pub stage: Stage,
}

/// Modules of `loaded` that need `name`.
pub fn users(loaded: &[Loaded], name: &str) -> Vec<&'static str> {
    loaded.iter().filter(|l| l.module.needs.contains(&name)).map(|l| l.module.name).collect()
}

/// `/proc/modules`. `holders` is how many processes hold the node of each.
pub fn proc_modules(loaded: &[Loaded], holders: impl Fn(&Module) -> usize) -> String {
    let line = |l: &Loaded| {
        let users = users(loaded, l.module.name);
        let count = users.len() + holders(l.module);
        let users = if users.is_empty() { "-".to_owned() } else { users.join(",") + "," };
        let (name, size, stage) = (l.module.name, l.module.size, l.stage);
        format!("{name} {size} {count} {users} {stage:?} 0x0000000000000000 (O)\n")
    };
    loaded.iter().rev().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_listed_as_the_kernel_does() {
        let loaded: Vec<_> =
            MODULES.iter().take(4).map(|module| Loaded { module, stage: Stage::Live }).collect();
        let text = proc_modules(&loaded, |module| usize::from(module.name == AXCL_HOST));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "axcl_host 49152 1 - Live 0x0000000000000000 (O)");
        assert_eq!(
            lines[3],
            "ax_pcie_host_dev 57344 3 ax_pcie_msg,ax_pcie_mmb,axcl_host, Live 0x0000000000000000 (O)"
        );
        assert!(find("ax-pcie-msg").is_some() && find("ext4").is_none());
    }

    #[test]
    fn modules_are_in_an_order_they_can_load_in() {
        for (at, module) in MODULES.iter().enumerate() {
            assert!(module.needs.iter().all(|need| MODULES[..at].iter().any(|m| m.name == *need)));
        }
    }
}
