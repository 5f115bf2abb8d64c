//! Model packages on the appliance: how they come onto the partition `models`, which is read-only
//! in service. What is sent arrives in a place of its own, is compared with its manifest, and only
//! then gets its name, at once: whatever moment the power is cut at, a package is there whole, or
//! as it was before.
//!
//! ```text
//! http ── client ──▶ socket ──▶ serve (root) ──▶ incoming ──▶ install ──▶ /models/NAME
//!   pull ──────┘      a stick ──▶ stick (root) ──▶    "            "
//!     └── fetch ◀── catalogue, files
//! ```
//!
//! | to change | open |
//! |---|---|
//! | what is asked and answered between the service and root | [`protocol`] |
//! | the service's end | [`client`] |
//! | root's end | [`serve`] |
//! | what a catalogue may say | [`catalogue`] |
//! | how something is fetched: TLS, redirects, time limits | [`fetch`] |
//! | the order of things when a package is fetched | [`pull`] |
//! | what is taken in, how much there is room for, how it goes on after a break | [`incoming`] |
//! | how a package gets its name, and what a power cut leaves | [`install`] |
//! | when the partition can be written | [`writable`] |
//! | USB sticks | [`stick`] |

pub mod catalogue;
pub mod client;
pub mod fetch;
pub mod incoming;
pub mod install;
pub mod protocol;
pub mod pull;
pub mod serve;
pub mod stick;
pub mod writable;

use std::path::{Path, PathBuf};

use crate::model::{MANIFEST_FILE, Manifest};
use crate::sys::root::SysRoot;

/// Where packages are.
pub const MODELS: &str = "/models";
/// Where they arrive, below that.
const INCOMING: &str = ".incoming";
/// A file in what arrives. A package in [`INCOMING`] without it is one that was replaced.
const MARK: &str = ".incoming";
/// The link to the package that is served where nothing else is said.
const DEFAULT: &str = "default";
const LONGEST_NAME: usize = 64;

/// The directory of packages.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
}

impl Place {
    pub fn new(root: &SysRoot) -> Self {
        Self { directory: root.path(MODELS) }
    }

    /// Where a package is, or is to be.
    fn package(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where it arrives.
    fn staging(&self, name: &str) -> PathBuf {
        self.directory.join(INCOMING).join(name)
    }

    /// The packages that are there, by their directories' names.
    pub fn packages(&self) -> Vec<String> {
        names(&self.directory).into_iter().filter(|name| self.is_there(name)).collect()
    }

    /// Whether a package of this name is there.
    pub fn is_there(&self, name: &str) -> bool {
        is_name(name) && self.package(name).is_dir()
    }

    /// Whether a package says itself how it is to be loaded.
    pub fn is_described(&self, name: &str) -> bool {
        self.package(name).join("config.json").is_file()
    }

    /// Whether a package is there with this very manifest.
    fn has(&self, name: &str, manifest: &Manifest) -> bool {
        Manifest::open(&self.package(name)).is_ok_and(|found| found.as_ref() == Some(manifest))
    }

    /// Whether it is what is served where nothing else is said.
    pub fn is_default(&self, name: &str) -> bool {
        let (one, other) = (self.package(DEFAULT).canonicalize(), self.package(name).canonicalize());
        one.is_ok_and(|one| other.is_ok_and(|other| one == other))
    }
}

/// Whether what is in `directory` is what is served where nothing else is said: it is that link,
/// or one to it.
pub fn follows_default(directory: &Path) -> bool {
    let link = std::fs::read_link(directory);
    link.as_deref().unwrap_or(directory) == Path::new(MODELS).join(DEFAULT)
}

/// Whether a package may be called so: a plain name for a directory, and part of an address.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && name.len() <= LONGEST_NAME && name.bytes().all(plain) && name != DEFAULT
}

/// Whether a manifest may list such a file: no other name leads to it.
fn may_list(path: &str) -> bool {
    let plain: PathBuf = Path::new(path).components().collect();
    plain.as_os_str() == path && path != MANIFEST_FILE && path != MARK
}

/// What is in a directory, in order; nothing where it cannot be read.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
pub(crate) mod tests;
