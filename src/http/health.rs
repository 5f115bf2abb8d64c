//! Liveness, readiness, status. Readiness is the engine's, never the port's: it is
//! "ok" only while a worker with a loaded model answers pings.

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::Context;
use super::body::{Body, json};
use super::fields::set;
use crate::fault::Fault;
use crate::lights::{Lamps, Look};
use crate::service::Settings;

/// `/livez`: the supervisor turns its loop.
pub fn live() -> Response<Body> {
    json(StatusCode::OK, &json!({"status": "ok"}))
}

/// `/readyz` and `/health`: a request would be answered now.
pub fn ready(context: &Context) -> Response<Body> {
    let status = context.service.status();
    if status.ready {
        let warning = context.problems().first().map(|_| Fault::Config.code());
        let body = json!({"status": "ok", "degraded": status.degraded, "warning": warning});
        return json(StatusCode::OK, &body);
    }
    let code = status.last_failure.as_ref().map(|failure| failure.fault.code());
    let body = json!({"status": status.state.name(), "loading": status.loading, "code": code});
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, &body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// `/v1/incidents`: what went wrong lately, newest first, also before this start.
pub fn incidents(context: &Context) -> Response<Body> {
    json(StatusCode::OK, &json!({"object": "list", "data": context.service.incidents()}))
}

/// `/v1/status`: everything told about the service.
pub fn status(context: &Context) -> Response<Body> {
    json(StatusCode::OK, &status_value(context))
}

pub(super) fn status_value(context: &Context) -> Value {
    let status = context.service.status();
    let (problems, settings) = (context.problems(), context.service.settings());
    let Settings { lights, access, appliance, .. } = settings;
    let look =
        Look { state: status.state, config_error: !problems.is_empty(), tokens: status.counters.tokens };
    let Lamps { status: status_lamp, fault: fault_lamp } = look.lamps();
    let meaning = status.state.meaning();
    let mut status = json!(status);
    if let Some(fields) = status.as_object_mut() {
        fields.insert("meaning".into(), meaning.into());
        fields.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        fields.insert("started".into(), context.started.into());
        fields.insert("problems".into(), json!(problems));
        fields.insert("keys".into(), access.locked().into());
        let lamps = json!({
            "status": {"colour": lights.status_colour, "shows": status_lamp},
            "fault": {"colour": lights.fault_colour, "shows": fault_lamp},
        });
        fields.insert("lights".into(), lamps);
        let mut image = appliance.slots();
        if let Some(models) = appliance.told_of_models() {
            set(image.get_or_insert_with(|| json!({})), "models", models);
        }
        if let Some(image) = image {
            fields.insert("appliance".into(), image);
        }
    }
    status
}
