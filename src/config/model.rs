use std::path::{Path, PathBuf};

use fluent_uri::Uri;
use serde::{Deserialize, Serialize};

use super::section::{Findings, Section};
use crate::chat::KeepAlive;

/// `[model]`: what is loaded from the start, and what else is installed.
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
    /// How long it stays loaded after an answer; for ever where nothing is said.
    pub keep_alive_s: KeepAlive,
    /// Models that are loaded when they are asked for.
    pub others: Vec<Other>,
    /// Where packages can be fetched from: an address of HTTP.
    pub catalogue: Option<String>,
    /// Whose word on that address is taken besides: certificates as PEM, or a file of them.
    pub catalogue_ca: Option<String>,
}

/// Where packages can be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    pub address: String,
    pub authority: Option<String>,
}

/// `[[model.others]]`: a model that is loaded when it is asked for. Fields as in [`Model`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Other {
    pub dir: PathBuf,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(default)]
    pub context: Option<u32>,
    #[serde(default)]
    pub descriptor: Option<toml::Table>,
    #[serde(default = "Other::keep_alive")]
    pub keep_alive_s: KeepAlive,
}

/// A model as clients know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    pub name: String,
    pub aliases: Vec<String>,
    /// How long it stays loaded after an answer, where a request does not say.
    pub keep_alive: KeepAlive,
}

impl Default for Model {
    fn default() -> Self {
        let dir = "/var/lib/llm8850/model".into();
        let (name, context, descriptor) = (None, None, None);
        let (aliases, others) = (Vec::new(), Vec::new());
        let (catalogue, catalogue_ca) = (None, None);
        let keep_alive_s = KeepAlive::FOR_EVER;
        Self { dir, name, aliases, context, descriptor, keep_alive_s, others, catalogue, catalogue_ca }
    }
}

impl Other {
    /// As long as Ollama keeps one.
    fn keep_alive() -> KeepAlive {
        KeepAlive(300)
    }

    /// Its name.
    pub fn name(&self) -> String {
        named(self.name.as_deref(), &self.dir)
    }
}

fn named(name: Option<&str>, dir: &Path) -> String {
    let of_directory = || dir.file_name().map(|name| name.to_string_lossy().into_owned());
    name.map(str::to_owned).or_else(of_directory).unwrap_or_default()
}

impl Model {
    /// Its name.
    pub fn name(&self) -> String {
        named(self.name.as_deref(), &self.dir)
    }

    /// What of this a running worker cannot change.
    pub(super) fn as_loaded(&self) -> Self {
        let keep_alive_s = KeepAlive::default();
        let other = |other: &Other| Other { aliases: Vec::new(), keep_alive_s, ..other.clone() };
        let others = self.others.iter().map(other).collect();
        let (catalogue, catalogue_ca) = (None, None);
        Self { aliases: Vec::new(), keep_alive_s, others, catalogue, catalogue_ca, ..self.clone() }
    }

    /// Where packages can be fetched from, if anywhere.
    pub fn catalogue(&self) -> Option<Catalogue> {
        let address = self.catalogue.clone()?;
        Some(Catalogue { address, authority: self.catalogue_ca.clone() })
    }

    /// Every model; the one that is loaded from the start is the first.
    pub fn installed(&self) -> Vec<Installed> {
        let first =
            Installed { name: self.name(), aliases: self.aliases.clone(), keep_alive: self.keep_alive_s };
        let other = |other: &Other| Installed {
            name: other.name(),
            aliases: other.aliases.clone(),
            keep_alive: other.keep_alive_s,
        };
        std::iter::once(first).chain(self.others.iter().map(other)).collect()
    }
}

/// Tokens of context that can be asked for.
const CONTEXT: std::ops::RangeInclusive<u32> = 16..=1 << 20;

/// Whether something can be fetched from there. Nothing secret is in it: it is told to clients.
fn is_address(text: &str) -> bool {
    let Ok(address) = Uri::parse(text) else { return false };
    let scheme = address.scheme().as_str().to_ascii_lowercase();
    let whole = address
        .authority()
        .is_some_and(|a| !a.host().is_empty() && !a.has_userinfo() && a.port_to_u16().is_ok());
    whole && matches!(scheme.as_str(), "http" | "https") && !address.has_fragment()
}

/// Whether that may be certificates, or a file of them.
fn is_authority(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN CERTIFICATE-----") || Path::new(text).is_absolute()
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
        findings.optional("context", &mut self.context, CONTEXT);
        if self.catalogue.as_ref().is_some_and(|text| !is_address(text)) {
            let what = "is no address of a catalogue: write one such as \"https://example.org/catalogue.json\", without a \
                        user's name in it";
            findings.wrong("catalogue", what);
            self.catalogue = None;
        }
        if self.catalogue_ca.as_ref().is_some_and(|text| !is_authority(text)) {
            let what = "is no certificate: write the text of one, from \"-----BEGIN CERTIFICATE-----\" on, or a whole path";
            findings.wrong("catalogue_ca", what);
            self.catalogue_ca = None;
        }
        let mut names = vec![self.name()];
        names.extend_from_slice(&self.aliases);
        self.others.retain(|other| {
            let name = other.name();
            let wrong = if other.dir.as_os_str().is_empty() || name.is_empty() {
                Some("has an entry without a directory: write its `dir`".to_owned())
            } else if let Some(taken) = std::iter::once(&name)
                .chain(&other.aliases)
                .find(|name| name.is_empty() || names.contains(name))
            {
                Some(format!("has the name {taken:?} twice, or it is empty: give {name} another"))
            } else if other.context.is_some_and(|context| !CONTEXT.contains(&context)) {
                Some(format!(
                    "has a `context` for {name} that is not {} to {}",
                    CONTEXT.start(),
                    CONTEXT.end()
                ))
            } else {
                None
            };
            let right = wrong.is_none();
            if let Some(what) = wrong {
                findings.wrong("others", what);
            } else {
                names.push(name);
                names.extend_from_slice(&other.aliases);
            }
            right
        });
    }
}
