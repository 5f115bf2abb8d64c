//! One request per connection: a line of JSON, for `write` followed by the bytes; and one line in
//! answer.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::sys::lines;

/// No manifest's text is longer: a request is one line.
pub const LONGEST_MANIFEST: usize = lines::LONGEST / 2 - 1024;

/// What the service asks root for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Make ready for a package. One that has begun to arrive goes on.
    Begin { model: String, manifest: String },
    /// What arrived of it so far.
    Look { model: String },
    /// All that arrives, and what is there.
    List,
    /// The bytes that follow are this file's, from `offset` on.
    Write { model: String, path: String, offset: u64 },
    /// Compare all of it with its manifest, and put it in its place.
    Install { model: String },
    /// Drop what arrived of it.
    Drop { model: String },
    /// Remove an installed package.
    Remove { model: String },
    /// Have an installed package be what is served where nothing else is said.
    Choose { model: String },
}

/// What root answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Incoming(Incoming),
    List(List),
    /// So much of a file is there.
    Received(Piece),
    /// It is done, or, where it takes long, begun.
    Done,
    Refused(Refusal),
}

/// A package on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    pub model: String,
    /// Whether the same package is installed already.
    pub installed: bool,
    pub files: Vec<Piece>,
}

/// One of its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub path: String,
    pub bytes: u64,
    pub received: u64,
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub installed: Vec<String>,
    /// How many bytes each of these takes.
    pub sizes: BTreeMap<String, u64>,
    pub incoming: Vec<String>,
    /// What the served one is called where nothing else is said.
    pub default: Option<String>,
    /// Bytes that there is room for.
    pub free: u64,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: Kind,
    /// With the remedy, as sentences.
    pub message: String,
}

/// What kind of reason that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What was asked is wrong.
    Invalid,
    /// There is no such package or file.
    Unknown,
    /// The bytes do not follow those that are there.
    Offset,
    NoRoom,
    /// Not all of it is there, or some of it is damaged.
    Incomplete,
    /// Something else is being taken in.
    Busy,
    /// The catalogue cannot be had, or is wrong, or what it leads to. Never root's word.
    Catalogue,
    /// The card's fault, or the program's.
    Failed,
}

pub type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// What the file system said of `path`.
    pub fn of(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |e| {
            let kind = if e.kind() == io::ErrorKind::StorageFull { Kind::NoRoom } else { Kind::Failed };
            Self::new(kind, format!("{}: {e}.", path.display()))
        }
    }
}
