//! USB sticks: packages in a directory `models` of theirs are taken in, as if they had been sent.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::incoming::read;
use super::protocol::{Kind, LONGEST_MANIFEST, Refusal, Result};
use super::serve::{Changed, State, Told, install, tell};
use super::writable::{Patience, Writable};
use super::{Place, names};
use crate::model::MANIFEST_FILE;
use crate::sys::inside;
use crate::sys::root::SysRoot;

const MODELS: &str = "models";
const MOUNT_POINT: &str = "run/llm8850-stick";
/// How sticks are formatted. Nothing is written to them, not even what a journal still holds.
const KINDS: [(&str, &std::ffi::CStr); 3] = [("vfat", c"utf8=1"), ("exfat", c""), ("ext4", c"noload")];

/// Takes in what a stick holds that is not installed. `given` is a directory that stands for the
/// stick. How it went is told: of several, what went wrong.
pub fn stick(root: &SysRoot, device: &Path, given: Option<&Path>, changed: Changed<'_>) {
    let failed = |model: &str, refusal: Refusal| {
        tracing::error!("{}: {model}: {}", device.display(), refusal.message);
        tell(root, &Told::failed(model, refusal.message));
    };
    let stick = match Stick::open(root, device, given) {
        Ok(stick) => stick,
        Err(refusal) => return failed("", refusal),
    };
    let packages = names(&stick.directory.join(MODELS));
    if packages.is_empty() {
        return tracing::info!("{}: no models", device.display());
    }
    let writable = match Writable::open(root, Patience::Wait) {
        Ok(writable) => writable,
        Err(refusal) => return failed("", refusal),
    };
    let mut wrong = None;
    for name in packages.iter().filter(|name| !name.starts_with('.')) {
        match take_in(root, &writable.place, &stick, name, changed) {
            Ok(true) => {}
            Ok(false) => tracing::info!("{name} is installed already"),
            Err(refusal) => wrong = Some((name, refusal)),
        }
    }
    if let Some((name, refusal)) = wrong {
        failed(name, refusal);
    }
}

/// Whether there was something to be done.
fn take_in(root: &SysRoot, place: &Place, stick: &Stick, name: &str, changed: Changed<'_>) -> Result<bool> {
    let text = stick.manifest(name)?;
    if place.has(name, &read(&text)?) {
        return Ok(false);
    }
    let begun = place.begin(name, &text)?;
    let bytes = begun.files.iter().map(|file| file.bytes).sum();
    let mut told = Told { bytes, ..Told::new(name, State::Copying) };
    for piece in &begun.files {
        tell(root, &told);
        if piece.received < piece.bytes {
            let path = Path::new(MODELS).join(name).join(&piece.path);
            let mut source = stick.file(&path)?;
            source.seek(SeekFrom::Start(piece.received)).map_err(Refusal::of(&path))?;
            place.write(name, &piece.path, piece.received, &mut source)?;
        }
        told.checked += piece.bytes;
    }
    place.complete(name)?;
    install(root, place, name, || {}, changed).map(|()| true)
}

/// The mounted stick. Unmounted when dropped.
struct Stick {
    directory: PathBuf,
    opened: File,
    mounted: bool,
}

impl Stick {
    fn open(root: &SysRoot, device: &Path, given: Option<&Path>) -> Result<Self> {
        let directory = given.map_or_else(|| root.path(MOUNT_POINT), Path::to_owned);
        if given.is_none() {
            mounted(&root.path(device), &directory)?;
        }
        match File::open(&directory) {
            Ok(opened) => Ok(Self { directory, opened, mounted: given.is_none() }),
            Err(e) => Err(Refusal::of(&directory)(e)),
        }
    }

    /// A file of it; no link leads elsewhere.
    fn file(&self, path: &Path) -> Result<File> {
        inside::open(&self.opened, path, OFlags::RDONLY).map(File::from).map_err(Refusal::of(path))
    }

    /// The text of a package's manifest.
    fn manifest(&self, name: &str) -> Result<String> {
        let path = Path::new(MODELS).join(name).join(MANIFEST_FILE);
        let mut text = String::new();
        let file = self.file(&path).map_err(|refusal| {
            let message = format!("{} Make it with `scripts/send-model --manifest`.", refusal.message);
            Refusal::new(Kind::Invalid, message)
        })?;
        let read = file.take(LONGEST_MANIFEST as u64 + 1).read_to_string(&mut text);
        read.map_err(Refusal::of(&path))?;
        Ok(text)
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        if self.mounted {
            // What is open of it goes with this process, and its mounts are its own.
            let _ = unmount(&self.directory, UnmountFlags::DETACH);
        }
    }
}

fn mounted(device: &Path, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(Refusal::of(directory))?;
    let flags = MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    let mut last = io::Error::other("it is formatted in an unknown way");
    for (kind, options) in KINDS {
        match mount(device, directory, kind, flags, options) {
            Ok(()) => return Ok(()),
            // It is of another kind, or the kernel does not know this one.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NODEV) => {}
            Err(e) => last = e.into(),
        }
    }
    let message = format!("The stick cannot be read: {last}. Format it with FAT32, exFAT or ext4.");
    Err(Refusal::new(Kind::Failed, message))
}
