//! What the process tests run on: the emulated card's library and the packed demo model.

use std::path::{Path, PathBuf};

/// The emulated card's library. `cargo test` renews only the one in `deps`: one beside the
/// programs may be of an older build.
pub fn runtime() -> PathBuf {
    let directory = Path::new(env!("CARGO_BIN_EXE_llm8850-worker")).parent().unwrap();
    let library = directory.join("deps/libaxcl_rt.so");
    assert!(library.exists(), "no {}: run `cargo test --workspace`", library.display());
    library
}

/// The packed demo model: `LLM8850_DEMO_MODEL`, or where `make` puts it.
pub fn demo_model() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/models/smollm2-135m");
    let path = std::env::var_os("LLM8850_DEMO_MODEL").map_or(default, PathBuf::from);
    let found = path.join("config.json").exists();
    assert!(found, "no demo model in {}: run `make model`, or set LLM8850_DEMO_MODEL", path.display());
    path
}
