//! How a package gets its name. Each step leaves the old package or the new, whole; what a power
//! cut leaves besides is tidied at the next start.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::incoming::{remove, unknown};
use super::protocol::{Kind, Refusal, Result};
use super::{DEFAULT, INCOMING, MARK, Place, names};
use crate::model::Manifest;
use crate::sys::store;

/// How far it is. After each the power may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes are as the manifest says.
    Checked(u64),
    /// All of it is on the card.
    Synced,
    /// It has its name.
    Named,
    /// It is served by the service's next start, where it is the one to be.
    Placed,
    /// The one it replaced is gone.
    Tidied,
}

impl Place {
    /// Compares what arrived with its manifest and gives it its name, in place of one that has it.
    /// It becomes what is served where nothing is.
    ///
    /// # Errors
    /// Something is missing or damaged; damaged files are dropped, to be sent again. What `step`
    /// says ends it.
    pub fn install(&self, name: &str, step: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
        let manifest = self.arriving(name)?;
        self.complete(name)?;
        self.check(name, &manifest, step)?;
        let (staging, package) = (self.staging(name), self.package(name));
        sync(&staging).map_err(Refusal::of(&staging))?;
        step(Step::Synced)?;
        // In one step, which the file system's journal makes whole: the old one, where there is
        // one, is then where the new one was.
        let replaces = fs::symlink_metadata(&package).is_ok();
        let flags = if replaces { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let placed = renameat_with(CWD, &staging, CWD, &package, flags).map_err(io::Error::from);
        placed
            .and_then(|()| store::sync_directory(&package))
            .and_then(|()| store::sync_directory(&staging))
            .map_err(Refusal::of(&package))?;
        step(Step::Named)?;
        remove(&package.join(MARK)).map_err(Refusal::of(&package))?;
        self.first(name).map_err(Refusal::of(&package))?;
        step(Step::Placed)?;
        remove(&staging).map_err(Refusal::of(&staging))?;
        step(Step::Tidied)
    }

    /// Refuses a package of which something has not arrived.
    ///
    /// # Errors
    /// Names a file and how much of it is missing.
    pub fn complete(&self, name: &str) -> Result<()> {
        let Some(piece) = self.look(name)?.files.into_iter().find(|piece| piece.received != piece.bytes)
        else {
            return Ok(());
        };
        let message = format!(
            "Of {:?} {} of {} bytes have arrived: send the rest.",
            piece.path, piece.received, piece.bytes
        );
        Err(Refusal::new(Kind::Incomplete, message))
    }

    fn check(&self, name: &str, manifest: &Manifest, step: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
        let staging = self.staging(name);
        let (mut checked, mut damaged) = (0, Vec::new());
        for (path, bytes) in manifest.lengths() {
            match manifest.check_origin(&staging, path) {
                Ok(()) => checked += bytes,
                Err(failure) => {
                    let file = staging.join(path);
                    let emptied = OpenOptions::new().write(true).truncate(true).open(&file);
                    emptied.and_then(|file| file.sync_all()).map_err(Refusal::of(&file))?;
                    damaged.push(failure.detail);
                }
            }
            step(Step::Checked(checked))?;
        }
        if damaged.is_empty() {
            return Ok(());
        }
        let message = format!("Damaged, and to be sent again: {}.", damaged.join("; "));
        Err(Refusal::new(Kind::Incomplete, message))
    }

    /// Has `default` lead to this package where it leads nowhere.
    fn first(&self, name: &str) -> io::Result<()> {
        if self.package(DEFAULT).exists() || !self.is_described(name) { Ok(()) } else { self.lead(name) }
    }

    /// Has `default` lead to this package, in one step.
    fn lead(&self, name: &str) -> io::Result<()> {
        let (default, fresh) = (self.package(DEFAULT), self.staging(DEFAULT));
        fresh.parent().map_or(Ok(()), fs::create_dir_all)?;
        remove(&fresh)?;
        symlink(name, &fresh)?;
        fs::rename(&fresh, &default)?;
        store::sync_directory(&default)
    }

    /// Has an installed package be what is served where nothing else is said.
    ///
    /// # Errors
    /// It is not there, or does not say how it is loaded; or what is served is no link.
    pub fn choose(&self, name: &str) -> Result<()> {
        self.installed(name)?;
        if !self.is_described(name) {
            let message =
                format!("{name:?} has no config.json: describe it in `model.descriptor`, with `model.dir`.");
            return Err(Refusal::invalid(message));
        }
        let default = self.package(DEFAULT);
        if fs::symlink_metadata(&default).is_ok_and(|data| !data.is_symlink()) {
            let message =
                format!("{} is a package itself, no link to one: give it a name first.", default.display());
            return Err(Refusal::invalid(message));
        }
        self.lead(name).map_err(Refusal::of(&default))
    }

    fn installed(&self, name: &str) -> Result<()> {
        let message = || format!("There is no model {name:?}.");
        if self.is_there(name) { Ok(()) } else { Err(Refusal::new(Kind::Unknown, message())) }
    }

    /// Removes an installed package, but not the one that is served where nothing else is said.
    /// `gone` is called when it has its name no more, and before its room is free.
    ///
    /// # Errors
    /// It is not there, or is that one.
    pub fn remove(&self, name: &str, gone: impl FnOnce()) -> Result<()> {
        let package = self.package(name);
        self.installed(name)?;
        if self.is_default(name) {
            let message = format!("{name:?} is what is served where nothing else is said: it stays.");
            return Err(Refusal::invalid(message));
        }
        self.discard(name)?;
        let leaving = self.staging(name);
        let moved = leaving.parent().map_or(Ok(()), fs::create_dir_all);
        moved
            .and_then(|()| fs::rename(&package, &leaving))
            .and_then(|()| store::sync_directory(&package))
            .map_err(Refusal::of(&package))?;
        gone();
        remove(&leaving).map_err(Refusal::of(&leaving))
    }

    /// What a power cut left is tidied: packages that were replaced go, and where `default` leads
    /// nowhere it leads to the first package. What had begun to arrive stays.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn tidy(&self) -> Result<()> {
        for name in names(&self.directory.join(INCOMING)) {
            if self.arriving(&name).as_ref().is_err_and(|refusal| *refusal == unknown(&name)) {
                let left = self.staging(&name);
                remove(&left).map_err(Refusal::of(&left))?;
            }
        }
        let packages = self.packages();
        for name in &packages {
            let mark = self.package(name).join(MARK);
            remove(&mark).map_err(Refusal::of(&mark))?;
        }
        let first = packages.iter().find(|name| self.is_described(name));
        first.map_or(Ok(()), |name| self.first(name).map_err(Refusal::of(&self.directory)))
    }
}

/// All of a directory is on the card.
fn sync(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    File::open(path)?.sync_all()
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
