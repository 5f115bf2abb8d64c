//! Which path leads where.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tracing::{debug, warn};

use super::body::{Body, response};
use super::caller::Caller;
use super::error::ApiError;
use super::ollama::{self, reply::Form};
use super::{Context, health, openai, vendor};
use crate::sys::chance;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// On every response while the small model on the CPU answers.
const DEGRADED: HeaderName = HeaderName::from_static("x-llm8850-degraded");
/// On a response that tells a configured sentence instead of an error: the error's code.
const SPOKEN: HeaderName = HeaderName::from_static("x-llm8850-fallback");
const SERVER: &str = concat!("llm8850/", env!("CARGO_PKG_VERSION"));

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Live,
    Ready,
    Status,
    /// Of Azure's deployment, where one is named.
    Chat(Option<String>),
    Completions(Option<String>),
    Responses,
    /// An answer of the past.
    Response,
    Embeddings,
    Models,
    Model(String),
    Root,
    Ollama(Form),
    Tags,
    Loaded,
    Show,
    Version,
    Pull,
    /// What Ollama does with models, and this service does not.
    Manage,
    Delete,
    Blob,
    /// The vendor runtime's.
    Reset,
    Stop,
    Polled,
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const WRITE: &[Method] = &[Method::POST];
const BOTH: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
/// HEAD would do what it should only look at.
const CALL: &[Method] = &[Method::GET, Method::POST];
const BLOB: &[Method] = &[Method::HEAD, Method::POST];
const DELETE: &[Method] = &[Method::DELETE];
const ANY: &[Method] = &[Method::GET, Method::HEAD, Method::POST, Method::DELETE];

impl Route {
    /// The resource at `path`; doubled and trailing slashes count once and not at all.
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // Azure has `/openai` before everything.
        let parts = match parts.as_slice() {
            ["openai", rest @ ..] if matches!(rest.first(), Some(&("v1" | "models" | "responses"))) => rest,
            parts => parts,
        };
        Some(match parts {
            ["livez"] => Route::Live,
            ["readyz" | "health"] => Route::Ready,
            ["v1", "status"] => Route::Status,
            ["v1", "chat", "completions"] | ["chat", "completions"] => Route::Chat(None),
            ["openai", "deployments", name, "chat", "completions"] => Route::Chat(Some(unescape(name))),
            ["v1", "completions"] | ["completions"] => Route::Completions(None),
            ["openai", "deployments", name, "completions"] => Route::Completions(Some(unescape(name))),
            ["v1", "responses"] | ["responses"] => Route::Responses,
            ["v1", "responses", ..] | ["responses", ..] => Route::Response,
            ["v1", "embeddings"] | ["openai", "deployments", _, "embeddings"] => Route::Embeddings,
            ["v1", "models"] | ["models"] => Route::Models,
            ["v1", "models", id @ ..] | ["models", id @ ..] => Route::Model(unescape(&id.join("/"))),
            [] => Route::Root,
            ["api", "chat"] => Route::Ollama(Form::Chat),
            ["api", "generate"] => Route::Ollama(Form::Generate),
            ["api", "tags"] => Route::Tags,
            ["api", "ps"] => Route::Loaded,
            ["api", "show"] => Route::Show,
            ["api", "version"] => Route::Version,
            ["api", "embed" | "embeddings"] => Route::Embeddings,
            ["api", "pull"] => Route::Pull,
            ["api", "copy" | "create" | "push"] => Route::Manage,
            ["api", "delete"] => Route::Delete,
            ["api", "blobs", _] => Route::Blob,
            ["api", "reset"] => Route::Reset,
            ["api", "stop"] => Route::Stop,
            ["api", "generate_provider" | "content"] => Route::Polled,
            _ => return None,
        })
    }

    fn methods(&self) -> &'static [Method] {
        match self {
            Route::Chat(_) | Route::Completions(_) | Route::Responses | Route::Embeddings => WRITE,
            Route::Ollama(_) | Route::Show | Route::Pull | Route::Manage | Route::Reset => WRITE,
            Route::Root => BOTH,
            Route::Stop | Route::Polled => CALL,
            Route::Response => ANY,
            Route::Delete => DELETE,
            Route::Blob => BLOB,
            _ => READ,
        }
    }
}

/// How errors are told at `path`: as its dialect tells them.
fn teller(path: &str) -> fn(ApiError) -> Response<Body> {
    match path.split('/').find(|part| !part.is_empty()) {
        None | Some("api") => ApiError::into_line,
        Some(_) => ApiError::into_response,
    }
}

/// Undoes percent-encoding; what is not valid stays as it is.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Answers one request.
pub async fn handle<B>(context: Arc<Context>, caller: Caller, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = answer(&context, &caller, request).await;
    let status = response.status();
    // Who polls for readiness expects to be refused.
    let expected = matches!(path.as_str(), "/readyz" | "/health");
    match status.is_server_error() && !expected {
        true => warn!(%method, path, status = status.as_u16(), "answered with an error"),
        false => debug!(%method, path, status = status.as_u16(), "answered"),
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    if context.service.status().degraded {
        headers.insert(DEGRADED, HeaderValue::from_static("cpu"));
    }
    if let Some(fault) = caller.spoken() {
        headers.insert(SPOKEN, HeaderValue::from_static(fault.code()));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    response
}

async fn answer<B>(context: &Arc<Context>, caller: &Caller, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if request.method() == Method::OPTIONS {
        return preflight(request.headers());
    }
    let path = request.uri().path();
    let tell = teller(path);
    let Some(route) = Route::of(path) else {
        let shown: String = path.chars().take(200).collect();
        let message = format!("Unknown request URL: {} {shown}.", request.method());
        return tell(ApiError::invalid(message).status(StatusCode::NOT_FOUND).code("unknown_url"));
    };
    let method = request.method().clone();
    if !route.methods().contains(&method) {
        return not_allowed(&method, route.methods(), tell);
    }
    let body = match method {
        Method::POST => context.read(request.into_body()).await,
        _ => Ok(Bytes::new()),
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return tell(error),
    };
    let answered = match route {
        Route::Live => Ok(health::live()),
        Route::Ready => Ok(health::ready(context)),
        Route::Status => Ok(health::status(context)),
        Route::Models => Ok(openai::models::list(context)),
        Route::Model(id) => openai::models::get(context, &id),
        Route::Chat(deployment) => openai::chat::complete(context, caller, deployment, body).await,
        Route::Completions(deployment) => {
            openai::completions::complete(context, caller, deployment, body).await
        }
        Route::Responses => openai::responses::create(context, caller, body).await,
        Route::Response => Err(openai::responses::forgotten()),
        Route::Embeddings => Err(ollama::manage::no_embeddings()),
        Route::Root if method == Method::POST => {
            ollama::answer::answer(context, caller, Form::Chat, body).await
        }
        Route::Root => Ok(ollama::models::running()),
        Route::Ollama(form) => ollama::answer::answer(context, caller, form, body).await,
        Route::Tags => Ok(ollama::models::list(context)),
        Route::Loaded => Ok(ollama::models::loaded(context)),
        Route::Show => ollama::models::show(context, &body),
        Route::Version => Ok(ollama::models::version()),
        Route::Pull => ollama::manage::pull(context, &body),
        Route::Blob if method == Method::HEAD => Err(ollama::manage::no_blob()),
        Route::Manage | Route::Delete | Route::Blob => Err(ollama::manage::refused()),
        Route::Reset => vendor::control::reset(context, &body),
        Route::Stop => Ok(vendor::control::stop(context)),
        Route::Polled => vendor::polled::poll(context),
    };
    answered.unwrap_or_else(tell)
}

fn not_allowed(method: &Method, allowed: &[Method], tell: fn(ApiError) -> Response<Body>) -> Response<Body> {
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let message = format!("{method} is not allowed here: use {}.", names.join(" or "));
    let error = ApiError::invalid(message).status(StatusCode::METHOD_NOT_ALLOWED).code("method_not_allowed");
    let mut response = tell(error);
    if let Ok(allowed) = HeaderValue::try_from(format!("{}, OPTIONS", names.join(", "))) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// Any page may use the service: it is meant for the local network and keeps no secrets
/// of a browser's user.
fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = response(StatusCode::NO_CONTENT, "text/plain", "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers
        .insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS"));
    let allowed = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let allowed = allowed.unwrap_or(HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// The caller's request id where it is fit to be repeated, otherwise a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fit = |id: &&HeaderValue| id.len() <= 128 && !id.is_empty() && id.to_str().is_ok();
    headers.get(REQUEST_ID).filter(fit).cloned().unwrap_or_else(|| {
        let made = format!("req_{:016x}", chance::bits());
        HeaderValue::try_from(made).unwrap_or(HeaderValue::from_static("req"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_resources() {
        for (path, route) in [
            ("/v1/chat/completions", Some(Route::Chat(None))),
            ("//v1//chat/completions/", Some(Route::Chat(None))),
            ("/chat/completions", Some(Route::Chat(None))),
            ("/openai/v1/chat/completions", Some(Route::Chat(None))),
            ("//openai/deployments/gpt%2D4/chat/completions", Some(Route::Chat(Some("gpt-4".into())))),
            ("/openai/deployments/m/completions", Some(Route::Completions(Some("m".into())))),
            ("/openai/deployments/m/nothing", None),
            ("/openai/v1/models/m", Some(Route::Model("m".into()))),
            ("/openai/models", Some(Route::Models)),
            ("/openai", None),
            ("/v1/completions", Some(Route::Completions(None))),
            ("/v1/responses", Some(Route::Responses)),
            ("/v1/responses/resp_1", Some(Route::Response)),
            ("/v1/responses/resp_1/cancel", Some(Route::Response)),
            ("/v1/embeddings", Some(Route::Embeddings)),
            ("/v1/models", Some(Route::Models)),
            ("/v1/models/a%2Fb%20c", Some(Route::Model("a/b c".into()))),
            ("/v1/models/org/name", Some(Route::Model("org/name".into()))),
            ("/v1/models/50%", Some(Route::Model("50%".into()))),
            ("/v1/models/%ff%zz", Some(Route::Model("\u{fffd}%zz".into()))),
            ("/health", Some(Route::Ready)),
            ("/readyz", Some(Route::Ready)),
            ("/livez", Some(Route::Live)),
            ("/v1/status", Some(Route::Status)),
            ("/", Some(Route::Root)),
            ("", Some(Route::Root)),
            ("//api/chat", Some(Route::Ollama(Form::Chat))),
            ("/api/generate/", Some(Route::Ollama(Form::Generate))),
            ("/api/tags", Some(Route::Tags)),
            ("/api/ps", Some(Route::Loaded)),
            ("/api/show", Some(Route::Show)),
            ("/api/version", Some(Route::Version)),
            ("/api/pull", Some(Route::Pull)),
            ("/api/blobs/sha256:00", Some(Route::Blob)),
            ("/api/embed", Some(Route::Embeddings)),
            ("/api/stop", Some(Route::Stop)),
            ("/api/reset", Some(Route::Reset)),
            ("/api/generate_provider", Some(Route::Polled)),
            ("/api", None),
            ("/api/blobs", None),
            ("/v1", None),
            ("/v2/models", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn a_request_id_is_repeated_only_where_it_is_fit() {
        let with = |id: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(id).unwrap());
            request_id(&headers)
        };
        assert_eq!(with(b"my-id"), "my-id");
        assert!(with(&[b'x'; 129]).to_str().unwrap().starts_with("req_"));
        assert!(with(b"\xff").to_str().unwrap().starts_with("req_"));
        assert!(request_id(&HeaderMap::new()).to_str().unwrap().starts_with("req_"));
    }
}
