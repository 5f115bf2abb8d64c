//! The partition `setup`, mounted while something is read there or written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::record::Slot;
use crate::fault::{Failure, Fault, Result};
use crate::sys::root::SysRoot;
use crate::sys::store;

/// Where the partition is found.
pub const DEVICE: &str = "dev/disk/by-partlabel/setup";
const MOUNT_POINT: &str = "run/llm8850-setup";
const LOCK: &str = "run/llm8850-setup.lock";
/// One sector: written at once or not at all.
const SECTOR: usize = 512;
const AUTOBOOT: &str = "autoboot.txt";

/// Whether something is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// The mounted partition. Unmounted when dropped; meanwhile no other program of ours mounts it.
pub struct Setup {
    directory: PathBuf,
    mounted: bool,
    _lock: Option<File>,
}

impl Setup {
    /// Mounts it, or takes `given`, a directory that stands for it.
    ///
    /// # Errors
    /// [`Fault::Setup`].
    pub fn open(root: &SysRoot, given: Option<&Path>, access: Access) -> Result<Self> {
        if let Some(directory) = given {
            return Ok(Self { directory: directory.into(), mounted: false, _lock: None });
        }
        let (device, directory) = (root.path(DEVICE), root.path(MOUNT_POINT));
        let failed = |e: io::Error| Failure::new(Fault::Setup, format!("{}: {e}", device.display()));
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let lock = root.path(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        let mut flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        if access == Access::Read {
            flags |= MountFlags::RDONLY;
        }
        // Root's alone: it holds secrets until they are taken from it.
        mount(&device, &directory, "vfat", flags, c"umask=0077,utf8=1").map_err(|e| failed(e.into()))?;
        Ok(Self { directory, mounted: true, _lock: Some(lock) })
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The slot that `autoboot.txt` names.
    pub fn committed(&self) -> Option<Slot> {
        let mut text = String::new();
        let limit = 4 * SECTOR as u64;
        File::open(self.path(AUTOBOOT)).ok()?.take(limit).read_to_string(&mut text).ok()?;
        named(&text)
    }

    /// Has `autoboot.txt` name `slot`: the file's one sector is overwritten in place.
    ///
    /// # Errors
    /// [`Fault::Setup`]; the sector then holds what it held, or `slot`.
    pub fn commit(&self, slot: Slot) -> Result<()> {
        let path = self.path(AUTOBOOT);
        let written =
            match OpenOptions::new().write(true).custom_flags(OFlags::DSYNC.bits().cast_signed()).open(&path)
            {
                Ok(file) => overwrite(&file, &sector(slot)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => store::replace(&path, &sector(slot)),
                Err(e) => Err(e),
            };
        written.map_err(|e| Failure::new(Fault::Setup, format!("{}: {e}", path.display())))?;
        match self.committed() {
            Some(found) if found == slot => Ok(()),
            _ => {
                Err(Failure::new(Fault::Setup, format!("{} does not hold what was written", path.display())))
            }
        }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        let flushed = File::open(&self.directory).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
        let left = unmount(&self.directory, UnmountFlags::empty());
        if let Err(e) = flushed.and(left.map_err(Into::into)) {
            tracing::error!("{}", Failure::new(Fault::Setup, format!("{}: {e}", self.directory.display())));
        }
    }
}

/// The length changes last, and only where a person had changed it.
fn overwrite(file: &File, sector: &[u8; SECTOR]) -> io::Result<()> {
    file.write_all_at(sector, 0)?;
    if file.metadata()?.len() != SECTOR as u64 {
        file.set_len(SECTOR as u64)?;
        file.sync_all()?;
    }
    Ok(())
}

/// `autoboot.txt` for `slot`.
pub fn sector(slot: Slot) -> [u8; SECTOR] {
    let (slot, other) = (slot.partition(), slot.other().partition());
    let text = format!("[all]\ntryboot_a_b=1\nboot_partition={slot}\n[tryboot]\nboot_partition={other}\n");
    let mut sector = [b'\n'; SECTOR];
    sector.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    sector
}

/// The slot that an `autoboot.txt` has started by itself.
fn named(text: &str) -> Option<Slot> {
    let (mut all, mut found) = (true, None);
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            all = line.eq_ignore_ascii_case("[all]");
        } else if let Some(number) = line.strip_prefix("boot_partition=").filter(|_| all) {
            found = number.trim().parse().ok().and_then(Slot::of_partition);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn given() -> (tempfile::TempDir, Setup) {
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup::open(&SysRoot::default(), Some(directory.path()), Access::Write).unwrap();
        (directory, setup)
    }

    #[test]
    fn the_sector_names_the_slot_and_the_other_for_a_trial() {
        let (_directory, setup) = given();
        assert_eq!(setup.committed(), None);
        for slot in [Slot::B, Slot::A] {
            setup.commit(slot).unwrap();
            assert_eq!(setup.committed(), Some(slot));
        }
        let text = std::fs::read_to_string(setup.path(AUTOBOOT)).unwrap();
        assert_eq!(text.len(), 512);
        assert_eq!(text.trim_end(), "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3");
    }

    #[test]
    fn it_is_overwritten_in_place() {
        let (_directory, setup) = given();
        setup.commit(Slot::A).unwrap();
        let inode = || std::fs::metadata(setup.path(AUTOBOOT)).unwrap().ino();
        let before = inode();
        setup.commit(Slot::B).unwrap();
        assert_eq!(inode(), before);
    }

    #[test]
    fn what_a_person_made_of_it_is_understood_and_put_right() {
        for (text, slot) in [
            ("boot_partition=3", Some(Slot::B)),
            ("[all]\r\nboot_partition=2\r\n[tryboot]\r\nboot_partition=3\r\n", Some(Slot::A)),
            ("[tryboot]\nboot_partition=2\n", None),
            ("[all]\nboot_partition=7\n", None),
            ("\u{0}\u{0}", None),
            ("", None),
        ] {
            let (_directory, setup) = given();
            std::fs::write(setup.path(AUTOBOOT), text.repeat(1)).unwrap();
            assert_eq!(setup.committed(), slot, "{text:?}");
            setup.commit(Slot::B).unwrap();
            assert_eq!(std::fs::metadata(setup.path(AUTOBOOT)).unwrap().len(), 512);
        }
        let (_directory, setup) = given();
        std::fs::write(setup.path(AUTOBOOT), "#".repeat(5000)).unwrap();
        setup.commit(Slot::A).unwrap();
        assert_eq!(std::fs::read(setup.path(AUTOBOOT)).unwrap(), sector(Slot::A));
    }

    #[test]
    fn a_partition_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("run")).unwrap();
        let root = SysRoot::new(directory.path());
        let failure = Setup::open(&root, None, Access::Read).err().unwrap();
        assert_eq!(failure.fault, Fault::Setup);
        assert!(failure.detail.contains("by-partlabel/setup"), "{failure}");
    }
}
