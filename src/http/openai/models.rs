//! `/v1/models` and `/v1/models/{id}`.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::body::{Body, json};
use crate::http::error::ApiError;
use crate::http::names::Model;
use crate::http::{Context, names};

/// An installed model under the name `id`.
fn entry(context: &Context, model: &Model, id: &str) -> Value {
    let mut entry = json!({
        "id": id,
        "object": "model",
        "created": context.started,
        "owned_by": "llm8850",
    });
    if let (Some(fields), Some(info)) = (entry.as_object_mut(), &model.info) {
        fields.insert("max_model_len".into(), info.context.into());
    }
    entry
}

/// The models that may be told: none until the first is loaded.
fn known(context: &Context) -> Vec<Model> {
    let all = names::all(context);
    if all.first().is_some_and(|first| first.info.is_none()) { Vec::new() } else { all }
}

/// All models, each once more under each alias.
pub fn list(context: &Context) -> Response<Body> {
    let all = known(context);
    let entries = all.iter().flat_map(|model| model.names().map(|name| entry(context, model, name)));
    let data: Vec<Value> = entries.collect();
    json(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// The model by one of its names.
///
/// # Errors
/// 404 for any other.
pub fn get(context: &Context, id: &str) -> Result<Response<Body>, ApiError> {
    let model = names::find(context, id).filter(|_| !known(context).is_empty());
    let model = model.ok_or_else(|| names::unknown(context, id))?;
    Ok(json(StatusCode::OK, &entry(context, &model, id)))
}
