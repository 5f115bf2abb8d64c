//! What clients of Ollama do with models. Here the model is installed with the appliance:
//! pulling what is there succeeds, everything else is refused with a remedy.

use hyper::{Response, StatusCode};
use serde_json::{Value, json as value};

use super::answer::{line, not_loaded};
use super::models::{digest, named};
use crate::http::body::{Body, json, response};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields};
use crate::http::{Context, names};

/// `/api/pull`: what Ollama says of a model that is there already.
///
/// # Errors
/// 404 for any other model, 503 until one is loaded.
pub fn pull(context: &Context, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let body = fields::json(body)?;
    let request = Fields::root(&body)?;
    let name = named(&request)?;
    let stream = request.flag("stream")?.unwrap_or(true);
    context.service.status().model.ok_or_else(not_loaded)?;
    let Some(model) = names::find(context, name) else {
        let mut error = names::unknown(context, name);
        let remedy =
            " Models are installed by `model.dir` and `model.others` of its configuration, not pulled.";
        error.message.push_str(remedy);
        return Err(error);
    };
    let success = value!({"status": "success"});
    if !stream {
        return Ok(json(StatusCode::OK, &success));
    }
    let info = model.info.unwrap_or_default();
    let digest = digest(if info.fingerprint.is_empty() { &model.name } else { &info.fingerprint });
    let short: String = digest.chars().take(12).collect();
    let steps: [Value; 5] = [
        value!({"status": "pulling manifest"}),
        value!({
            "status": format!("pulling {short}"), "digest": format!("sha256:{digest}"),
            "total": info.card_memory_bytes, "completed": info.card_memory_bytes,
        }),
        value!({"status": "verifying sha256 digest"}),
        value!({"status": "writing manifest"}),
        success,
    ];
    let lines: Vec<u8> = steps.iter().flat_map(line).collect();
    Ok(response(StatusCode::OK, "application/x-ndjson", lines))
}

/// 501: Ollama's words for a model that is not made for it.
pub fn no_embeddings() -> ApiError {
    unable("this model does not support embeddings")
}

/// 501: copying, making, pushing and deleting models.
pub fn refused() -> ApiError {
    unable(
        "This server's models are not managed over HTTP: install others with `model.dir` or \
            `model.others` in its configuration, or give them further names in `aliases`.",
    )
}

/// 404: no such file of a model.
pub fn no_blob() -> ApiError {
    ApiError::invalid("There are no blobs here.").status(StatusCode::NOT_FOUND).code("not_found")
}

fn unable(message: &str) -> ApiError {
    ApiError::invalid(message).status(StatusCode::NOT_IMPLEMENTED).code("not_supported")
}
