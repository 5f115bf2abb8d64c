//! What is done with a request, from its head to the response.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tracing::{debug, warn};

use super::body::Body;
use super::caller::Caller;
use super::cors::Cors;
use super::error::ApiError;
use super::ollama::{self, reply::Form};
use super::route::Route;
use super::tally::Tally;
use super::{
    Context, access, appliance, diagnostics, health, images, metrics, openai, openapi, page, uploads, vendor,
};
use crate::config::Images;
use crate::sys::chance;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// On every response while the small model on the CPU answers.
const DEGRADED: HeaderName = HeaderName::from_static("x-llm8850-degraded");
/// On a response that tells a configured sentence instead of an error: the error's code.
const SPOKEN: HeaderName = HeaderName::from_static("x-llm8850-fallback");
const SERVER: &str = concat!("llm8850/", env!("CARGO_PKG_VERSION"));

/// How errors are told at `path`: as its dialect tells them, also where a client was given a
/// wrong base address.
fn teller(path: &str) -> fn(ApiError) -> Response<Body> {
    let parts = || path.split('/').filter(|part| !part.is_empty());
    match parts().next() {
        None => ApiError::into_line,
        Some("v1" | "openai") => ApiError::into_response,
        Some(_) if parts().any(|part| part == "api") => ApiError::into_line,
        Some(_) => ApiError::into_response,
    }
}

/// Answers one request.
pub async fn handle<B>(context: Arc<Context>, mut caller: Caller, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let cors = Cors::of(&context.service.settings().server.cors_origins, request.headers());
    let mut response = match caller.read(request.headers()) {
        _ if method == Method::OPTIONS => cors.preflight(request.headers()),
        Ok(()) => answer(&context, &mut caller, request).await,
        Err(error) => teller(&path)(error),
    };
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
    cors.mark(headers);
    response
}

async fn answer<B>(context: &Arc<Context>, caller: &mut Caller, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
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
    // Before the body: of who may not ask, nothing is read.
    match access::admit(&context.service, route.need(&method), request.headers()) {
        Ok(key) => caller.enter(key),
        Err(error) => return tell(error),
    }
    // Not read into memory.
    if matches!(route, Route::Uploads | Route::Upload(..)) {
        return uploads::tus(context, &route, request).await;
    }
    if route == Route::Update && method == Method::POST {
        return appliance::update(context, request.into_body()).await.unwrap_or_else(tell);
    }
    let tally = route.dialect(&method).map(|dialect| Tally::new(context, dialect, caller.asked()));
    let for_person = page::wanted(request.headers());
    let body = match method {
        Method::POST => context.read(request.into_body()).await,
        _ if route == Route::Delete => context.read(request.into_body()).await,
        _ => Ok(Bytes::new()),
    };
    let notes = tally.is_some() && context.service.settings().limits.images == Images::Note;
    let answered = match body.map(|body| if notes { images::noted(body) } else { body }) {
        Ok(body) => act(context, caller, route, &method, for_person, body).await,
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(tell);
    if let Some(tally) = tally {
        tally.follow(&mut response);
    }
    response
}

async fn act(
    context: &Arc<Context>,
    caller: &Caller,
    route: Route,
    method: &Method,
    for_person: bool,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    match route {
        Route::Live => Ok(health::live()),
        Route::Ready => Ok(health::ready(context)),
        Route::Status => Ok(health::status(context)),
        Route::Incidents => Ok(health::incidents(context)),
        Route::Logs => Ok(diagnostics::logs(context)),
        Route::Diagnostics => diagnostics::diagnostics(context).await,
        Route::Update => appliance::slots(context),
        Route::FactoryReset => appliance::factory_reset(context, &body).await,
        Route::Installs if *method == Method::POST => uploads::begin(context, &body).await,
        Route::Installs => uploads::list(context).await,
        Route::Install(model) if *method == Method::POST => uploads::install(context, model).await,
        Route::Install(model) => uploads::delete(context, model, true).await,
        Route::Choose(model) => uploads::choose(context, model).await,
        Route::Incoming(model) if *method == Method::DELETE => uploads::delete(context, model, false).await,
        Route::Incoming(model) => uploads::incoming(context, model).await,
        // Dealt with before: their bodies are not read.
        Route::Uploads | Route::Upload(..) => Err(ApiError::internal("an upload without its body")),
        Route::OpenApi => Ok(openapi::openapi()),
        Route::Metrics => Ok(metrics::metrics(context)),
        Route::Models => Ok(openai::models::list(context)),
        Route::Model(id) => openai::models::get(context, &id),
        Route::Chat(deployment) => openai::chat::complete(context, caller, deployment, body).await,
        Route::Completions(deployment) => {
            openai::completions::complete(context, caller, deployment, body).await
        }
        Route::Responses => openai::responses::create(context, caller, body).await,
        Route::Response => Err(openai::responses::forgotten()),
        Route::Embeddings => Err(ollama::manage::no_embeddings()),
        Route::Root if *method == Method::POST => {
            ollama::answer::answer(context, caller, Form::Chat, body).await
        }
        Route::Root if for_person => Ok(page::page()),
        Route::Root => Ok(ollama::models::running()),
        Route::Ollama(form) => ollama::answer::answer(context, caller, form, body).await,
        Route::Tags => Ok(ollama::models::list(context)),
        Route::Loaded => Ok(ollama::models::loaded(context)),
        Route::Show => ollama::models::show(context, &body),
        Route::Version => Ok(ollama::models::version()),
        Route::Pull => ollama::pull::pull(context, &body).await,
        Route::Blob if *method == Method::HEAD => Err(ollama::manage::no_blob()),
        Route::Delete => ollama::pull::delete(context, &body).await,
        Route::Manage | Route::Blob => Err(ollama::manage::refused()),
        Route::Reset => vendor::control::reset(context, &body),
        Route::Stop => Ok(vendor::control::stop(context)),
        Route::Polled => vendor::polled::poll(context),
    }
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
    fn errors_are_told_in_the_dialect_of_the_path() {
        for (path, ollamas) in [
            ("/", true),
            ("/api/none", true),
            ("/ollama//api/chat", true),
            ("/v1/none", false),
            ("/v1/models/api", false),
            ("/openai/api", false),
            ("/none", false),
        ] {
            let told = teller(path)(ApiError::invalid("x"));
            let length = told.body().size_hint().exact().unwrap();
            assert_eq!(length < 20, ollamas, "{path}");
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
