//! A catalogue: which packages can be had, of which files each is made, and where they are. It is
//! somebody else's word: all of it is looked at before anything of it is used.

use std::collections::BTreeMap;

use fluent_uri::{Uri, UriRef};
use serde::Deserialize;
use serde_json::{Value, json};

use super::incoming::read;
use super::is_name;
use super::protocol::{Kind, Refusal, Result};
use crate::model::is_sha256;

/// No catalogue's text is longer.
pub const LONGEST: usize = 1 << 20;
/// No file of a package is longer: the card's memory holds much less.
const LARGEST: u64 = 64 << 30;
/// Packages that are named to who asks for another.
const NAMED: usize = 20;

/// An absolute address.
pub type Address = Uri<String>;

/// What can be had.
#[derive(Debug)]
pub struct Catalogue {
    packages: Vec<Entry>,
    /// Where it was: files are told relative to that.
    base: Address,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Deserialize)]
struct Packages {
    packages: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
    bytes: u64,
    crc32: String,
    sha256: String,
    url: String,
}

/// A package of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    /// The text of its manifest.
    pub manifest: String,
    /// By path.
    pub files: BTreeMap<String, Origin>,
}

/// Where a file is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub address: Address,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

impl Catalogue {
    /// Reads a catalogue's text, which was found at `base`.
    ///
    /// # Errors
    /// It is of another version, or none.
    pub fn parse(text: &[u8], base: &Address) -> Result<Self> {
        let wrong = |e: serde_json::Error| refused(format!("{base} is no catalogue: {e}."));
        let Version { version } = serde_json::from_slice(text).map_err(wrong)?;
        if version != 1 {
            return Err(refused(format!(
                "{base} is a catalogue of version {version}, and this appliance knows version 1: update it, or make \
                 the catalogue with its scripts/make-catalogue."
            )));
        }
        let Packages { packages } = serde_json::from_slice(text).map_err(wrong)?;
        Ok(Self { packages, base: base.clone() })
    }

    /// The package of this name.
    ///
    /// # Errors
    /// There is none, or something about it is wrong.
    pub fn package(&self, name: &str) -> Result<Package> {
        let mut found = self.packages.iter().filter(|package| package.name == name);
        let entry = found.next().ok_or_else(|| self.unknown(name))?;
        let wrong = |what: String| refused(format!("The catalogue's {name:?} is wrong: {what}."));
        if !is_name(name) {
            return Err(wrong("a model cannot be called so".into()));
        }
        if found.next().is_some() {
            return Err(wrong("it is listed twice".into()));
        }
        let mut manifest = serde_json::Map::new();
        let mut files = BTreeMap::new();
        for file in &entry.files {
            let path = &file.path;
            if file.bytes > LARGEST {
                return Err(wrong(format!("{path:?} has {} bytes, and {LARGEST} is the most", file.bytes)));
            }
            if !is_sha256(&file.sha256) {
                return Err(wrong(format!("the sha256 of {path:?} is not sixty-four hexadecimal digits")));
            }
            let sha256 = file.sha256.to_ascii_lowercase();
            let address =
                resolve(&file.url, &self.base).map_err(|what| wrong(format!("{path:?}: {what}")))?;
            manifest
                .insert(path.clone(), json!({"bytes": file.bytes, "crc32": file.crc32, "sha256": sha256}));
            if files.insert(path.clone(), Origin { address, sha256 }).is_some() {
                return Err(wrong(format!("{path:?} is listed twice")));
            }
        }
        let manifest = json!({"version": 1, "files": Value::Object(manifest)}).to_string();
        read(&manifest).map_err(|refusal| wrong(refusal.message.trim_end_matches('.').to_owned()))?;
        Ok(Package { name: name.into(), manifest, files })
    }

    fn unknown(&self, name: &str) -> Refusal {
        let names: Vec<&str> = self.packages.iter().map(|package| package.name.as_str()).collect();
        let known: Vec<&str> = names.iter().copied().filter(|name| is_name(name)).take(NAMED).collect();
        let more = if names.len() > known.len() { " and others" } else { "" };
        let shown: String = name.chars().take(200).collect();
        let base = &self.base;
        let message = match known.as_slice() {
            [] => format!("The catalogue {base} has no model {shown:?}, nor any other."),
            known => {
                format!("The catalogue {base} has no model {shown:?}: it has {}{more}.", known.join(", "))
            }
        };
        Refusal::new(Kind::Unknown, message)
    }
}

/// An address that is told relative to another: of the same scheme, so that what was asked for
/// over TLS never comes without.
///
/// # Errors
/// What is wrong with it, as half a sentence.
pub fn resolve(url: &str, base: &Address) -> std::result::Result<Address, String> {
    let wrong = || format!("{url:?} is no address");
    let address = UriRef::parse(url).map_err(|_| wrong())?.resolve_against(base).map_err(|_| wrong())?;
    let (scheme, own) = (address.scheme().as_str(), base.scheme().as_str());
    if !scheme.eq_ignore_ascii_case(own) {
        return Err(format!("{url:?} leads from {own} to {scheme}"));
    }
    match address.authority() {
        Some(authority) if !authority.host().is_empty() && !authority.has_userinfo() => Ok(address),
        _ => Err(wrong()),
    }
}

/// What a catalogue, or the server it is on, does wrong.
pub(super) fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(Kind::Catalogue, message)
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
