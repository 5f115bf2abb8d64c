use std::fmt;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::section::{Findings, Section};
use crate::chat::Priority;

const NAME_CHARACTERS: usize = 64;
/// A day.
const LONGEST_MS: u32 = 86_400_000;

/// What is kept of a key: its SHA-256. Keys are long and random, so a plain hash gives nothing away.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Of this key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Whether they are the same; takes as long wherever they differ.
    fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl TryFrom<String> for KeyHash {
    type Error = &'static str;

    /// Never repeats the text: it may be the key itself, written in the wrong place.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "`sha256` is not 64 hexadecimal digits: write what `--make-key` printed";
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| WRONG)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// As the file has it.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// `[[access.key]]`: who may ask, and what holds for whoever does.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose it is, for people.
    pub name: String,
    sha256: KeyHash,
    /// Whether it may also read the log and manage models.
    #[serde(default)]
    pub admin: bool,
    /// Of requests that do not say.
    pub priority: Option<Priority>,
    /// Of requests that do not say; 0 is `defaults.deadline_ms`.
    #[serde(default)]
    deadline_ms: u32,
    /// Told instead of an error of the service.
    pub spoken_fallback: Option<String>,
    /// Most requests for an answer at a time.
    pub requests: Option<usize>,
    /// Most tokens of an answer, whatever a request asks for.
    pub max_tokens: Option<u32>,
}

impl Key {
    /// When an answer must be there, where the request does not say.
    pub fn deadline_ms(&self) -> Option<u32> {
        (self.deadline_ms > 0).then_some(self.deadline_ms)
    }

    /// What is wrong with it, and what would be right.
    fn mistake(&self) -> Option<String> {
        let outside =
            |name: &str, range: &str| Some(format!("(`{}`) has a wrong `{name}`: write {range}", self.name));
        if !named_well(&self.name) {
            return Some(format!("has no usable `name`: write 1 to {NAME_CHARACTERS} printable characters"));
        }
        if self.deadline_ms > LONGEST_MS {
            return outside("deadline_ms", "0 to 86400000");
        }
        if self.spoken_fallback.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return outside("spoken_fallback", "a sentence, or leave it out");
        }
        if self.requests.is_some_and(|most| !(1..=1000).contains(&most)) {
            return outside("requests", "1 to 1000, or leave it out");
        }
        if self.max_tokens.is_some_and(|most| !(1..=1 << 20).contains(&most)) {
            return outside("max_tokens", "1 to 1048576, or leave it out");
        }
        None
    }
}

/// Whether a key can be called so.
pub(super) fn named_well(name: &str) -> bool {
    let printable = !name.trim().is_empty() && !name.chars().any(char::is_control);
    printable && name.chars().count() <= NAME_CHARACTERS
}

/// `[access]`: who may ask. Without a key everybody may. A mistake never opens what was meant
/// to be closed: where no key is left of a section with a mistake, nobody may ask.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Whether the status is told without a key.
    public_status: Option<bool>,
    /// As the file has them, until they are read one by one: a mistake in one must not take the
    /// others along.
    #[serde(rename = "key")]
    entries: Option<toml::Value>,
    #[serde(skip)]
    keys: Vec<Key>,
    /// Something was wrong and left out.
    #[serde(skip)]
    mistaken: bool,
}

impl Access {
    /// Whether a key is asked for.
    pub fn locked(&self) -> bool {
        self.mistaken || !self.keys.is_empty()
    }

    /// Whether keys are asked for, but none can be right: the section has a mistake.
    pub fn broken(&self) -> bool {
        self.mistaken && self.keys.is_empty()
    }

    /// Whether status, incidents and metrics are told without a key.
    pub fn public_status(&self) -> bool {
        self.public_status.unwrap_or(!self.mistaken)
    }

    /// The key with this hash. All are compared, whichever it is.
    pub fn find(&self, hash: &KeyHash) -> Option<&Key> {
        let mut found = None;
        for key in &self.keys {
            if key.sha256.matches(hash) {
                found = Some(key);
            }
        }
        found
    }

    /// Something was wrong and left out: what is not known to be open is closed.
    pub(super) fn close(&mut self) {
        self.mistaken = true;
    }

    /// Whether a file of which a part could not be read may have asked for keys.
    pub(crate) fn meant(text: &str) -> bool {
        let mut lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
        lines.any(|line| {
            let header = line.starts_with('[') && line.contains("access");
            header || line.starts_with("access") || line.contains("sha256")
        })
    }

    fn read(&self, entry: toml::Value) -> Result<Key, String> {
        let key: Key = entry.try_into().map_err(|e: toml::de::Error| format!("is wrong: {}", e.message()))?;
        if let Some(mistake) = key.mistake() {
            return Err(mistake);
        }
        match self.keys.iter().find(|other| other.name == key.name || other.sha256 == key.sha256) {
            Some(other) if other.name == key.name => Err(format!("has the name of another, `{}`", key.name)),
            Some(other) => Err(format!("(`{}`) is the same key as `{}`: make another", key.name, other.name)),
            None => Ok(key),
        }
    }
}

impl Section for Access {
    const NAME: &'static str = "access";

    fn check(&mut self, findings: &mut Findings) {
        let entries = match self.entries.take() {
            None => return,
            Some(toml::Value::Array(entries)) => entries,
            Some(_) => return findings.wrong("key", "is no list: write sections `[[access.key]]`"),
        };
        for (number, entry) in (1..).zip(entries) {
            match self.read(entry) {
                Ok(key) => self.keys.push(key),
                Err(what) => findings.wrong("key", format!("number {number} {what}; nobody gets in with it")),
            }
        }
    }

    fn mistaken(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
