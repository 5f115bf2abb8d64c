//! What clients ask around answers: the loaded model, the version, whether anybody is there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::{Response, StatusCode};
use serde_json::{Value, json as value};

use super::answer::not_loaded;
use crate::http::body::{Body, json, response};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, missing, set};
use crate::http::names::Model;
use crate::http::{Context, names};
use crate::sys::calendar;

/// The version of Ollama whose interface this is: clients refuse to talk with older ones.
const SPOKEN: &str = "0.12.11";
/// What model files are; Ollama's word for it would be `gguf`.
const FORMAT: &str = "axmodel";
/// Ollama's "for ever" is about as far away.
const FOR_EVER: &str = "2318-01-01T00:00:00Z";

/// `/`: what Ollama says there, which clients look for.
pub fn running() -> Response<Body> {
    response(StatusCode::OK, "text/plain; charset=utf-8", "Ollama is running")
}

/// `/api/version`.
pub fn version() -> Response<Body> {
    json(StatusCode::OK, &value!({"version": SPOKEN, "llm8850": env!("CARGO_PKG_VERSION")}))
}

/// The name of the model that a request is about.
pub(super) fn named<'a>(request: &Fields<'a>) -> Result<&'a str, ApiError> {
    request.text("model")?.or(request.text("name")?).ok_or_else(|| missing("model"))
}

/// `/api/tags`: the installed models, each once more under each alias; none until the first is
/// loaded.
pub fn list(context: &Context) -> Response<Body> {
    let all = names::all(context);
    let ready = all.first().is_some_and(|first| first.info.is_some());
    let by = |model: &Model| {
        let entries = model.names().map(|name| {
            let mut entry = entry(model, name);
            set(&mut entry, "modified_at", started(context));
            entry
        });
        entries.collect::<Vec<_>>()
    };
    let models: Vec<Value> = all.iter().filter(|_| ready).flat_map(by).collect();
    json(StatusCode::OK, &value!({"models": models}))
}

/// `/api/ps`: what is loaded, where, and until when.
pub fn loaded(context: &Context) -> Response<Body> {
    let degraded = context.service.status().degraded;
    let by = |model: Model| {
        let info = model.info.as_ref().filter(|_| model.loaded)?;
        let mut entry = entry(&model, &model.name);
        let until = |s| calendar::rfc3339(SystemTime::now() + Duration::from_secs(s));
        set(&mut entry, "expires_at", model.expires_s.map_or_else(|| FOR_EVER.to_owned(), until));
        set(&mut entry, "size_vram", if degraded { 0 } else { info.card_memory_bytes });
        set(&mut entry, "context_length", info.context);
        Some(entry)
    };
    // While another stands in, nothing on the card answers.
    let all = names::all(context).into_iter().take(if degraded { 1 } else { usize::MAX });
    let models: Vec<Value> = all.filter_map(by).collect();
    json(StatusCode::OK, &value!({"models": models}))
}

/// `/api/show`: a model by any of its names, the first by unknown ones as well, as requests are
/// answered by it. Of one that was never loaded little is known.
///
/// # Errors
/// 400 where no model is named, 404 where none goes by that name and that matters, 503 until the
/// first is loaded.
pub fn show(context: &Context, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let body = fields::json(body)?;
    let model = names::admit(context, named(&Fields::root(&body)?)?)?;
    context.service.status().model.ok_or_else(not_loaded)?;
    let wanted = |known: &Model| model.as_ref().is_none_or(|name| known.name == *name);
    let model = names::all(context).into_iter().find(wanted).ok_or_else(not_loaded)?;
    let info = model.info.as_ref();
    let thinking = info.is_some_and(|info| info.thinks).then_some("thinking");
    let abilities: Vec<&str> = ["completion", "tools"].into_iter().chain(thinking).collect();
    let mut facts = value!({"general.architecture": FORMAT, "general.basename": model.name});
    if let Some(info) = info {
        set(&mut facts, &format!("{FORMAT}.context_length"), info.context);
        set(&mut facts, &format!("{FORMAT}.block_count"), info.layers);
        set(&mut facts, &format!("{FORMAT}.vocab_size"), info.vocabulary);
    }
    Ok(json(
        StatusCode::OK,
        &value!({
            "modelfile": "", "parameters": "", "template": "", "license": "",
            "details": details(),
            "model_info": facts,
            "capabilities": abilities,
            "modified_at": started(context),
        }),
    ))
}

fn entry(model: &Model, name: &str) -> Value {
    let info = model.info.as_ref();
    let fingerprint = info.map_or(model.name.as_str(), |info| info.fingerprint.as_str());
    value!({
        "name": name,
        "model": name,
        "size": info.map_or(0, |info| info.card_memory_bytes),
        "digest": digest(fingerprint),
        "details": details(),
    })
}

fn details() -> Value {
    value!({
        "parent_model": "", "format": FORMAT, "family": FORMAT, "families": [FORMAT],
        "parameter_size": "", "quantization_level": "",
    })
}

/// As long as Ollama's, and another for another model.
pub(super) fn digest(fingerprint: &str) -> String {
    let part = |number: u8| {
        let mut hasher = DefaultHasher::new();
        (number, fingerprint).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    (0..4).map(part).collect()
}

fn started(context: &Context) -> String {
    calendar::rfc3339(UNIX_EPOCH + Duration::from_secs(context.started))
}
