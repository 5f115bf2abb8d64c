//! Liveness, readiness, status. Readiness is the engine's, never the port's: it is
//! "ok" only while a worker with a loaded model answers pings.

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::Context;
use super::body::{Body, json};

/// `/livez`: the supervisor turns its loop.
pub fn live() -> Response<Body> {
    json(StatusCode::OK, &json!({"status": "ok"}))
}

/// `/readyz` and `/health`: a request would be answered now.
pub fn ready(context: &Context) -> Response<Body> {
    let status = context.service.status();
    if status.ready {
        return json(StatusCode::OK, &json!({"status": "ok", "degraded": status.degraded}));
    }
    let code = status.last_failure.as_ref().map(|failure| failure.fault.code());
    let body = json!({"status": status.state.name(), "loading": status.loading, "code": code});
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, &body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// `/v1/status`: everything told about the service.
pub fn status(context: &Context) -> Response<Body> {
    let mut status = json!(context.service.status());
    if let Some(fields) = status.as_object_mut() {
        fields.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        fields.insert("started".into(), context.started.into());
    }
    json(StatusCode::OK, &status)
}
