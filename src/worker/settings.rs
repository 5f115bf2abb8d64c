//! What the worker needs to know.

use std::path::PathBuf;
use std::time::Duration;

use crate::inference::pipeline::PathMode;
use crate::model::Descriptor;

/// Everything a worker is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The card's runtime library: a path, or a name for the loader to find.
    pub runtime: PathBuf,
    /// The vendor runtime's JSON configuration, if it gets one.
    pub runtime_config: Option<PathBuf>,
    /// Which card, counted from 0.
    pub device: usize,
    pub model_dir: PathBuf,
    /// Completes or overrules the package's own description.
    pub descriptor: Option<Descriptor>,
    /// The model's name, where the package's is not wanted.
    pub name: Option<String>,
    /// Compare the model's files with their manifest.
    pub verify: bool,
    pub path: PathMode,
    /// Use at most this many tokens of context.
    pub context: Option<u32>,
    /// How long a stop may wait for one call to the card.
    pub shutdown_deadline: Duration,
}

impl Settings {
    /// Settings for the model in `model_dir` on the first card of `runtime`.
    pub fn new(runtime: impl Into<PathBuf>, model_dir: impl Into<PathBuf>) -> Self {
        Self {
            runtime: runtime.into(),
            runtime_config: None,
            device: 0,
            model_dir: model_dir.into(),
            descriptor: None,
            name: None,
            verify: true,
            path: PathMode::Auto,
            context: None,
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}
