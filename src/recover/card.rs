//! The card as the kernel shows it: its PCI function, its nodes and who holds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::act::Scene;
use super::modules;
use super::verb::Facts;
use crate::axcl::{Gauge, Runtime};
use crate::fault::{Failure, Fault, Result};
use crate::sys::root::SysRoot;

/// Nodes of the driver's modules.
const NODES: [&str; 4] = ["dev/axcl_host", "dev/msg_userdev", "dev/ax_mmb_dev", "dev/p2p"];
/// The node that answers for the driver.
pub(super) const NODE: &str = "dev/axcl_host";
pub(super) const FIRMWARE: &str = "lib/firmware/axcl/ax650_card.pac";
pub(super) const FUNCTIONS: &str = "sys/bus/pci/devices";
/// How a present card's PCI configuration begins: vendor 1f4b, device 0650.
const IDENTITY: [u8; 4] = [0x4b, 0x1f, 0x50, 0x06];
/// How long holders may take to let go.
const HOLDERS_S: u64 = 5;

/// What is there.
pub(super) fn probe(root: &SysRoot) -> Result<Facts> {
    let name = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Facts {
        pci: function(root).and_then(name),
        modules: modules::loaded(root)?,
        node: root.path(NODE).exists(),
        firmware: has_firmware(root),
        holders: holders(root),
    })
}

/// Whether the firmware's file is there, and is not empty.
pub(super) fn has_firmware(root: &SysRoot) -> bool {
    fs::metadata(root.path(FIRMWARE)).is_ok_and(|file| file.is_file() && file.len() > 0)
}

/// The directory of the card's PCI function, while it is on the bus.
pub(super) fn function(root: &SysRoot) -> Option<PathBuf> {
    let reads = |path: PathBuf, wanted: &str| {
        fs::read_to_string(path).is_ok_and(|text| text.trim().eq_ignore_ascii_case(wanted))
    };
    entries(&root.path(FUNCTIONS))
        .into_iter()
        .find(|at| reads(at.join("vendor"), "0x1f4b") && reads(at.join("device"), "0x0650"))
}

/// Whether the card's function is on the bus and answers with its own identity.
pub(super) fn answers(root: &SysRoot) -> bool {
    use std::io::Read;
    let Some(at) = function(root) else { return false };
    let mut identity = [0; 4];
    let read = fs::File::open(at.join("config")).and_then(|mut file| file.read_exact(&mut identity));
    read.is_ok() && identity == IDENTITY
}

/// Entries of a directory, in order of their names; none where it cannot be read.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = found.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Processes that hold one of the driver's nodes: number and name.
pub(super) fn holders(root: &SysRoot) -> Vec<(u32, String)> {
    let nodes = NODES.map(|node| root.path(node));
    let held = |link: PathBuf| {
        let text = link.to_string_lossy();
        // A node whose module is gone is still held.
        let path = Path::new(text.strip_suffix(" (deleted)").unwrap_or(&text));
        nodes.iter().any(|node| node == path)
    };
    let mut found: Vec<_> = entries(&root.path("proc"))
        .into_iter()
        .filter_map(|process| {
            let number: u32 = process.file_name()?.to_str()?.parse().ok()?;
            let mut links = entries(&process.join("fd")).into_iter().filter_map(|fd| fs::read_link(fd).ok());
            links.any(held).then(|| {
                let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
                (number, name.trim().to_owned())
            })
        })
        .collect();
    found.sort();
    found
}

/// Waits a little for processes that hold the card.
///
/// # Errors
/// [`Fault::CardHeld`], naming them.
pub(super) fn wait_until_free(scene: &Scene<'_>) -> Result<()> {
    let named = || {
        let holders = holders(&scene.root);
        holders.iter().map(|(pid, name)| format!("{pid} ({name})")).collect::<Vec<_>>().join(", ")
    };
    let first = named();
    if first.is_empty() {
        return Ok(());
    }
    scene.step(format!("waiting for process {first} to let go of the card"));
    let mut last = first;
    let free = scene.shows(HOLDERS_S, || {
        last = named();
        last.is_empty()
    });
    if free { Ok(()) } else { Err(Failure::new(Fault::CardHeld, format!("process {last}"))) }
}

/// Restarts the card through its driver.
pub(super) fn reboot(scene: &Scene<'_>) -> Result<()> {
    wait_until_free(scene)?;
    let worker = scene.worker;
    let runtime = Runtime::open(&worker.runtime, worker.runtime_config(), Arc::new(Gauge::default()))?;
    scene.step("axclrtRebootDevice");
    // The runtime ends with this function: when Done is told, the card is free.
    runtime.reboot(worker.device as usize)
}
