//! Finds and reads a package's tokenizer files: Hugging Face's in either form, or the
//! vendor's vocabulary text.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::directory::read_text;
use super::vendor_vocabulary::{self, Family, added_token};
use crate::chat::TokenId;
use crate::fault::{Failure, Fault, Result};

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// A tokenizer and the small files that belong to it.
pub struct TokenizerFiles {
    pub tokenizer: Tokenizer,
    /// `tokenizer_config.json`, or null.
    pub config: Value,
    /// `special_tokens_map.json`, or null.
    pub special: Value,
    /// `generation_config.json`, or null.
    pub generation: Value,
    /// `chat_template.jinja`, or the template of the configuration.
    pub chat_template: Option<String>,
    /// Tokens the vocabulary itself says end an answer.
    pub ends: Vec<TokenId>,
    /// Where they are, for messages.
    pub place: PathBuf,
}

impl TokenizerFiles {
    /// Looks in `named` (a directory or file inside `dir`) if given, then in `dir`, then in its
    /// subdirectories whose names contain "tokenizer".
    ///
    /// # Errors
    /// [`Fault::ModelMissing`] where nothing is found, [`Fault::Tokenizer`] and
    /// [`Fault::ModelInvalid`] where a file cannot be used.
    pub fn open(dir: &Path, named: Option<&Path>, tokenizer_type: Option<&str>) -> Result<Self> {
        let named = named.map(|path| dir.join(path));
        let vendor = named.as_deref().filter(|path| path.is_file() && !path.ends_with(TOKENIZER));
        let beside = |path: &Path| path.parent().unwrap_or(dir).to_owned();
        let mut places: Vec<PathBuf> = Vec::new();
        match named.as_deref() {
            Some(path) if path.is_dir() => places.push(path.to_owned()),
            Some(path) if path.is_file() => places.push(beside(path)),
            Some(path) => {
                return Err(Failure::new(
                    Fault::ModelMissing,
                    format!("{}: no such tokenizer", path.display()),
                ));
            }
            None => {}
        }
        places.push(dir.to_owned());
        places.extend(tokenizer_directories(dir)?);
        // A tokenizer.json says everything; the vendor's text leaves out how text is split.
        if let Some(place) = places.iter().find(|place| place.join(TOKENIZER).is_file()) {
            let text = required(&place.join(TOKENIZER))?;
            let tokenizer =
                Tokenizer::from_str(&text).map_err(|e| unusable(&place.join(TOKENIZER), &e.to_string()))?;
            return Self::complete(tokenizer, Vec::new(), place, dir);
        }
        if let Some(path) = vendor {
            let read =
                vendor_vocabulary::parse(&required(path)?, tokenizer_type).map_err(|e| unusable(path, &e))?;
            let tokenizer = built(&read.tokenizer_json, path)?;
            return Self::complete(tokenizer, read.ends, &beside(path), dir);
        }
        if let Some(place) = places.iter().find(|place| place.join("merges.txt").is_file()) {
            return Self::complete(from_merges(place)?, Vec::new(), place, dir);
        }
        Err(Failure::new(
            Fault::ModelMissing,
            format!(
                "{}: neither {TOKENIZER} nor vocab.json with merges.txt nor a vocabulary text",
                dir.display()
            ),
        ))
    }

    fn complete(mut tokenizer: Tokenizer, ends: Vec<TokenId>, place: &Path, dir: &Path) -> Result<Self> {
        // Packages carry settings for training batches; here every text is taken whole.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| unusable(place, &e.to_string()))?;
        let found = |name: &str| -> Result<Option<(PathBuf, String)>> {
            for path in [place.join(name), dir.join(name)] {
                if let Some(text) = read_text(&path)? {
                    return Ok(Some((path, text)));
                }
            }
            Ok(None)
        };
        let object = |name: &str| -> Result<Value> {
            let Some((path, text)) = found(name)? else { return Ok(Value::Null) };
            serde_json::from_str(&text).map_err(|e| unusable(&path, &e.to_string()))
        };
        Ok(Self {
            config: object(CONFIG)?,
            special: object("special_tokens_map.json")?,
            generation: object("generation_config.json")?,
            chat_template: found("chat_template.jinja")?.map(|(_, text)| text),
            tokenizer,
            ends,
            place: place.to_owned(),
        })
    }
}

fn tokenizer_directories(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Failure::new(Fault::ModelMissing, format!("{}: {e}", dir.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().contains("tokenizer") && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn unusable(path: &Path, what: &str) -> Failure {
    Failure::new(Fault::Tokenizer, format!("{}: {what}", path.display()))
}

fn required(path: &Path) -> Result<String> {
    read_text(path)?
        .ok_or_else(|| Failure::new(Fault::ModelMissing, format!("{} is missing", path.display())))
}

fn built(json: &Value, path: &Path) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::from_str(&json.to_string()).map_err(|e| unusable(path, &e.to_string()))?;
    for token in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
        let found = tokenizer.token_to_id(content);
        if found.map(u64::from) != token.get("id").and_then(Value::as_u64) {
            return Err(unusable(path, &format!("the control token \"{content}\" has two numbers")));
        }
    }
    Ok(tokenizer)
}

/// The older form: `vocab.json`, `merges.txt`, and the added tokens of `tokenizer_config.json`.
fn from_merges(place: &Path) -> Result<Tokenizer> {
    let object = |name: &str| -> Result<Value> {
        let path = place.join(name);
        serde_json::from_str(&required(&path)?).map_err(|e| unusable(&path, &e.to_string()))
    };
    let config = object(CONFIG)?;
    let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let family = Family::of(class).ok_or_else(|| {
        unusable(&place.join(CONFIG), &format!("tokenizer_class \"{class}\" needs a {TOKENIZER}"))
    })?;
    let Value::Object(vocabulary) = object("vocab.json")? else {
        return Err(unusable(&place.join("vocab.json"), "it is not an object"));
    };
    let merges = required(&place.join("merges.txt"))?
        .lines()
        .filter(|line| !line.starts_with("#version"))
        .filter_map(|line| line.split_once(' ').map(|(a, b)| json!([a, b])))
        .collect();
    let mut added = Vec::new();
    for (id, token) in config.get("added_tokens_decoder").and_then(Value::as_object).unwrap_or(&Map::new()) {
        let content = token.get("content").and_then(Value::as_str);
        let (Ok(id), Some(content)) = (id.parse(), content) else {
            return Err(unusable(&place.join(CONFIG), &format!("added token \"{id}\" is not understood")));
        };
        added.push((
            id,
            added_token(id, content, token.get("special").and_then(Value::as_bool) == Some(true)),
        ));
    }
    added.sort_by_key(|&(id, _)| id);
    let added = added.into_iter().map(|(_, token)| token).collect();
    built(&family.tokenizer_json(vocabulary, merges, added), &place.join("vocab.json"))
}
