//! `POST /api/pull`: a package from the configured catalogue onto the image. Of what is there
//! already, and no catalogue has, what Ollama says of that. `DELETE /api/delete`: out of it again.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json as value};
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::answer::{line, not_loaded};
use super::manage;
use super::models::{digest, named};
use crate::config::Catalogue;
use crate::http::body::{Body, Pieces, json, response};
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields};
use crate::http::names::{self, Model};
use crate::http::{Context, access, uploads};
use crate::packages::protocol::{Kind, Result as Pulled};
use crate::packages::pull::{self, Progress, Source};

const LINES: &str = "application/x-ndjson";
/// Lines made ahead of the connection; of a client that takes them more slowly some are left out.
const AHEAD: usize = 16;

/// `/api/pull`. Dropping the future, or the body of a stream, ends it; what arrived stays.
///
/// # Errors
/// 404 for a model that is not there and cannot be had, 403 where nobody may install any, 423
/// while another is being pulled, 503 until a model is loaded that there is. Without a stream also
/// what the pull fails with.
pub async fn pull(context: &Arc<Context>, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let body = fields::json(body)?;
    let request = Fields::root(&body)?;
    let name = named(&request)?;
    let stream = request.flag("stream")?.unwrap_or(true);
    let settings = context.service.settings();
    let known = names::find(context, name);
    let catalogue = match (settings.catalogue, known) {
        (Some(catalogue), _) if settings.access.locked() => catalogue,
        (_, Some(model)) => {
            context.service.status().model.ok_or_else(not_loaded)?;
            return Ok(present(&model, stream));
        }
        (Some(_), None) => return Err(access::no_owner()),
        (None, None) => {
            context.service.status().model.ok_or_else(not_loaded)?;
            return Err(nowhere(context, name));
        }
    };
    let source = source(context, catalogue)?;
    let only = Arc::clone(&context.pulling).try_lock_owned().map_err(|_| under_way())?;
    let pulling =
        Pulling { context: Arc::clone(context), source, name: names::bare(name).into(), _only: only };
    if !stream {
        pulling.run(&mut |_| {}).await?;
        return Ok(json(StatusCode::OK, &value!({"status": "success"})));
    }
    let (pieces, body) = mpsc::channel(AHEAD);
    tokio::spawn(pulling.told(pieces));
    let mut response = Response::new(Pieces(body).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// `DELETE /api/delete`: an installed package of the image goes, but not the one that is served.
///
/// # Errors
/// 501 where this is no image, 403 where nobody may do that, and as of [`uploads::delete`].
pub async fn delete(context: &Context, body: &[u8]) -> Result<Response<Body>, ApiError> {
    uploads::socket(context).map_err(|_| manage::refused())?;
    if !context.service.settings().access.locked() {
        return Err(access::no_owner());
    }
    let body = fields::json(body)?;
    let name = names::bare(named(&Fields::root(&body)?)?).to_owned();
    uploads::delete(context, name, true).await?;
    Ok(response(StatusCode::OK, "application/json", Bytes::new()))
}

/// One at a time.
struct Pulling {
    context: Arc<Context>,
    source: Source,
    name: String,
    _only: OwnedMutexGuard<()>,
}

impl Pulling {
    /// Pulls until it is there, or its client is gone.
    async fn told(self, pieces: mpsc::Sender<Bytes>) {
        // What is not taken in time is not told: nothing waits for a client.
        let mut tell = |progress: Progress| {
            let _ = pieces.try_send(told(&progress));
        };
        let last = tokio::select! {
            () = pieces.closed() => return tracing::info!("{}: nobody pulls it any more", self.name),
            done = self.run(&mut tell) => match done {
                Ok(()) => line(&value!({"status": "success"})),
                Err(error) => line(&error.line()),
            },
        };
        // Who hears the end may begin anew.
        drop(self);
        let _ = pieces.send(last).await;
    }

    async fn run(&self, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<(), ApiError> {
        let done: Pulled<()> = pull::pull(&self.source, &self.name, tell).await;
        match done {
            Ok(()) => Ok(()),
            // Such as one that came with the appliance.
            Err(refusal)
                if refusal.kind == Kind::Unknown && names::find(&self.context, &self.name).is_some() =>
            {
                Ok(())
            }
            Err(refusal) => {
                tracing::warn!("{} is not pulled: {}", self.name, refusal.message);
                Err(uploads::refused(refusal))
            }
        }
    }
}

fn source(context: &Context, catalogue: Catalogue) -> Result<Source, ApiError> {
    let socket = uploads::socket(context)?;
    let settings = context.service.settings();
    let Catalogue { address, authority } = catalogue;
    let (told, patience) = (settings.appliance.dir, settings.limits.body_s.0);
    Ok(Source { catalogue: address, authority, socket, told, patience })
}

fn told(progress: &Progress) -> Bytes {
    match progress {
        Progress::Catalogue => line(&value!({"status": "pulling manifest"})),
        Progress::File { sha256, bytes, received } => line(&layer(sha256, *bytes, *received)),
        Progress::Checking => line(&value!({"status": "verifying sha256 digest"})),
        Progress::Installed => line(&value!({"status": "writing manifest"})),
    }
}

fn layer(digest: &str, total: u64, completed: u64) -> Value {
    let short: String = digest.chars().take(12).collect();
    value!({
        "status": format!("pulling {short}"), "digest": format!("sha256:{digest}"),
        "total": total, "completed": completed,
    })
}

/// What Ollama says of a model that is there already.
fn present(model: &Model, stream: bool) -> Response<Body> {
    let success = value!({"status": "success"});
    if !stream {
        return json(StatusCode::OK, &success);
    }
    let info = model.info.clone().unwrap_or_default();
    let digest = digest(if info.fingerprint.is_empty() { &model.name } else { &info.fingerprint });
    let steps: [Value; 5] = [
        value!({"status": "pulling manifest"}),
        layer(&digest, info.card_memory_bytes, info.card_memory_bytes),
        value!({"status": "verifying sha256 digest"}),
        value!({"status": "writing manifest"}),
        success,
    ];
    let lines: Vec<u8> = steps.iter().flat_map(line).collect();
    response(StatusCode::OK, LINES, lines)
}

/// 404: no catalogue is known.
fn nowhere(context: &Context, name: &str) -> ApiError {
    let mut error = names::unknown(context, name);
    let remedy = " Models are installed by `model.dir` and `model.others` of its configuration; to pull others, name a \
                  catalogue of them in `model.catalogue`.";
    error.message.push_str(remedy);
    error
}

fn under_way() -> ApiError {
    let message = "A model is being pulled: try again once that is done.";
    ApiError::invalid(message).status(StatusCode::LOCKED).code("install_under_way")
}
