//! What clients of Ollama do with models and this service does not: refused with a remedy.

use hyper::StatusCode;

use crate::http::error::ApiError;

/// 501: Ollama's words for a model that is not made for it.
pub fn no_embeddings() -> ApiError {
    unable("this model does not support embeddings")
}

/// 501: copying, making and pushing models, and deleting them where they are no packages of the image.
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
