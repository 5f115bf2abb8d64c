//! Models that are sent to the image, resumably: files by tus 1.0 (core and creation), the rest as
//! JSON. Root takes them in; here is only what clients are told.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Context;
use super::appliance::no_image;
use super::body::{self, Body, json as reply};
use super::error::ApiError;
use super::fields::{self, Fields, set};
use super::route::{Route, escape};
use crate::fault::{Failure, Fault};
use crate::packages;
use crate::packages::client::{Asked, ask};
use crate::packages::protocol::{Incoming, Kind, Piece, Refusal, Reply, Request as Asking};

const VERSION: HeaderName = HeaderName::from_static("tus-resumable");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const TUS: &str = "1.0.0";
const OCTETS: &str = "application/offset+octet-stream";

/// `GET /v1/models/installs`: what is installed, what arrives, how it went with the last one.
///
/// # Errors
/// 404 where this is no image, 503 where nobody takes anything in.
pub async fn list(context: &Context) -> Result<Response<Body>, ApiError> {
    let Reply::List(list) = asked(context, &Asking::List).await? else { return Err(unexpected()) };
    let mut list = json!(list);
    let settings = context.service.settings();
    set(&mut list, "last", settings.appliance.told_of_models().unwrap_or_default());
    set(&mut list, "configured", configured(context));
    Ok(reply(StatusCode::OK, &list))
}

/// `POST /v1/models/installs`: makes ready for a model by its manifest. The answer tells what is
/// missing, and where that is to be sent.
///
/// # Errors
/// 400 for what is not understood, 404 where this is no image, 423 while another is taken in, 507
/// where there is no room.
pub async fn begin(context: &Context, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let value = fields::json(body)?;
    let fields = Fields::root(&value)?;
    let model = fields.text("model")?.ok_or_else(|| fields::missing("model"))?.to_owned();
    let manifest = fields.get("manifest").filter(|manifest| manifest.is_object());
    let manifest = manifest.ok_or_else(|| fields::missing("manifest"))?.to_string();
    let answered = asked(context, &Asking::Begin { model, manifest }).await?;
    arrived(answered, StatusCode::CREATED)
}

/// `GET /v1/models/uploads/{model}`: what of it has arrived.
///
/// # Errors
/// 404 where nothing did.
pub async fn incoming(context: &Context, model: String) -> Result<Response<Body>, ApiError> {
    arrived(asked(context, &Asking::Look { model }).await?, StatusCode::OK)
}

/// `POST /v1/models/installs/{model}`: all of it has been sent.
///
/// # Errors
/// 404 where nothing was, 409 where something is missing.
pub async fn install(context: &Context, model: String) -> Result<Response<Body>, ApiError> {
    let told = json!({"installing": model});
    done(context, Asking::Install { model }, StatusCode::ACCEPTED, &told).await
}

/// `POST /v1/models/installs/{model}/default`: an installed one is served from now on where nothing
/// else is said.
///
/// # Errors
/// 404 where there is none, 409 where the configuration says which is served, 400 where it does not
/// say how it is loaded.
pub async fn choose(context: &Context, model: String) -> Result<Response<Body>, ApiError> {
    socket(context)?;
    if let Some(dir) = configured(context) {
        let message =
            format!("`model.dir` is {dir} in the settings: take it out of them, restart, and choose then.");
        return Err(ApiError::invalid(message).status(StatusCode::CONFLICT).code("configured"));
    }
    let told = json!({"default": model});
    done(context, Asking::Choose { model }, StatusCode::ACCEPTED, &told).await
}

/// `DELETE`, of what has arrived of a model or of an installed one.
///
/// # Errors
/// 400 for the one that is served where nothing else is said, or by the configuration; 404 where
/// there is none.
pub async fn delete(context: &Context, model: String, installed: bool) -> Result<Response<Body>, ApiError> {
    if installed && context.service.settings().model_dir == Path::new(packages::MODELS).join(&model) {
        return Err(ApiError::invalid(format!("{model:?} is served, as `model.dir` says: it stays.")));
    }
    let told = json!({"id": model, "object": "model", "deleted": true});
    let asking = if installed { Asking::Remove { model } } else { Asking::Drop { model } };
    done(context, asking, StatusCode::OK, &told).await
}

/// Files, as tus has it.
pub async fn tus<B>(context: &Context, route: &Route, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let answered = match (version(&head.headers), route) {
        (Err(error), _) => Err(error),
        (Ok(()), Route::Upload(model, path)) if head.method == Method::PATCH => {
            receive(context, &head.headers, model, path, body).await
        }
        (Ok(()), Route::Upload(model, path)) => {
            look(context, model, path).await.map(|piece| told(&piece, StatusCode::OK))
        }
        (Ok(()), _) => create(context, &head.headers).await,
    };
    let mut response = answered.unwrap_or_else(ApiError::into_response);
    response.headers_mut().insert(VERSION, HeaderValue::from_static(TUS));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn version(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.get(VERSION).is_some_and(|version| version == TUS) {
        return Ok(());
    }
    let message = format!("Files are sent by tus: 'Tus-Resumable: {TUS}' is missing.");
    Err(ApiError::invalid(message).status(StatusCode::PRECONDITION_FAILED).code("unsupported_version"))
}

/// `POST`: a file is announced. The manifest has told of it.
async fn create(context: &Context, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let length = number(headers, &LENGTH)?;
    let metadata = headers.get(METADATA).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let find = |name: &str| {
        let value = metadata.split(',').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix(' '));
        let bytes = value.and_then(|value| STANDARD.decode(value.trim()).ok());
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| fields::missing(&format!("Upload-Metadata: {name}")))
    };
    let (model, path) = (find("model")?, find("path")?);
    let piece = look(context, &model, &path).await?;
    if piece.bytes != length {
        let what = format!("is {length}, the manifest says {} of {path:?}", piece.bytes);
        return Err(fields::wrong_value("Upload-Length", what));
    }
    let mut response = told(&piece, StatusCode::CREATED);
    if let Ok(location) = HeaderValue::try_from(address(&model, &path)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `PATCH`: bytes of a file.
async fn receive<B>(
    context: &Context,
    headers: &HeaderMap,
    model: &str,
    path: &str,
    body: B,
) -> Result<Response<Body>, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if headers.get(CONTENT_TYPE).is_none_or(|kind| kind != OCTETS) {
        let message = format!("The content type must be {OCTETS}.");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::invalid(message).status(status).code("invalid_value"));
    }
    let asking = Asking::Write { model: model.into(), path: path.into(), offset: number(headers, &OFFSET)? };
    let mut sending = Asked::new(&socket(context)?, &asking).await?;
    let patience = context.service.settings().limits.body_s.0;
    let mut body = std::pin::pin!(body);
    // What came before a break stays: the client asks how much that was.
    while let Some(piece) = body::piece(body.as_mut(), patience, "file").await? {
        if !sending.send(&piece).await {
            break;
        }
    }
    match sending.answer().await? {
        Reply::Received(piece) => Ok(told(&piece, StatusCode::NO_CONTENT)),
        Reply::Refused(refusal) => Err(refused(refusal)),
        _ => Err(unexpected()),
    }
}

/// What is there of a file.
async fn look(context: &Context, model: &str, path: &str) -> Result<Piece, ApiError> {
    let Reply::Incoming(incoming) = asked(context, &Asking::Look { model: model.into() }).await? else {
        return Err(unexpected());
    };
    incoming.files.into_iter().find(|piece| piece.path == path).ok_or_else(|| {
        refused(Refusal::new(Kind::Unknown, format!("The manifest of {model:?} lists no {path:?}.")))
    })
}

/// How much of a file is there, in tus' headers.
fn told(piece: &Piece, status: StatusCode) -> Response<Body> {
    let mut response = body::response(status, OCTETS, "");
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.insert(OFFSET, piece.received.into());
    headers.insert(LENGTH, piece.bytes.into());
    response
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, ApiError> {
    let value = headers.get(name).ok_or_else(|| fields::missing(name.as_str()))?;
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| fields::wrong_value(name.as_str(), "must be a whole number"))
}

fn address(model: &str, path: &str) -> String {
    format!("/v1/models/uploads/{model}/{}", escape(path))
}

fn arrived(answered: Reply, status: StatusCode) -> Result<Response<Body>, ApiError> {
    let Reply::Incoming(Incoming { model, installed, files }) = answered else { return Err(unexpected()) };
    let file = |piece: &Piece| {
        let mut file = json!(piece);
        set(&mut file, "url", address(&model, &piece.path));
        file
    };
    let files: Vec<Value> = files.iter().map(file).collect();
    Ok(reply(status, &json!({"model": model, "installed": installed, "files": files})))
}

async fn done(
    context: &Context,
    asking: Asking,
    status: StatusCode,
    told: &Value,
) -> Result<Response<Body>, ApiError> {
    match asked(context, &asking).await? {
        Reply::Done => Ok(reply(status, told)),
        _ => Err(unexpected()),
    }
}

/// What is served whatever package is chosen, as the settings say.
fn configured(context: &Context) -> Option<String> {
    let dir = context.service.settings().model_dir;
    (!packages::follows_default(&dir)).then(|| dir.to_string_lossy().into_owned())
}

/// What root answers.
async fn asked(context: &Context, asking: &Asking) -> Result<Reply, ApiError> {
    match ask(&socket(context)?, asking).await? {
        Reply::Refused(refusal) => Err(refused(refusal)),
        reply => Ok(reply),
    }
}

/// Where models are taken in.
pub(super) fn socket(context: &Context) -> Result<PathBuf, ApiError> {
    let socket = context.service.settings().appliance.models;
    if socket.as_os_str().is_empty() { Err(no_image()) } else { Ok(socket) }
}

/// What root said against it, or a catalogue.
pub(super) fn refused(refusal: Refusal) -> ApiError {
    let (status, code) = match refusal.kind {
        Kind::Invalid => (StatusCode::BAD_REQUEST, "invalid_value"),
        Kind::Unknown => (StatusCode::NOT_FOUND, "upload_not_found"),
        Kind::Offset => (StatusCode::CONFLICT, "wrong_offset"),
        Kind::Incomplete => (StatusCode::CONFLICT, "incomplete"),
        Kind::NoRoom => (StatusCode::INSUFFICIENT_STORAGE, "no_room"),
        Kind::Busy => (StatusCode::LOCKED, "install_under_way"),
        Kind::Catalogue => (StatusCode::BAD_GATEWAY, "catalogue"),
        Kind::Failed => return Failure::new(Fault::Orders, refusal.message).into(),
    };
    ApiError::invalid(refusal.message).status(status).code(code)
}

fn unexpected() -> ApiError {
    Failure::new(Fault::Orders, "what takes models in is of another version").into()
}

#[cfg(test)]
mod tests;
