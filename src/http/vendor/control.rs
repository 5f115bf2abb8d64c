//! `/api/reset` begins the resident conversation anew, `/api/stop` ends its answer.

use hyper::{Response, StatusCode};
use serde_json::json as value;

use crate::http::Context;
use crate::http::body::{Body, json};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, wrong_value};

/// `/api/reset`: a new conversation that begins with `system_prompt`.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn reset(context: &Context, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let body = fields::json(body)?;
    let system = Fields::root(&body)?.text("system_prompt")?.unwrap_or_default();
    let most = context.service.settings().resident.bytes;
    if system.len() > most {
        let what = format_args!("has {} bytes, at most {most} are kept (`resident.bytes`)", system.len());
        return Err(wrong_value("system_prompt", what));
    }
    context.resident.reset(system);
    Ok(done())
}

/// `/api/stop`: the answer under way ends with what was said so far.
pub fn stop(context: &Context) -> Response<Body> {
    context.resident.stop();
    done()
}

/// The runtime's word for "it is done", or "it is begun".
pub(super) fn done() -> Response<Body> {
    json(StatusCode::OK, &value!({"status": "ok"}))
}
