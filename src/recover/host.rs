//! The host's restart.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::act::Scene;
use super::modules;
use crate::fault::{Failure, Fault, Result};

const SYSTEMCTL: &str = "usr/bin/systemctl";
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
const SYNC_S: u64 = 5;
const MODULES_S: u64 = 15;
const ORDERLY_S: u64 = 60;

/// What is done before the restart: what matters is on the disk, and the chip is reset by
/// its driver, so that the next boot finds it ready for its firmware. Neither may hold up
/// the restart.
pub(super) fn prepare(scene: &Scene<'_>) -> Result<()> {
    let program = scene.root.path(SYSTEMCTL);
    if !program.exists() {
        return Err(Failure::new(Fault::HostReboot, format!("no {}", program.display())));
    }
    scene.step("sync");
    sync(scene.patience(SYNC_S));
    let until = Instant::now() + scene.patience(MODULES_S);
    if let Err(failure) = modules::unload(scene, Some(until)) {
        scene.step(format!("the restart goes on: {failure}"));
    }
    Ok(())
}

/// Restarts the host; forces it where the orderly way takes too long. A restart that took
/// place shows in the boot's number: beside an emulated card this process outlives it.
pub(super) fn reboot(scene: &Scene<'_>) -> Result<()> {
    let boot = || std::fs::read_to_string(scene.root.path(BOOT_ID)).ok();
    let before = boot();
    let limit = Instant::now() + scene.patience(ORDERLY_S);
    match scene.run(SYSTEMCTL, &["reboot"], Some(limit)) {
        Ok(()) if scene.shows(ORDERLY_S, || boot() != before) => return Ok(()),
        Ok(()) => tracing::error!("the orderly restart takes too long: it is forced"),
        Err(text) => tracing::error!("systemctl reboot: {text}"),
    }
    let limit = Instant::now() + scene.patience(ORDERLY_S);
    scene
        .run(SYSTEMCTL, &["reboot", "--force"], Some(limit))
        .map_err(|text| Failure::new(Fault::HostReboot, text))
}

/// Writes what is buffered, for so long as that takes at most: a dead disk never ends.
fn sync(limit: Duration) {
    let (done, wait) = channel();
    thread::spawn(move || {
        rustix::fs::sync();
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(limit);
}
