//! What clients ask around answers: the loaded model, the version, whether anybody is there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, UNIX_EPOCH};

use hyper::{Response, StatusCode};
use serde_json::{Value, json as value};

use super::answer::not_loaded;
use crate::http::body::{Body, json, response};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, missing, set};
use crate::http::{Context, names};
use crate::service::Status;
use crate::sys::calendar;

/// The version of Ollama whose interface this is: clients refuse to talk with older ones.
const SPOKEN: &str = "0.12.11";
/// What model files are; Ollama's word for it would be `gguf`.
const FORMAT: &str = "axmodel";
/// Models are never unloaded; Ollama's "for ever" is about as far away.
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

/// `/api/tags`: the loaded model, and once more under each alias; none until one is loaded.
pub fn list(context: &Context) -> Response<Body> {
    let aliases = context.service.settings().aliases;
    let mut model = entry(&context.service.status());
    if let Some(model) = &mut model {
        set(model, "modified_at", started(context));
    }
    let by = |name: &String| {
        let mut model = model.clone()?;
        ["name", "model"].iter().for_each(|key| set(&mut model, key, name.as_str()));
        Some(model)
    };
    let models: Vec<Value> = model.clone().into_iter().chain(aliases.iter().filter_map(by)).collect();
    json(StatusCode::OK, &value!({"models": models}))
}

/// `/api/ps`: the same, and where it is.
pub fn loaded(context: &Context) -> Response<Body> {
    let status = context.service.status();
    let mut model = entry(&status);
    if let Some((model, info)) = model.as_mut().zip(status.model.as_ref()) {
        set(model, "expires_at", FOR_EVER);
        set(model, "size_vram", if status.degraded { 0 } else { info.card_memory_bytes });
        set(model, "context_length", info.context);
    }
    json(StatusCode::OK, &value!({"models": model.into_iter().collect::<Vec<_>>()}))
}

/// `/api/show`: the loaded model, by whatever name, as requests are answered by it.
///
/// # Errors
/// 400 where no model is named, 404 where it is not this one and that matters, 503 where none is
/// loaded.
pub fn show(context: &Context, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let body = fields::json(body)?;
    names::admit(context, named(&Fields::root(&body)?)?)?;
    let model = context.service.status().model.ok_or_else(not_loaded)?;
    let thinking = model.thinks.then_some("thinking");
    let abilities: Vec<&str> = ["completion", "tools"].into_iter().chain(thinking).collect();
    Ok(json(
        StatusCode::OK,
        &value!({
            "modelfile": "", "parameters": "", "template": "", "license": "",
            "details": details(),
            "model_info": {
                "general.architecture": FORMAT,
                "general.basename": model.name,
                format!("{FORMAT}.context_length"): model.context,
                format!("{FORMAT}.block_count"): model.layers,
                format!("{FORMAT}.vocab_size"): model.vocabulary,
            },
            "capabilities": abilities,
            "modified_at": started(context),
        }),
    ))
}

fn entry(status: &Status) -> Option<Value> {
    let model = status.model.as_ref()?;
    Some(value!({
        "name": model.name,
        "model": model.name,
        "size": model.card_memory_bytes,
        "digest": digest(&model.fingerprint),
        "details": details(),
    }))
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
