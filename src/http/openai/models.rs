//! `/v1/models` and `/v1/models/{id}`.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::body::{Body, json};
use crate::http::error::ApiError;
use crate::http::{Context, names};

/// The loaded model under the name `id`; none until one is loaded.
fn loaded(context: &Context, id: Option<&str>) -> Option<Value> {
    let model = context.service.status().model?;
    Some(json!({
        "id": id.unwrap_or(&model.name),
        "object": "model",
        "created": context.started,
        "owned_by": "llm8850",
        "max_model_len": model.context,
    }))
}

/// All models: the loaded one, and once more under each alias.
pub fn list(context: &Context) -> Response<Body> {
    let aliases = context.service.settings().aliases;
    let names = std::iter::once(None).chain(aliases.iter().map(|alias| Some(alias.as_str())));
    let data: Vec<Value> = names.filter_map(|id| loaded(context, id)).collect();
    json(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// The model by one of its names.
///
/// # Errors
/// 404 for any other.
pub fn get(context: &Context, id: &str) -> Result<Response<Body>, ApiError> {
    let model = loaded(context, Some(id)).filter(|_| names::knows(context, id));
    model.map(|model| json(StatusCode::OK, &model)).ok_or_else(|| names::unknown(context, id))
}
