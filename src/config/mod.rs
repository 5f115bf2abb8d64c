//! The configuration file: TOML, one section and one file of code each.
//!
//! A program starts whatever the file says: a key that is unknown, of the wrong type or
//! out of range is reported as a [`Problem`] with its line, and its default takes its
//! place. What is wrong is never silent: `--check-config` lists it, the journal too. And
//! it never lets anybody in: `[access]` has no default for what it could not read.

mod access;
mod appliance;
mod button;
mod defaults;
mod errand;
mod fallback;
mod lights;
mod limits;
mod log;
mod model;
mod problem;
mod recovery;
mod resident;
mod section;
mod server;
mod units;
mod worker;

use std::io::ErrorKind;
use std::path::Path;

pub use access::{Access, Key, KeyHash};
pub use appliance::Appliance;
pub use button::Button;
pub use defaults::Defaults;
pub use errand::Errand;
pub use fallback::Fallback;
pub use lights::{Driver, Lights, Polarity};
pub use limits::{Images, Limits};
pub use log::{Level, Log};
pub use model::{Catalogue, Installed, Model, Other};
pub use problem::Problem;
pub use recovery::Recovery;
pub use resident::Resident;
pub use server::{Server, SpokenFallback, UnknownModel};
pub use units::Seconds;
pub use worker::{PathChoice, Worker};

pub(crate) use section::{Document, Findings, Section};

/// Where the file lies where nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/llm8850/config.toml";

/// The whole configuration. [`Config::default`] is what an empty file means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub server: Server,
    pub worker: Worker,
    pub model: Model,
    pub access: Access,
    pub defaults: Defaults,
    pub limits: Limits,
    pub resident: Resident,
    pub recovery: Recovery,
    pub fallback: Fallback,
    pub lights: Lights,
    pub button: Button,
    pub log: Log,
    pub appliance: Appliance,
}

impl Config {
    /// Reads the file at `path`: what it says, with defaults for what is missing or
    /// wrong, and every problem found, in the order of lines.
    pub fn load(path: &Path) -> (Self, Vec<Problem>) {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(e) => {
                let mut config = Self::default();
                let mut what = format!("cannot be read: {e}; defaults are used");
                if e.kind() != ErrorKind::NotFound {
                    config.access.close();
                    what += ", and nobody is answered, for it may ask for keys";
                }
                (config, vec![Problem { file: path.into(), line: None, key: String::new(), what }])
            }
        }
    }

    /// As [`Config::load`], from the file's text; `path` only names it.
    pub fn parse(text: &str, path: &Path) -> (Self, Vec<Problem>) {
        let mut findings = Findings::new(text, path);
        let mut document = Document::parse(text, &mut findings);
        let whole = findings.none();
        let mut config = Self {
            server: document.take(&mut findings),
            worker: document.take(&mut findings),
            model: document.take(&mut findings),
            access: document.take(&mut findings),
            defaults: document.take(&mut findings),
            limits: document.take(&mut findings),
            resident: document.take(&mut findings),
            recovery: document.take(&mut findings),
            fallback: document.take(&mut findings),
            lights: document.take(&mut findings),
            button: document.take(&mut findings),
            log: document.take(&mut findings),
            appliance: document.take(&mut findings),
        };
        document.finish(&mut findings);
        // Keys may have been lost with what is no TOML, or stand in a section of another name.
        let lost = !whole || !(findings.none() || config.access.locked());
        if lost && Access::meant(text) {
            config.access.close();
        }
        (config, findings.into_problems())
    }
}

impl Config {
    /// Whether this differs from `started` in what a running supervisor cannot change.
    pub fn needs_restart(&self, started: &Self) -> bool {
        let adopt = |config: &Self| Self {
            access: Access::default(),
            defaults: Defaults::default(),
            limits: Limits::default(),
            resident: Resident::default(),
            log: Log::default(),
            appliance: Appliance::default(),
            server: Server { listen: config.server.listen.clone(), ..Server::default() },
            model: config.model.as_loaded(),
            ..config.clone()
        };
        adopt(self) != adopt(started)
    }
}

#[cfg(test)]
mod tests;
