use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::section::{Findings, Section};

/// `[model]`: what is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// The model package's directory.
    pub dir: PathBuf,
    /// The name clients see; the directory's name where none is given.
    pub name: Option<String>,
    /// Further names the model is asked for by.
    pub aliases: Vec<String>,
    /// Use at most this many tokens of the model's context.
    pub context: Option<u32>,
    /// Describes packages that bring no `config.json` of their own.
    pub descriptor: Option<toml::Table>,
}

impl Default for Model {
    fn default() -> Self {
        let dir = "/var/lib/llm8850/model".into();
        Self { dir, name: None, aliases: Vec::new(), context: None, descriptor: None }
    }
}

impl Model {
    /// Its name.
    pub fn name(&self) -> Option<String> {
        let of_directory = || self.dir.file_name().map(|name| name.to_string_lossy().into_owned());
        self.name.clone().or_else(of_directory)
    }
}

impl Section for Model {
    const NAME: &'static str = "model";

    fn check(&mut self, findings: &mut Findings) {
        if self.dir.as_os_str().is_empty() {
            findings.wrong("dir", "is empty: name the model's directory");
            self.dir = Self::default().dir;
        }
        if self.name.as_deref() == Some("") {
            findings.wrong("name", "is empty: give a name, or leave it out");
            self.name = None;
        }
        if self.aliases.iter().any(String::is_empty) {
            findings.wrong("aliases", "has an empty name: leave that out");
            self.aliases.retain(|alias| !alias.is_empty());
        }
        findings.optional("context", &mut self.context, 16..=1 << 20);
    }
}
