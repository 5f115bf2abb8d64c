//! A model's text side: tokens, template, and what ends an answer.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use llguidance::ParserFactory;
use serde_json::Value;

use super::description::Description;
use super::directory::read_text;
use super::guide;
use super::pieces::Pieces;
use super::speller::Speller;
use super::template::{CHATML, Globals, Template};
use super::tokenizer_files::TokenizerFiles;
use crate::chat::{Message, Role, Think, TokenId, Tools};
use crate::fault::{Failure, Fault, Result};

/// Control tokens that end a turn in every model that has them.
const TURN_ENDS: [&str; 6] =
    ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "<|end|>"];

/// Messages whose token counts are remembered; some 100 bytes each.
const REMEMBERED_COUNTS: usize = 20_000;

/// Tokenizer, template and end tokens of one model.
pub struct Text {
    speller: Speller,
    pieces: Arc<Pieces>,
    template: Template,
    ends: Vec<TokenId>,
    vocabulary: usize,
    system_prompt: Option<String>,
    think: Think,
    /// Token counts by hash of the text: long histories come again with every request.
    counts: Mutex<HashMap<u64, u32>>,
    guide: OnceLock<Result<ParserFactory>>,
}

impl Text {
    /// Opens the text side of the package in `dir`; `config` is the text of its `config.json`.
    ///
    /// # Errors
    /// [`Fault::Tokenizer`], [`Fault::Template`] and [`Fault::ModelInvalid`], naming the file.
    pub fn open(dir: &Path, description: &Description, config: Option<&str>) -> Result<Self> {
        let named = description.tokenizer.as_deref();
        let files = TokenizerFiles::open(dir, named, description.tokenizer_type.as_deref())?;
        let invalid =
            |what: String| Failure::new(Fault::ModelInvalid, format!("{}: {what}", files.place.display()));
        let pieces = Arc::new(Pieces::new(&files.tokenizer)?);
        if pieces.count() > description.vocabulary {
            return Err(invalid(format!(
                "the tokenizer knows {} tokens, but there are embeddings for {}",
                pieces.count(),
                description.vocabulary
            )));
        }
        let package: Value = config.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let ends = ends(&files, &package, &description.eos);
        if ends.is_empty() {
            return Err(invalid(
                "no file says which token ends an answer: set `model.descriptor.eos`".to_owned(),
            ));
        }
        let source = match &description.chat_template {
            Some(path) => {
                let path = dir.join(path);
                Some(read_text(&path)?.ok_or_else(|| {
                    Failure::new(Fault::ModelMissing, format!("{} is missing", path.display()))
                })?)
            }
            None => files.chat_template.clone().or_else(|| template_of(&files.config)),
        };
        let source = match source {
            Some(source) => source,
            None if files.tokenizer.token_to_id("<|im_start|>").is_some() => CHATML.to_owned(),
            None => {
                return Err(Failure::new(
                    Fault::Template,
                    format!(
                        "{}: the package has no chat template and its vocabulary no ChatML markers: \
                         set `model.descriptor.chat_template`",
                        files.place.display()
                    ),
                ));
            }
        };
        let globals = Globals {
            bos_token: token_text(&files, "bos_token"),
            eos_token: token_text(&files, "eos_token"),
            has_think_token: files.tokenizer.token_to_id("<think>").is_some(),
        };
        Ok(Self {
            template: Template::new(&source, globals, SystemTime::now)?,
            speller: Speller::new(files.tokenizer, &TURN_ENDS),
            pieces,
            ends,
            vocabulary: description.vocabulary,
            system_prompt: description.system_prompt.clone(),
            think: description.think,
            counts: Mutex::default(),
            guide: OnceLock::new(),
        })
    }

    /// Tokenizes text in which control tokens are recognised. `begin` adds what the tokenizer
    /// puts at the beginning of a text; rendered conversations have it already.
    ///
    /// # Errors
    /// [`Fault::Tokenizer`].
    pub fn encode(&self, text: &str, begin: bool) -> Result<Vec<TokenId>> {
        self.speller.encode(text, begin)
    }

    /// How many tokens a text has.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn count(&self, text: &str) -> Result<u32> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let key = hasher.finish();
        if let Some(&count) = self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(count);
        }
        let count = u32::try_from(self.encode(text, false)?.len()).unwrap_or(u32::MAX);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= REMEMBERED_COUNTS {
            counts.clear();
        }
        counts.insert(key, count);
        Ok(count)
    }

    /// Renders a conversation up to where the answer begins.
    ///
    /// # Errors
    /// [`Fault::Template`].
    pub fn render(&self, messages: &[Message], tools: &Tools, think: Think) -> Result<String> {
        let think = if think == Think::Default { self.think } else { think };
        let list = if tools.callable() { tools.list.as_slice() } else { &[] };
        self.template.render(messages, list, think)
    }

    /// Compiles grammars over the model's tokens; made when first needed.
    ///
    /// # Errors
    /// [`Fault::Tokenizer`].
    pub fn guide(&self) -> Result<&ParserFactory> {
        let made = self.guide.get_or_init(|| guide::factory(&self.pieces, &self.ends, self.vocabulary));
        made.as_ref().map_err(Clone::clone)
    }

    /// The conversation with the package's system prompt, where it has no system message.
    pub fn with_system_prompt(&self, messages: &[Message]) -> Vec<Message> {
        let has_system = messages.iter().any(|m| matches!(m.role, Role::System | Role::Developer));
        let prompt = self.system_prompt.iter().filter(|_| !has_system);
        prompt.map(|text| Message::text(Role::System, text)).chain(messages.iter().cloned()).collect()
    }

    /// What tokens stand for.
    pub fn pieces(&self) -> &Arc<Pieces> {
        &self.pieces
    }

    /// Tokens with an embedding: only these may be generated.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The tokens that end an answer, ascending.
    pub fn ends(&self) -> &[TokenId] {
        &self.ends
    }

    /// Whether the template has a thinking switch.
    pub fn thinks(&self) -> bool {
        self.template.thinks()
    }
}

/// `chat_template` of a `tokenizer_config.json`: a text, or a list of named ones.
fn template_of(config: &Value) -> Option<String> {
    match config.get("chat_template")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(named) => named
            .iter()
            .find(|t| t.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|t| t.get("template")?.as_str())
            .map(str::to_owned),
        _ => None,
    }
}

/// A control token's text: in these files either a string or an object with `content`.
fn token_text(files: &TokenizerFiles, key: &str) -> String {
    let text = |value: &Value| match value.get(key)? {
        Value::String(text) => Some(text.clone()),
        token => token.get("content")?.as_str().map(str::to_owned),
    };
    text(&files.config).or_else(|| text(&files.special)).unwrap_or_default()
}

fn ends(files: &TokenizerFiles, package: &Value, ours: &[TokenId]) -> Vec<TokenId> {
    let listed = |value: &Value| -> Vec<TokenId> {
        let id = |v: &Value| v.as_u64().and_then(|id| TokenId::try_from(id).ok());
        match value.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
            Some(one) => id(one).into_iter().collect(),
            None => Vec::new(),
        }
    };
    let added = files.tokenizer.get_added_tokens_decoder();
    let named = TURN_ENDS
        .iter()
        .filter_map(|name| files.tokenizer.token_to_id(name))
        .filter(|id| added.get(id).is_some_and(|token| token.special));
    let mut ends: Vec<TokenId> = ours.to_vec();
    ends.extend(listed(package));
    ends.extend(listed(&files.generation));
    ends.extend(files.tokenizer.token_to_id(&token_text(files, "eos_token")));
    ends.extend(&files.ends);
    ends.extend(named);
    ends.sort_unstable();
    ends.dedup();
    ends
}
