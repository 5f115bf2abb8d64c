//! The partition `models` is read-only, but while something is taken in.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};

use super::protocol::{Kind, Refusal, Result};
use super::{MODELS, Place};
use crate::sys::root::SysRoot;

const LOCK: &str = "run/llm8850-models.lock";
/// As in etc/fstab.
const FLAGS: MountFlags =
    MountFlags::NOATIME.union(MountFlags::NODEV).union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

/// What is done while another takes something in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Wait,
    Refuse,
}

/// The partition, to be written by this process alone. Read-only again when dropped.
pub struct Writable {
    pub place: Place,
    directory: PathBuf,
    _lock: File,
}

impl Writable {
    /// # Errors
    /// Another process has it, or the card does not let itself be written.
    pub fn open(root: &SysRoot, patience: Patience) -> Result<Self> {
        let path = root.path(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(Refusal::of(&path))?;
        let operation = match patience {
            Patience::Wait => FlockOperation::LockExclusive,
            Patience::Refuse => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(&lock, operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let message = "Something else is being taken in: try again once that is done.";
                return Err(Refusal::new(Kind::Busy, message));
            }
            Err(e) => return Err(Refusal::of(&path)(e.into())),
        }
        let directory = root.path(MODELS);
        remount(&directory, MountFlags::empty()).map_err(|e| {
            let message = format!(
                "{} cannot be written: {e}. Restart the appliance: the partition is checked then.",
                directory.display()
            );
            Refusal::new(Kind::Failed, message)
        })?;
        Ok(Self { place: Place::new(root), directory, _lock: lock })
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        if let Err(e) = remount(&self.directory, MountFlags::RDONLY) {
            // Files of a removed package may still be open. For others it is read-only all the same.
            tracing::warn!("{} stays writable for now: {e}", self.directory.display());
        }
    }
}

/// Does nothing where it is no partition of its own.
fn remount(directory: &Path, flags: MountFlags) -> io::Result<()> {
    let device = |path: &Path| Ok::<_, io::Error>(std::fs::metadata(path)?.dev());
    let parent = directory.parent().unwrap_or(directory);
    if device(directory)? == device(parent)? {
        return Ok(());
    }
    Ok(mount_remount(directory, FLAGS | flags, c"")?)
}
