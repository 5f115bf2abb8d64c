//! What arrives: files of the lengths the manifest says, in a directory that nobody serves. How
//! much of a file is there is the length it has, so a break of any kind loses nothing but the bytes
//! under way.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::protocol::{Incoming, Kind, LONGEST_MANIFEST, List, Piece, Refusal, Result};
use super::{DEFAULT, INCOMING, MARK, Place, is_name, may_list, names};
use crate::model::{MANIFEST_FILE, Manifest};
use crate::sys::store;

/// What a package leaves free.
const SPARE: u64 = 64 << 20;
/// A file takes whole blocks.
const BLOCK: u64 = 4 << 10;
const CHUNK: usize = 256 << 10;
/// What may wait to be written: a slow card otherwise takes minutes for it at the end.
const UNWRITTEN: u64 = 32 << 20;

impl Place {
    /// Makes ready for the package `name`, whose manifest's text this is. One that has begun to
    /// arrive with the same manifest goes on; one with another begins anew.
    ///
    /// # Errors
    /// The manifest is wrong, or there is no room.
    pub fn begin(&self, name: &str, text: &str) -> Result<Incoming> {
        if !is_name(name) {
            return Err(Refusal::invalid(format!(
                "A model cannot be called {name:?}: use up to 64 letters, digits, '.', '_' and '-', beginning with a \
                 letter or digit, other than \"{DEFAULT}\"."
            )));
        }
        let manifest = read(text)?;
        let staging = self.staging(name);
        if self.arriving(name).ok().as_ref() != Some(&manifest) {
            self.discard(name)?;
        }
        self.room_for(name, &manifest)?;
        let failed = || Refusal::of(&staging);
        directories(&staging).map_err(failed())?;
        touch(&staging.join(MARK)).map_err(failed())?;
        let path = staging.join(MANIFEST_FILE);
        store::replace_as(&path, text.as_bytes(), 0o644).map_err(Refusal::of(&path))?;
        for (name, _) in manifest.lengths() {
            let path = staging.join(name);
            let made = path.parent().map_or(Ok(()), directories).and_then(|()| touch(&path));
            made.map_err(Refusal::of(&path))?;
        }
        self.look(name)
    }

    /// What arrived of it.
    ///
    /// # Errors
    /// Nothing did.
    pub fn look(&self, name: &str) -> Result<Incoming> {
        let manifest = self.arriving(name)?;
        let staging = self.staging(name);
        let piece = |(path, bytes): (&str, u64)| Piece {
            path: path.into(),
            bytes,
            received: fs::metadata(staging.join(path)).map_or(0, |data| data.len()),
        };
        let files = manifest.lengths().map(piece).collect();
        Ok(Incoming { model: name.into(), installed: self.has(name, &manifest), files })
    }

    /// All that arrives, and what is there.
    pub fn list(&self) -> List {
        let arriving = |name: &String| self.arriving(name).is_ok();
        let installed = self.packages();
        let default = installed.iter().find(|name| self.is_default(name)).cloned();
        let sizes = installed.iter().map(|name| (name.clone(), size(&self.package(name)))).collect();
        let incoming = names(&self.directory.join(INCOMING)).into_iter().filter(arriving).collect();
        List { installed, sizes, incoming, default, free: self.free() }
    }

    /// Adds bytes to a file that is arriving. Those that came before `source` ended or failed stay.
    ///
    /// # Errors
    /// There is no such file, they do not follow what is there, or they are too many.
    pub fn write(&self, name: &str, path: &str, offset: u64, source: &mut dyn Read) -> Result<Piece> {
        let manifest = self.arriving(name)?;
        let Some((_, bytes)) = manifest.lengths().find(|(listed, _)| *listed == path) else {
            return Err(Refusal::new(Kind::Unknown, format!("The manifest of {name:?} lists no {path:?}.")));
        };
        let place = self.staging(name).join(path);
        let failed = || Refusal::of(&place);
        let mut file = OpenOptions::new().append(true).open(&place).map_err(failed())?;
        let there = file.metadata().map_err(failed())?.len();
        if offset != there {
            let message =
                format!("{there} bytes of {path:?} are there: send it from there on, not from {offset}.");
            return Err(Refusal::new(Kind::Offset, message));
        }
        let added = append(&mut file, &mut source.take(bytes.saturating_sub(there)));
        file.sync_all().map_err(failed())?;
        let received = there + added.map_err(failed())?;
        if received == bytes && source.read(&mut [0]).is_ok_and(|more| more > 0) {
            return Err(Refusal::invalid(format!("{path:?} has {bytes} bytes: more were sent.")));
        }
        Ok(Piece { path: path.into(), bytes, received })
    }

    /// Drops what arrived of it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn discard(&self, name: &str) -> Result<()> {
        let staging = self.staging(name);
        if is_name(name) { remove(&staging).map_err(Refusal::of(&staging)) } else { Err(unknown(name)) }
    }

    /// The manifest of what is arriving.
    pub(super) fn arriving(&self, name: &str) -> Result<Manifest> {
        let staging = self.staging(name);
        if !is_name(name) || !staging.join(MARK).exists() {
            return Err(unknown(name));
        }
        let manifest = Manifest::open(&staging).map_err(|failure| Refusal::invalid(failure.to_string()))?;
        manifest.ok_or_else(|| unknown(name))
    }

    /// Refuses what does not fit beside all that is there.
    fn room_for(&self, name: &str, manifest: &Manifest) -> Result<()> {
        let staging = self.staging(name);
        let missing = |(path, bytes): (&str, u64)| {
            let there = fs::metadata(staging.join(path)).map_or(0, |data| data.len());
            bytes.saturating_sub(there).div_ceil(BLOCK).saturating_mul(BLOCK)
        };
        let needed = manifest.lengths().map(missing).fold(SPARE, u64::saturating_add);
        let free = self.free();
        if needed <= free {
            return Ok(());
        }
        let others = self.list().incoming.into_iter().filter(|other| other != name);
        let others: Vec<String> = others.collect();
        let half = match others.as_slice() {
            [] => String::new(),
            some => format!(", or what arrived of {}", some.join(", ")),
        };
        let message = format!(
            "{name:?} needs {} MiB, and {} MiB are free: remove a model first{half}.",
            needed.div_ceil(1 << 20),
            free >> 20
        );
        Err(Refusal::new(Kind::NoRoom, message))
    }

    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.directory).map_or(0, |room| room.f_bavail.saturating_mul(room.f_frsize))
    }
}

/// A manifest that can be arrived by.
pub(super) fn read(text: &str) -> Result<Manifest> {
    let wrong = |what: String| Refusal::invalid(format!("The manifest is wrong: {what}."));
    if text.len() > LONGEST_MANIFEST {
        return Err(wrong(format!("it is longer than {LONGEST_MANIFEST} bytes")));
    }
    let manifest = Manifest::parse(text).map_err(wrong)?;
    if let Some(name) = manifest.files().find(|name| !may_list(name)) {
        return Err(wrong(format!("it must not list {name:?}")));
    }
    if manifest.files().next().is_none() {
        return Err(wrong("it lists no file".into()));
    }
    Ok(manifest)
}

pub(super) fn unknown(name: &str) -> Refusal {
    let message = format!("Nothing of a model {name:?} has arrived: begin with its manifest.");
    Refusal::new(Kind::Unknown, message)
}

/// How much is in a directory.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let size_of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.map(size_of).sum()
}

/// Everybody may read what is installed, whatever this process's mask.
fn directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn touch(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o644).open(path).map(drop)
}

/// Removes whatever is there; that nothing is there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// How many bytes were added.
fn append(file: &mut File, source: &mut dyn Read) -> io::Result<u64> {
    let (mut added, mut unwritten) = (0, 0);
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => return Ok(added),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        file.write_all(buffer.get(..n).unwrap_or_default())?;
        added += n as u64;
        unwritten += n as u64;
        if unwritten >= UNWRITTEN {
            file.sync_data()?;
            unwritten = 0;
        }
    }
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
