//! `/v1/models` and `/v1/models/{id}`.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::Context;
use crate::http::body::{Body, json};
use crate::http::error::ApiError;

/// The loaded model; none until one is loaded.
fn loaded(context: &Context) -> Option<(String, Value)> {
    let model = context.service.status().model?;
    let value = json!({
        "id": model.name,
        "object": "model",
        "created": context.started,
        "owned_by": "llm8850",
        "max_model_len": model.context,
    });
    Some((model.name, value))
}

/// All models.
pub fn list(context: &Context) -> Response<Body> {
    let data: Vec<Value> = loaded(context).into_iter().map(|(_, value)| value).collect();
    json(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// One model.
///
/// # Errors
/// 404 for any other.
pub fn get(context: &Context, id: &str) -> Result<Response<Body>, ApiError> {
    match loaded(context) {
        Some((name, value)) if name == id => Ok(json(StatusCode::OK, &value)),
        _ => {
            let shown: String = id.chars().take(200).collect();
            Err(ApiError::invalid(format!("The model '{shown}' does not exist."))
                .status(StatusCode::NOT_FOUND)
                .code("model_not_found")
                .param("model"))
        }
    }
}
