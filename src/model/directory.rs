//! A model directory, opened and checked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::description::{Description, Descriptor};
use super::embeddings::Embeddings;
use super::manifest::Manifest;
use super::sampling_file;
use super::text::Text;
use crate::chat::Sampling;
use crate::fault::{Failure, Fault, Result};

/// How every Git LFS pointer file begins.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// A model directory whose files are all there. Their contents are verified by
/// [`Manifest::check`] while they are loaded.
pub struct ModelDir {
    path: PathBuf,
    description: Description,
    text: Text,
    sampling: Sampling,
    manifest: Option<Manifest>,
}

impl ModelDir {
    /// Opens `path`. `descriptor` completes or overrules its `config.json`.
    ///
    /// # Errors
    /// [`Fault::ModelMissing`] and [`Fault::ModelInvalid`] naming the file or key,
    /// [`Fault::Tokenizer`] and [`Fault::Template`] for the text side.
    pub fn open(path: &Path, descriptor: Option<&Descriptor>) -> Result<Self> {
        if !path.is_dir() {
            return Err(Failure::new(Fault::ModelMissing, format!("{} is not a directory", path.display())));
        }
        let config = read_text(&path.join("config.json"))?;
        if config.is_none() && descriptor.is_none() {
            return Err(Failure::new(
                Fault::ModelMissing,
                format!(
                    "{}: no config.json, and the configuration has no `model.descriptor`",
                    path.display()
                ),
            ));
        }
        let description = Description::new(config.as_deref(), descriptor)?;
        let manifest = Manifest::open(path)?;
        let text = Text::open(path, &description, config.as_deref())?;
        let sampling = sampling_file::read(&path.join(&description.post_config))?;
        let dir = Self { path: path.to_owned(), description, text, sampling, manifest };
        for layer in 0..dir.layers() {
            check_binary(&dir.layer_file(layer))?;
        }
        check_binary(&dir.post_file())?;
        check_binary(&dir.embeddings_file())?;
        Ok(dir)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's name, as clients see it.
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// How many decoder layers there are.
    pub fn layers(&self) -> u32 {
        self.description.layers
    }

    /// The engine file of layer `index`, counted from 0.
    pub fn layer_file(&self, index: u32) -> PathBuf {
        self.path.join(self.description.layer_template.name(index))
    }

    /// The engine file that turns the last hidden state into logits.
    pub fn post_file(&self) -> PathBuf {
        self.path.join(&self.description.post)
    }

    /// The embedding table's file.
    pub fn embeddings_file(&self) -> PathBuf {
        self.path.join(&self.description.embeddings)
    }

    /// Values of one hidden state.
    pub fn hidden(&self) -> usize {
        self.description.hidden
    }

    /// Tokens with an embedding; the tokenizer may know fewer.
    pub fn vocabulary(&self) -> usize {
        self.description.vocabulary
    }

    /// Maps the embedding table.
    ///
    /// # Errors
    /// As [`Embeddings::open`].
    pub fn embeddings(&self) -> Result<Embeddings> {
        Embeddings::open(&self.embeddings_file(), self.vocabulary(), self.hidden())
    }

    /// Tokenizer and chat template.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// What the package's `post_config.json` sets.
    pub fn sampling_defaults(&self) -> &Sampling {
        &self.sampling
    }

    /// The manifest, where the package has one.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }
}

/// The text of a file; `None` where there is none.
///
/// # Errors
/// [`Fault::ModelMissing`] where it cannot be read, [`Fault::ModelInvalid`] where it is a
/// Git LFS pointer.
pub(super) fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.as_bytes().starts_with(LFS_POINTER) => Err(pointer(path)),
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::new(Fault::ModelMissing, format!("{}: {e}", path.display()))),
    }
}

/// Checks that a file is there, is not empty and is not a Git LFS pointer.
fn check_binary(path: &Path) -> Result<()> {
    let missing = |e: std::io::Error| Failure::new(Fault::ModelMissing, format!("{}: {e}", path.display()));
    let mut start = Vec::new();
    let limit = u64::try_from(LFS_POINTER.len()).unwrap_or(0);
    File::open(path).map_err(missing)?.take(limit).read_to_end(&mut start).map_err(missing)?;
    if start.is_empty() {
        return Err(Failure::new(Fault::ModelInvalid, format!("{} is empty", path.display())));
    }
    if start == LFS_POINTER {
        return Err(pointer(path));
    }
    Ok(())
}

fn pointer(path: &Path) -> Failure {
    Failure::new(
        Fault::ModelInvalid,
        format!("{} is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`", path.display()),
    )
}
