//! `axmodel-pack`: makes model directories in the vendor's layout, from a GGUF file or
//! hollow. The directory appears whole, under its name, or not at all.

mod description;
pub(crate) mod engine_file;
mod family;
pub(crate) mod gguf;
mod hollow;
mod manifest;
mod model;
mod sentencepiece;
mod splitting;
mod tokenizer;
pub(crate) mod weights;

use std::path::{Path, PathBuf};

use family::Shape;
use gguf::Gguf;
pub use hollow::pack_hollow;

/// Is told what is being done.
pub type Progress<'a> = &'a dyn Fn(&str);

/// Why nothing was packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: cannot be written: {source}. Check the free space and permissions there", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{}: not a GGUF file. Give the model as a .gguf file", path.display())]
    NotGguf { path: PathBuf },
    #[error("{}: damaged: {what}. Fetch the file again", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{}: not supported: {what}", path.display())]
    Unsupported { path: PathBuf, what: String },
    #[error("{}: exists and is no model directory. Choose another name or remove it", path.display())]
    Occupied { path: PathBuf },
    #[error("no hollow model is called {name:?}. There are: {known}")]
    NoHollow { name: String, known: String },
    #[error("program error: {0}. Report it")]
    Internal(String),
}

/// File names of a model directory.
pub struct Names {
    prefix: String,
}

impl Names {
    const EMBEDDINGS: &str = "model.embed_tokens.weight.bfloat16.bin";

    /// Names that begin with `prefix`, the model's family.
    fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    fn layer_template(&self) -> String {
        format!("{}_p128_l%d_together.axmodel", self.prefix)
    }

    fn layer(&self, index: usize) -> String {
        format!("{}_p128_l{index}_together.axmodel", self.prefix)
    }

    fn post(&self) -> String {
        format!("{}_post.axmodel", self.prefix)
    }
}

/// Packs `path` into the directory `out`, replacing a model directory there.
///
/// `name` is the model's name, the file's stem by default; `context` the tokens it can
/// hold, by default 2048 or what the model was made for.
///
/// # Errors
/// Names the file and what to do about it.
pub fn pack_gguf(
    path: &Path,
    out: &Path,
    name: Option<&str>,
    context: Option<usize>,
    progress: Progress,
) -> Result<(), PackError> {
    let gguf = Gguf::open(path)?;
    let shape = Shape::read(&gguf, context)?;
    let names = Names::new(shape.family.name());
    let stem = || path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let name = name.map_or_else(stem, str::to_owned);
    build(out, &|dir| {
        progress("tokenizer");
        tokenizer::write_tokenizer(&gguf, shape.post.vocabulary, dir)?;
        let outline = description::Outline {
            name: &name,
            tokenizer_type: description::tokenizer_type(&gguf, shape.family)?,
            layers: shape.layers,
            vocabulary: shape.post.vocabulary,
            hidden: shape.post.hidden,
            adds_bos: gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(false),
        };
        description::write_description(&outline, &names, dir)?;
        model::write_weights(&gguf, &shape, &names, dir, progress)?;
        progress("manifest");
        manifest::write_manifest(dir)
    })
}

/// Lets `fill` write into a new directory beside `out`, then gives it that name.
fn build(out: &Path, fill: &dyn Fn(&Path) -> Result<(), PackError>) -> Result<(), PackError> {
    let out = std::path::absolute(out).map_err(|e| PackError::Write { path: out.into(), source: e })?;
    let failed = |e| PackError::Write { path: out.clone(), source: e };
    let occupied = out.exists() && !out.join(manifest::NAME).is_file();
    if occupied && std::fs::read_dir(&out).map_err(failed)?.next().is_some() {
        return Err(PackError::Occupied { path: out });
    }
    let parent = out.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(failed)?;
    let stem = out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = |kind: &str| parent.join(format!(".{stem}.{kind}-{}", std::process::id()));
    let (fresh, stale) = (beside("new"), beside("old"));
    std::fs::create_dir(&fresh).map_err(failed)?;
    let made = fill(&fresh).and_then(|()| {
        if out.exists() {
            std::fs::rename(&out, &stale).map_err(failed)?;
        }
        std::fs::rename(&fresh, &out).map_err(failed)
    });
    // What is left of either is of no use; failing to remove it does not undo the result.
    let _ = std::fs::remove_dir_all(&fresh);
    let _ = std::fs::remove_dir_all(&stale);
    made
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), PackError> {
    std::fs::write(path, bytes).map_err(|e| PackError::Write { path: path.into(), source: e })
}
