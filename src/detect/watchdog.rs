//! The hardware watchdog: the last resort, worth nothing unless it is armed.

use std::fs;

use tracing::{debug, info, warn};

use crate::fault::{Failure, Fault, Result};
use crate::sys::root::SysRoot;

const CLASS: &str = "sys/class/watchdog";

/// Says how the hardware watchdog is armed: `60 s, watchdog0 (Broadcom BCM2835 Watchdog timer)`.
/// Reads a few files; meant for the start.
///
/// # Errors
/// [`Fault::Watchdog`], naming what is missing.
pub fn check(root: &SysRoot) -> Result<String> {
    let entries = fs::read_dir(root.path(CLASS)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        match look(root, &name) {
            Ok(armed) => return Ok(armed),
            Err(missing) => found.push(missing),
        }
    }
    let detail = if found.is_empty() { format!("/{CLASS} holds none") } else { found.join(", ") };
    Err(Failure::new(Fault::Watchdog, detail))
}

/// Tells the journal. Where no service manager minds the program it is a trial run, and a
/// missing watchdog no news.
pub fn report(root: &SysRoot) {
    match check(root) {
        Ok(armed) => info!("the hardware watchdog is armed: {armed}"),
        Err(failure) if std::env::var_os("NOTIFY_SOCKET").is_none() => debug!("{failure}"),
        Err(failure) => warn!(code = failure.fault.code(), "{failure}"),
    }
}

/// How watchdog `name` is armed, or what it lacks.
fn look(root: &SysRoot, name: &str) -> std::result::Result<String, String> {
    let text = |file: &str| {
        let text = fs::read_to_string(root.path(CLASS).join(name).join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let Some(state) = text("state") else {
        return Err(format!("{name} does not tell its state: the kernel lacks CONFIG_WATCHDOG_SYSFS"));
    };
    if state != "active" {
        return Err(format!("{name} is {state}"));
    }
    let Some(timeout) = text("timeout") else { return Err(format!("{name} has no timeout")) };
    let kind = text("identity").map(|identity| format!(" ({identity})")).unwrap_or_default();
    Ok(format!("{timeout} s, {name}{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_watchdog_is_described_and_anything_else_is_a_fault() {
        for (files, says) in [
            (&[][..], Err("/sys/class/watchdog holds none")),
            (&[("watchdog0/state", "inactive\n")], Err("watchdog0 is inactive")),
            (
                &[("watchdog0/timeout", "60\n")],
                Err("watchdog0 does not tell its state: the kernel lacks CONFIG_WATCHDOG_SYSFS"),
            ),
            (&[("watchdog0/state", "active\n")], Err("watchdog0 has no timeout")),
            (&[("watchdog0/state", "active\n"), ("watchdog0/timeout", "60\n")], Ok("60 s, watchdog0")),
            (
                &[
                    ("watchdog0/state", "inactive\n"),
                    ("watchdog1/state", "active\n"),
                    ("watchdog1/timeout", "15\n"),
                    ("watchdog1/identity", "Broadcom BCM2835 Watchdog timer\n"),
                ],
                Ok("15 s, watchdog1 (Broadcom BCM2835 Watchdog timer)"),
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let root = SysRoot::new(directory.path());
            for (name, text) in files {
                let path = root.path(CLASS).join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let found = check(&root).map_err(|failure| {
                assert_eq!(failure.fault, Fault::Watchdog);
                failure.detail
            });
            assert_eq!(found, says.map(str::to_owned).map_err(str::to_owned));
        }
    }
}
