//! The slot: PERST# through the host bridge's driver. Nothing else resets a card whose
//! link is lost.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::act::Scene;
use super::{card, modules};
use crate::fault::{Failure, Fault, Result};

/// The bridge of the Pi 5's slot: the only one ever unbound. Its neighbour,
/// 1000120000.pcie, carries RP1: Ethernet, USB and GPIO.
const BRIDGE: &str = "1000110000.pcie";
const DRIVER: &str = "sys/bus/platform/drivers/brcm-pcie";
const RESCAN: &str = "sys/bus/pci/rescan";
const GONE_S: u64 = 5;
const BACK_S: u64 = 10;

/// Resets the slot and waits for the card.
pub(super) fn reset(scene: &Scene<'_>) -> Result<()> {
    let loaded = modules::loaded(&scene.root)?;
    if !loaded.is_empty() {
        // Their threads would read a card that is no longer there: a kernel crash.
        return Err(refuse(format!("modules are loaded: {}", loaded.join(", "))));
    }
    check_bridge(scene)?;
    if let Some(at) = card::function(&scene.root) {
        scene.step(format!("removing {}", at.display()));
        put(scene, &at.join("remove"), "1")?;
        if !scene.shows(GONE_S, || !at.exists()) {
            return Err(refuse(format!("{} does not go", at.display())));
        }
    }
    let driver = scene.root.path(DRIVER);
    let bound = driver.join(BRIDGE);
    if bound.exists() {
        scene.step(format!("unbinding {BRIDGE}"));
        put(scene, &driver.join("unbind"), BRIDGE)?;
        if !scene.shows(GONE_S, || !bound.exists()) {
            return Err(refuse(format!("{BRIDGE} stays bound")));
        }
    }
    scene.step(format!("binding {BRIDGE}"));
    // The bridge refuses to be bound while its link does not come up: once more helps.
    put(scene, &driver.join("bind"), BRIDGE).or_else(|_| put(scene, &driver.join("bind"), BRIDGE))?;
    if back(scene) {
        return Ok(());
    }
    scene.step("rescanning the bus");
    put(scene, &scene.root.path(RESCAN), "1")?;
    if back(scene) { Ok(()) } else { Err(refuse("the card did not come back".into())) }
}

fn back(scene: &Scene<'_>) -> bool {
    scene.shows(BACK_S, || card::answers(&scene.root))
}

/// The card, where it is, must lie behind [`BRIDGE`], and nothing else may.
fn check_bridge(scene: &Scene<'_>) -> Result<()> {
    let own = card::function(&scene.root);
    let functions = scene.root.path(card::FUNCTIONS);
    for at in card::entries(&functions) {
        let Some(bridge) = bridge(&at) else { continue };
        let is_card = own.as_ref() == Some(&at);
        if is_card && bridge != BRIDGE {
            return Err(refuse(format!("the card is behind {bridge}, not {BRIDGE}: left alone")));
        }
        if !is_card && bridge == BRIDGE && !is_pci_bridge(&at) {
            return Err(refuse(format!("{} is in the same slot: left alone", at.display())));
        }
    }
    Ok(())
}

/// The host bridge above a PCI function, or its whole path; `None` where sysfs is no
/// tree of links.
fn bridge(function: &Path) -> Option<String> {
    fs::read_link(function).ok()?;
    let real = fs::canonicalize(function).ok()?;
    let mut above = real.components().map(|part| part.as_os_str().to_string_lossy());
    let bridge = above.rfind(|name| name.ends_with(".pcie")).map(|name| name.into_owned());
    Some(bridge.unwrap_or_else(|| real.display().to_string()))
}

fn is_pci_bridge(function: &Path) -> bool {
    fs::read_to_string(function.join("class")).is_ok_and(|class| class.trim().starts_with("0x0604"))
}

fn put(scene: &Scene<'_>, path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().unwrap_or(OsStr::new("?")).to_string_lossy();
    scene.write(path, text).map_err(|e| refuse(format!("{} ({name}): {e}", path.display())))
}

fn refuse(why: String) -> Failure {
    Failure::new(Fault::Bus, why)
}
