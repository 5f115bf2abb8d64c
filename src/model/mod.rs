//! The vendor's model directory: what it consists of, checked, and its text side
//! (tokenizer and chat template). Formats are described in `docs/model-packages.md`.

mod bpe;
mod description;
mod directory;
mod embeddings;
#[cfg(test)]
pub(crate) mod fixture;
mod guide;
mod manifest;
mod pieces;
mod sampling_file;
mod speller;
mod template;
mod text;
mod tokenizer_files;
mod tools;
mod vendor_vocabulary;

pub use description::Descriptor;
pub use directory::{ModelDir, ModelFiles};
pub use embeddings::Embeddings;
pub use manifest::{MANIFEST_FILE, Manifest, is_sha256};
pub use pieces::Pieces;
pub use template::{Globals, Template};
pub use text::Text;
