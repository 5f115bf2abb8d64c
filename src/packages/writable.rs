//! The partition `models` is read-only, but while something is taken in.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};

use super::protocol::{Kind, Refusal, Result};
use super::{MODELS, Place};
use crate::sys::root::SysRoot;

/// Who was answered may ask again before the one that answered is gone: so long that is waited for.
const MOMENT: Duration = Duration::from_secs(3);
const LOCK: &str = "run/llm8850-models.lock";
/// As in etc/fstab.
const FLAGS: MountFlags =
    MountFlags::NOATIME.union(MountFlags::NODEV).union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

/// What is done while another takes something in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Wait,
    /// Beyond a moment.
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
        let taken = match patience {
            Patience::Wait => flock(&lock, FlockOperation::LockExclusive),
            Patience::Refuse => within(MOMENT, || flock(&lock, FlockOperation::NonBlockingLockExclusive)),
        };
        match taken {
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

/// Tries again for so long while another has it.
fn within(
    limit: Duration,
    take: impl Fn() -> std::result::Result<(), Errno>,
) -> std::result::Result<(), Errno> {
    const PAUSE: Duration = Duration::from_millis(20);
    let until = Instant::now() + limit;
    loop {
        match take() {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(PAUSE),
            taken => return taken,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_about_to_go_is_waited_for_and_who_stays_is_told() {
        let own = tempfile::tempdir().unwrap();
        let root = SysRoot::new(own.path());
        for directory in ["run", "models"] {
            std::fs::create_dir(own.path().join(directory)).unwrap();
        }
        let first = Writable::open(&root, Patience::Refuse).unwrap();
        let refusal = Writable::open(&root, Patience::Refuse).map(drop).unwrap_err();
        assert_eq!(refusal.kind, Kind::Busy);
        // It goes when the next was turned away once.
        let first = std::cell::RefCell::new(Some(first));
        let lock = File::open(own.path().join(LOCK)).unwrap();
        let taken = within(Duration::from_secs(600), || {
            let tried = flock(&lock, FlockOperation::NonBlockingLockExclusive);
            assert!(tried.is_err() || first.borrow().is_none());
            first.take();
            tried
        });
        assert_eq!(taken, Ok(()));
    }
}
