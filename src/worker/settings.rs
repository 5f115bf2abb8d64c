//! What the worker needs to know.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fault::{Failure, Fault, Result};
use crate::inference::pipeline::PathMode;
use crate::model::Descriptor;

/// A model as it lies on disk.
#[derive(Clone, Debug)]
pub struct Package {
    pub dir: PathBuf,
    /// Completes or overrules the package's own description.
    pub descriptor: Option<Descriptor>,
    /// The model's name, where the package's is not wanted.
    pub name: Option<String>,
    /// Use at most this many tokens of context.
    pub context: Option<u32>,
}

impl Package {
    /// The model in `dir`; `descriptor` as the configuration writes it.
    ///
    /// # Errors
    /// [`Fault::Config`] for a descriptor that is none.
    pub fn new(
        dir: &Path,
        name: Option<String>,
        context: Option<u32>,
        descriptor: Option<&toml::Table>,
    ) -> Result<Self> {
        let wrong = |e| Failure::new(Fault::Config, format!("the `descriptor` of {}: {e}", dir.display()));
        let descriptor = descriptor.cloned().map(toml::Table::try_into).transpose().map_err(wrong)?;
        Ok(Self { dir: dir.to_owned(), descriptor, name, context })
    }
}

/// Everything a worker is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The card's runtime library: a path, or a name for the loader to find.
    pub runtime: PathBuf,
    /// The vendor runtime's JSON configuration, if it gets one.
    pub runtime_config: Option<PathBuf>,
    /// Which card, counted from 0.
    pub device: usize,
    /// What is loaded from the start.
    pub model: Package,
    /// What is loaded when it is asked for, by its name.
    pub others: Vec<Package>,
    /// Conversations of a model the card keeps at most.
    pub prefix_slots: usize,
    /// Bytes of the host's memory for conversations that had to leave the card; of a quarter of it at most.
    pub saved_bytes: u64,
    /// Compare the model's files with their manifest.
    pub verify: bool,
    pub path: PathMode,
    /// How long a stop may wait for one call to the card.
    pub shutdown_deadline: Duration,
}

impl Settings {
    /// Every model that can be loaded.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        std::iter::once(&self.model).chain(&self.others)
    }
}
