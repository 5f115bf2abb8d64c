//! The driver's modules, out and in.

use std::fs;
use std::time::Instant;

use super::act::Scene;
use super::card;
use crate::fault::{Failure, Fault, Result};
use crate::sys::root::SysRoot;

/// In the order of loading; out in the order of the vendor's scripts, see [`unload`].
const MODULES: [&str; 5] = ["ax_pcie_host_dev", "ax_pcie_msg", "ax_pcie_mmb", "axcl_host", P2P];
/// Serves several cards: one works without it.
const P2P: &str = "ax_pcie_p2p_rc";
/// What `axcl_host` fails with when the card does not take its firmware, other than
/// for a module that does not fit the kernel.
const REFUSALS: [&str; 4] =
    ["Operation not permitted", "Input/output error", "Connection timed out", "No such device"];
const IN_USE_S: u64 = 5;
const NODE_S: u64 = 5;

/// Loaded modules of the driver, in the kernel's order. One that is just being loaded or
/// unloaded counts.
pub(super) fn loaded(root: &SysRoot) -> Result<Vec<String>> {
    let path = root.path("proc/modules");
    let text = fs::read_to_string(&path)
        .map_err(|e| Failure::new(Fault::Modules, format!("{}: {e}", path.display())))?;
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| is_drivers(name)).map(str::to_owned).collect())
}

/// The driver has modules this program does not load, such as its network; they touch the
/// card all the same.
fn is_drivers(name: &str) -> bool {
    name == "axcl_host" || name.starts_with("ax_pcie_")
}

/// Unloads what is loaded, once nobody holds the card; by `until` at the latest.
pub(super) fn unload(scene: &Scene<'_>, until: Option<Instant>) -> Result<()> {
    card::wait_until_free(scene)?;
    let found = loaded(&scene.root)?;
    let unknown = found.iter().map(String::as_str).filter(|name| !MODULES.contains(name));
    for name in unknown.chain(MODULES.into_iter().rev()) {
        if found.iter().any(|loaded| loaded == name) {
            remove(scene, name, until)?;
        }
    }
    let left = loaded(&scene.root)?;
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Fault::Modules, format!("still loaded: {}", left.join(", "))))
}

fn remove(scene: &Scene<'_>, name: &str, until: Option<Instant>) -> Result<()> {
    scene.step(format!("rmmod {name}"));
    let mut complaint = String::new();
    let gone = scene.shows(IN_USE_S, || match scene.run("usr/sbin/rmmod", &[name], until) {
        Ok(()) => true,
        Err(text) => {
            // Only what may pass by itself is tried again.
            let passing = ["in use", "busy", "temporarily unavailable"].iter().any(|why| text.contains(why));
            complaint = text;
            !passing
        }
    });
    match complaint {
        text if gone && text.is_empty() => Ok(()),
        // A complaint of an earlier try does not count once the module is gone.
        _ if !loaded(&scene.root)?.iter().any(|loaded| loaded == name) => Ok(()),
        text => Err(Failure::new(Fault::Modules, text)),
    }
}

/// Loads what is not loaded; with `axcl_host` the firmware is pushed.
pub(super) fn load(scene: &Scene<'_>) -> Result<()> {
    if !card::has_firmware(&scene.root) {
        let path = scene.root.path(card::FIRMWARE);
        return Err(Failure::new(Fault::FirmwareMissing, format!("no {}", path.display())));
    }
    let found = loaded(&scene.root)?;
    for name in MODULES {
        if found.iter().any(|loaded| loaded == name) {
            continue;
        }
        scene.step(format!("modprobe {name}"));
        match scene.run("usr/sbin/modprobe", &[name], None) {
            Ok(()) => {}
            Err(text) if name == P2P => scene.step(format!("goes without {P2P}: {text}")),
            Err(text) => return Err(Failure::new(refused(name, &text), text)),
        }
    }
    let node = scene.root.path(card::NODE);
    if scene.shows(NODE_S, || node.exists()) {
        return Ok(());
    }
    Err(Failure::new(Fault::Modules, format!("modules are loaded, but there is no {}", node.display())))
}

fn refused(module: &str, complaint: &str) -> Fault {
    let by_card = module == "axcl_host" && REFUSALS.iter().any(|text| complaint.contains(text));
    if by_card { Fault::Firmware } else { Fault::Modules }
}
