//! Liveness, readiness, status. Readiness is the engine's, never the port's: it is
//! "ok" only while a worker with a loaded model answers pings.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Context;
use super::body::{Body, json};
use super::fields::set;
use crate::fault::Fault;
use crate::lights::{Lamps, Look};
use crate::service::{Settings, Status};

/// How soon the lights tell what was found wrong since.
const PROBLEMS: Duration = Duration::from_secs(2);

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

fn look(context: &Context, status: &Status, config_error: bool) -> Look {
    let button = *context.button.borrow();
    Look { state: status.state, config_error, tokens: status.counters.tokens, button }
}

/// Has the lights show what `/v1/status` tells, until the service has ended.
pub async fn shine(context: Arc<Context>, looks: watch::Sender<Look>) {
    let (mut changes, mut button) = (context.service.changes(), context.button.clone());
    let mut again = tokio::time::interval(PROBLEMS);
    let mut wrong = false;
    loop {
        let look = look(&context, &changes.borrow_and_update(), wrong);
        looks.send_if_modified(|shown| std::mem::replace(shown, look) != look);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Ok(()) = button.changed() => {}
            _ = again.tick() => wrong = !context.problems().is_empty(),
        }
    }
}

/// `/v1/status`: everything told about the service.
pub fn status(context: &Context) -> Response<Body> {
    json(StatusCode::OK, &status_value(context))
}

pub(super) fn status_value(context: &Context) -> Value {
    let status = context.service.status();
    let (problems, settings) = (context.problems(), context.service.settings());
    let Settings { lights, access, appliance, .. } = settings;
    let Lamps { status: status_lamp, fault: fault_lamp } =
        look(context, &status, !problems.is_empty()).lamps();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::on_stage;
    use crate::sys::recent::Recent;

    #[test]
    fn the_lights_tell_what_is_found_wrong_while_the_service_runs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("problems.json");
        on_stage(
            "",
            |settings| settings.appliance.dir = dir.path().into(),
            async |stage| {
                let (button, held) = watch::channel(false);
                let context = Context::new(stage.service.clone(), &file, Recent::default(), &[], held);
                let (looks, mut seen) = watch::channel(Look::default());
                let shining = tokio::spawn(shine(Arc::new(context), looks));
                let ready = |look: &Look| look.lamps().status.name == "breath" && !look.config_error;
                seen.wait_for(ready).await.unwrap();
                std::fs::write(&file, r#"{"disks": ["state could not be repaired"]}"#).unwrap();
                let look = *seen.wait_for(|look| look.config_error).await.unwrap();
                assert_eq!(look.lamps().fault.name, "6 flashes");
                std::fs::remove_file(&file).unwrap();
                seen.wait_for(ready).await.unwrap();
                button.send_replace(true);
                seen.wait_for(|look| look.button).await.unwrap();
                drop(button);
                stage.service.stop();
                shining.await.unwrap();
            },
        );
    }
}
