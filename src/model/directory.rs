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
pub struct ModelFiles {
    path: PathBuf,
    config: Option<String>,
    description: Description,
    sampling: Sampling,
    manifest: Option<Manifest>,
}

/// The same with its text side.
pub struct ModelDir {
    files: ModelFiles,
    text: Text,
}

impl ModelDir {
    /// Opens `path`. `descriptor` completes or overrules its `config.json`.
    ///
    /// # Errors
    /// As [`ModelFiles::open`] and [`ModelFiles::text`].
    pub fn open(path: &Path, descriptor: Option<&Descriptor>) -> Result<Self> {
        let files = ModelFiles::open(path, descriptor)?;
        let text = files.text()?;
        Ok(Self::new(files, text))
    }

    /// Of files and what [`ModelFiles::text`] gave.
    pub fn new(files: ModelFiles, text: Text) -> Self {
        Self { files, text }
    }

    /// What it consists of.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Tokenizer and chat template.
    pub fn text(&self) -> &Text {
        &self.text
    }
}

impl ModelFiles {
    /// Opens `path`. `descriptor` completes or overrules its `config.json`.
    ///
    /// # Errors
    /// [`Fault::ModelMissing`] and [`Fault::ModelInvalid`] naming the file or key.
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
        let sampling = sampling_file::read(&path.join(&description.post_config))?;
        let files = Self { path: path.to_owned(), config, description, sampling, manifest };
        for layer in 0..files.layers() {
            check_binary(&files.layer_file(layer))?;
        }
        check_binary(&files.post_file())?;
        check_binary(&files.embeddings_file())?;
        Ok(files)
    }

    /// Reads tokenizer and chat template; a large vocabulary takes a while.
    ///
    /// # Errors
    /// As [`Text::open`].
    pub fn text(&self) -> Result<Text> {
        Text::open(&self.path, &self.description, self.config.as_deref())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;
    use serde_json::{Value, json};

    fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut Value)) {
        let path = dir.join(name);
        let mut value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    }

    fn refused(change: impl FnOnce(&Path)) -> Failure {
        let dir = tempfile::tempdir().unwrap();
        fixture::package(dir.path(), None);
        change(dir.path());
        ModelDir::open(dir.path(), None).err().unwrap()
    }

    #[test]
    fn a_package_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let model = fixture::package(dir.path(), None);
        let files = model.files();
        assert_eq!((files.name(), files.layers(), files.hidden()), ("tiny", 1, 2));
        assert!(files.layer_file(0).ends_with("tiny_l0.axmodel"));
        assert_eq!(model.text().ends(), [fixture::END]);
        assert_eq!(files.embeddings().unwrap().row(319).unwrap().len(), 4);
        assert!(files.manifest().is_none() && model.text().thinks());
    }

    #[test]
    fn pointers_missing_files_and_sizes_are_named() {
        const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
        for name in ["tiny_l0.axmodel", "tiny_post.axmodel", "embed.bin", "tokenizer.json", "config.json"] {
            let failure = refused(|dir| std::fs::write(dir.join(name), POINTER).unwrap());
            assert_eq!(failure.fault, Fault::ModelInvalid, "{failure}");
            assert!(failure.detail.contains(name) && failure.detail.contains("git lfs pull"), "{failure}");
        }
        let failure = refused(|dir| std::fs::remove_file(dir.join("tiny_post.axmodel")).unwrap());
        assert_eq!(failure.fault, Fault::ModelMissing);
        assert!(failure.detail.contains("tiny_post.axmodel"), "{failure}");
        let failure = refused(|dir| edit(dir, "config.json", |c| c["tokens_embed_num"] = json!(303)));
        assert!(failure.detail.contains("knows 304 tokens, but there are embeddings for 303"), "{failure}");
    }

    #[test]
    fn a_package_needs_a_way_to_talk_and_to_end() {
        let without = |marker: &'static str| {
            move |dir: &Path| {
                let path = dir.join("tokenizer.json");
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(path, text.replace(marker, "<other>")).unwrap();
            }
        };
        let failure = refused(without("<|im_start|>"));
        assert_eq!(failure.fault, Fault::Template);
        assert!(failure.detail.contains("no chat template"), "{failure}");
        let failure = refused(without("<|im_end|>"));
        assert!(failure.detail.contains("which token ends an answer"), "{failure}");
    }

    #[test]
    fn an_older_package_is_opened_by_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        fixture::package(dir.path(), None);
        let at = |name: &str| dir.path().join(name);
        for sub in ["tiny-ax650", "tiny_tokenizer"] {
            std::fs::create_dir(at(sub)).unwrap();
        }
        for (from, to) in [
            ("tiny_l0.axmodel", "tiny-ax650/tiny_l0.axmodel"),
            ("tiny_post.axmodel", "tiny-ax650/tiny_post.axmodel"),
            ("embed.bin", "tiny-ax650/embed.bin"),
            ("tokenizer_config.json", "tiny_tokenizer/tokenizer_config.json"),
        ] {
            std::fs::rename(at(from), at(to)).unwrap();
        }
        // The older tokenizer form, too.
        let json = fixture::tokenizer_json();
        let merges: Vec<String> = json["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()))
            .collect();
        std::fs::write(at("tiny_tokenizer/merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n")))
            .unwrap();
        std::fs::write(at("tiny_tokenizer/vocab.json"), json["model"]["vocab"].to_string()).unwrap();
        edit(&at("tiny_tokenizer"), "tokenizer_config.json", |c| {
            c["tokenizer_class"] = json!("Qwen2Tokenizer");
            for token in json["added_tokens"].as_array().unwrap() {
                c["added_tokens_decoder"][token["id"].to_string()] = token.clone();
            }
        });
        for old in ["config.json", "tokenizer.json"] {
            std::fs::remove_file(at(old)).unwrap();
        }
        let failure = ModelDir::open(dir.path(), None).err().unwrap();
        assert!(failure.detail.contains("`model.descriptor`"), "{failure}");
        let descriptor: Descriptor = toml::from_str(
            r#"
            name = "tiny"
            layer_template = "tiny-ax650/tiny_l%d.axmodel"
            layers = 1
            post = "tiny-ax650/tiny_post.axmodel"
            embeddings = "tiny-ax650/embed.bin"
            vocabulary = 320
            hidden = 2
            system_prompt = "Be kind."
            "#,
        )
        .unwrap();
        let model = ModelDir::open(dir.path(), Some(&descriptor)).unwrap();
        assert_eq!(model.text().encode("the<|im_end|>", false).unwrap(), [257, fixture::END]);
        let messages = model.text().with_system_prompt(&[]);
        assert_eq!(messages[0].content, "Be kind.");
    }
}
