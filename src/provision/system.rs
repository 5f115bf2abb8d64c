//! The system's files, as the settings have them.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::schema::{Fallback, Host, Network, Ssh, Wifi};
use super::understand::section;
use super::{network, service};
use crate::packages::Place;
use crate::slots::TOLD;
use crate::sys::root::SysRoot;
use crate::sys::store;

const BASE: &str = "usr/lib/llm8850/config.toml";
const CONFIG: &str = "run/llm8850-config/config.toml";
const NETWORKD: &str = "run/systemd/network/10-appliance.network";
/// The small model that answers without a card where nothing else is said.
const FALLBACK: &str = "/models/fallback";
const IWD: &str = "run/llm8850-config/iwd.conf";
const PROFILES: &str = "var/lib/iwd";
const KEYS: &str = "run/llm8850-config/authorized_keys";
const LOCALTIME: &str = "run/llm8850-config/localtime";
const ZONES: &str = "usr/share/zoneinfo";
const HOST_NAME: &str = "proc/sys/kernel/hostname";
/// The key with which the appliance asks its own service.
const OWN_KEY: &str = "key";

/// Puts `good` settings into the system; `key` is the appliance's own for its service. What
/// fails is told, and keeps nothing else from being done.
pub fn apply(root: &SysRoot, good: &Table, key: &str) -> Vec<String> {
    let mut work = Work { root, failures: Vec::new() };
    let host: Host = section(good);
    work.host(&host);
    work.service(good, key);
    work.place(NETWORKD, network::ethernet(&section::<Network>(good)).as_deref(), 0o644);
    let wifi: Wifi = section(good);
    work.place(IWD, Some(&network::iwd(&wifi)), 0o644);
    work.profiles(&wifi);
    let keys = section::<Ssh>(good).authorized_keys;
    let lines: String = keys.iter().map(|key| format!("{}\n", key.trim())).collect();
    work.place(KEYS, (!keys.is_empty()).then_some(&*lines), 0o600);
    work.failures
}

/// Has the service know the packages there are now, from its next start on: whether that makes a
/// difference to it.
pub fn packages(root: &SysRoot, users: &Table) -> bool {
    let path = root.path(CONFIG);
    let config = std::fs::read_to_string(&path).ok().and_then(|text| toml::from_str::<Table>(&text).ok());
    let Some(known) = config else { return false };
    let mut config = known.clone();
    if !service::says_which(users)
        && let Some(model) = config.get_mut("model").and_then(Value::as_table_mut)
    {
        model.remove("others");
    }
    service::with_packages(&mut config, &Place::new(root));
    if config == known {
        return false;
    }
    let written = toml::to_string(&config).map_err(io::Error::other);
    let written = written.and_then(|text| placed(&path, text.as_bytes(), 0o644));
    if let Err(e) = &written {
        tracing::error!("{}: {e}", path.display());
    }
    written.is_ok()
}

struct Work<'a> {
    root: &'a SysRoot,
    failures: Vec<String>,
}

impl Work<'_> {
    fn tried(&mut self, path: &Path, done: io::Result<()>) {
        if let Err(e) = done {
            self.failures.push(format!("{}: {e}", path.display()));
        }
    }

    /// Writes a file whole, or removes it.
    fn place(&mut self, path: &str, text: Option<&str>, mode: u32) {
        let path = self.root.path(path);
        let done = match text {
            Some(text) => placed(&path, text.as_bytes(), mode),
            None => gone(&path),
        };
        self.tried(&path, done);
    }

    fn host(&mut self, host: &Host) {
        let path = self.root.path(HOST_NAME);
        let done = std::fs::write(&path, &host.name);
        self.tried(&path, done);
        let (link, fresh) = (self.root.path(LOCALTIME), self.root.path(LOCALTIME).with_extension("new"));
        let Some(zone) = &host.timezone else {
            let done = gone(&link);
            return self.tried(&link, done);
        };
        let zone = Path::new("/").join(ZONES).join(zone);
        if !self.root.path(&zone).is_file() {
            return self.failures.push(format!("host.timezone: there is no {}: UTC holds", zone.display()));
        }
        let made = directory_of(&link).and_then(|()| gone(&fresh)).and_then(|()| symlink(&zone, &fresh));
        let done = made.and_then(|()| std::fs::rename(&fresh, &link));
        self.tried(&link, done);
    }

    fn service(&mut self, good: &Table, key: &str) {
        let path = self.root.path(BASE);
        let base = std::fs::read_to_string(&path)
            .map_err(|e| e.to_string())
            .and_then(|text| toml::from_str(&text).map_err(|e| e.message().to_owned()));
        let base = base.unwrap_or_else(|e| {
            self.failures.push(format!("{}: {e}", path.display()));
            Table::new()
        });
        let (mut config, locked) = service::configuration(&base, good, key);
        if !self.vendor(&base) {
            service::without_vendor(&mut config);
        }
        if let Some(dir) = self.stand_in(good) {
            service::stand_in(&mut config, &dir);
        }
        service::with_packages(&mut config, &Place::new(self.root));
        // The key is there before the service that asks for it.
        self.place(&format!("{TOLD}/{OWN_KEY}"), locked.then_some(key), 0o600);
        match toml::to_string(&config) {
            Ok(text) => self.place(CONFIG, Some(&text), 0o644),
            Err(e) => self.failures.push(format!("{CONFIG}: {e}")),
        }
    }

    /// Whether the runtime that the image is to use is in it: the vendor's is not in every one.
    fn vendor(&self, base: &Table) -> bool {
        let runtime = base.get("worker").and_then(|worker| worker.get("runtime")).and_then(Value::as_str);
        runtime.is_some_and(|runtime| self.root.path(runtime).exists())
    }

    /// The directory of the small model that is to answer without a card.
    fn stand_in(&self, good: &Table) -> Option<PathBuf> {
        let asked = section::<Fallback>(good).model_dir;
        let own = || self.root.path(FALLBACK).is_dir().then(|| FALLBACK.into());
        asked.map_or_else(own, |dir| (!dir.as_os_str().is_empty()).then_some(dir))
    }

    /// One Wi-Fi at most: others that were set before are forgotten.
    fn profiles(&mut self, wifi: &Wifi) {
        let directory = self.root.path(PROFILES);
        let profile = network::wifi(wifi);
        if let Some((name, text)) = &profile {
            let path = directory.join(name);
            // iwd writes there, too: only what differs is replaced.
            if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                let done = placed(&path, text.as_bytes(), 0o600);
                self.tried(&path, done);
            }
        }
        let kept = profile.as_ref().map(|(name, _)| directory.join(name));
        for path in files(&directory) {
            let known = path.extension().is_some_and(|e| e == "psk" || e == "open" || e == "new");
            if known && Some(&path) != kept.as_ref() {
                let done = gone(&path);
                self.tried(&path, done);
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn directory_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

fn placed(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    directory_of(path)?;
    store::replace_as(path, bytes, mode)
}

fn gone(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
