//! An update: what must be fulfilled before it is begun, and RAUC's run.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tracing::info;

use super::firmware::Firmware;
use super::keeper::{Keeper, Update};
use super::policy;
use crate::fault::{Failure, Fault, Result};

const RAUC: &str = "usr/bin/rauc";
/// What must stay free where the record is kept.
const FREE: u64 = 4 << 20;
/// What is kept of a program's complaint.
const COMPLAINT: u64 = 16 << 10;

fn refused(what: impl Into<String>) -> Failure {
    Failure::new(Fault::Update, what)
}

/// Installs the bundle and begins its trial. How far it is, and why it failed, is told in
/// `slots.json`.
///
/// # Errors
/// [`Fault::Update`], [`Fault::Bootloader`], [`Fault::Slots`]: nothing of what is started by
/// itself was changed.
pub fn install<F: Firmware>(keeper: &mut Keeper<F>, bundle: &Path) -> Result<()> {
    let mut update = Update {
        bundle: bundle.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        what: "checking".into(),
        ..Update::default()
    };
    keeper.tell_update(&update)?;
    let done = gates(keeper, bundle, &mut update)
        .and_then(|()| write(keeper, bundle, &mut update))
        .and_then(|()| keeper.decide(policy::begin_trial));
    match done {
        Ok(_) => Ok(()),
        Err(failure) => {
            (update.failed, update.what) = (true, failure.to_string());
            keeper.tell_update(&update)?;
            Err(failure)
        }
    }
}

fn gates<F: Firmware>(keeper: &Keeper<F>, bundle: &Path, update: &mut Update) -> Result<()> {
    keeper.firmware().can_try()?;
    keeper.look(policy::installable)?.map_err(refused)?;
    let kept = keeper.root().path("var/lib");
    let space = rustix::fs::statvfs(&kept).map_err(|e| refused(format!("{}: {e}", kept.display())))?;
    if space.f_bavail.saturating_mul(space.f_frsize) < FREE {
        return Err(refused(format!("{} is full: 4 MiB must be free", kept.display())));
    }
    update.version = version(keeper, bundle)?;
    let floor = keeper.look(|record, facts| {
        if policy::newer(&facts.floor, &record.floor) { facts.floor.clone() } else { record.floor.clone() }
    })?;
    if policy::newer(&floor, &update.version) {
        return Err(refused(format!("it is of version {}, and none below {floor} is taken", update.version)));
    }
    Ok(())
}

/// The bundle's version, once RAUC has verified its signature.
fn version<F: Firmware>(keeper: &Keeper<F>, bundle: &Path) -> Result<String> {
    let output = Command::new(keeper.root().path(RAUC))
        .args(["info", "--output-format=json"])
        .arg(bundle)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| refused(format!("rauc: {e}")))?;
    if !output.status.success() {
        return Err(refused(complaint(&output.stderr)));
    }
    let told: Value =
        serde_json::from_slice(&output.stdout).map_err(|e| refused(format!("rauc info: {e}")))?;
    let version = told.get("version").and_then(Value::as_str).filter(|version| !version.is_empty());
    version.map(str::to_owned).ok_or_else(|| refused("it tells no version"))
}

/// RAUC's last words: what it says before them leads there.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("rauc failed and did not say why").to_owned()
}

fn write<F: Firmware>(keeper: &Keeper<F>, bundle: &Path, update: &mut Update) -> Result<()> {
    info!("version {} is written to the other slot", update.version);
    let failed = |e: std::io::Error| refused(format!("rauc: {e}"));
    let mut child = Command::new(keeper.root().path(RAUC))
        .arg("install")
        .arg(bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let errors = child.stderr.take();
    let errors = std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut stream) = errors {
            let _ = (&mut stream).take(COMPLAINT).read_to_end(&mut kept);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
        kept
    });
    for line in child
        .stdout
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
        .map_while(std::result::Result::ok)
    {
        if let Some((percent, what)) = progress(&line) {
            (update.percent, update.what) = (percent, what.into());
            keeper.tell_update(update)?;
        }
    }
    let status = child.wait().map_err(failed)?;
    let said = errors.join().unwrap_or_default();
    if status.success() { Ok(()) } else { Err(refused(complaint(&said))) }
}

/// RAUC's lines of progress: ` 40% Copying image to rootfs.1`.
fn progress(line: &str) -> Option<(u8, &str)> {
    let (percent, what) = line.trim().split_once('%')?;
    Some((percent.trim().parse().ok().filter(|percent| *percent <= 100)?, what.trim()))
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
