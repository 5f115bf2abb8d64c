//! Which path leads where.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tracing::{debug, warn};

use super::body::{Body, response};
use super::error::ApiError;
use super::ollama::{self, reply::Form};
use super::tally::Tally;
use super::{Context, diagnostics, health, metrics, openai, openapi, page};
use crate::metrics::Dialect;
use crate::sys::chance;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// On every response while the small model on the CPU answers.
const DEGRADED: HeaderName = HeaderName::from_static("x-llm8850-degraded");
const SERVER: &str = concat!("llm8850/", env!("CARGO_PKG_VERSION"));

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Live,
    Ready,
    Status,
    Incidents,
    Metrics,
    Logs,
    Diagnostics,
    OpenApi,
    Chat,
    Models,
    Model(String),
    Root,
    Ollama(Form),
    Tags,
    Loaded,
    Show,
    Version,
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const WRITE: &[Method] = &[Method::POST];
const BOTH: &[Method] = &[Method::GET, Method::HEAD, Method::POST];

impl Route {
    /// The resource at `path`; doubled and trailing slashes count once and not at all.
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Some(match parts.as_slice() {
            ["livez"] => Route::Live,
            ["readyz" | "health"] => Route::Ready,
            ["v1", "status"] => Route::Status,
            ["v1", "incidents"] => Route::Incidents,
            ["v1", "logs"] => Route::Logs,
            ["v1", "diagnostics"] => Route::Diagnostics,
            ["openapi.json"] => Route::OpenApi,
            ["metrics"] => Route::Metrics,
            ["v1", "chat", "completions"] | ["chat", "completions"] => Route::Chat,
            ["v1", "models"] | ["models"] => Route::Models,
            ["v1", "models", id @ ..] => Route::Model(unescape(&id.join("/"))),
            [] => Route::Root,
            ["api", "chat"] => Route::Ollama(Form::Chat),
            ["api", "generate"] => Route::Ollama(Form::Generate),
            ["api", "tags"] => Route::Tags,
            ["api", "ps"] => Route::Loaded,
            ["api", "show"] => Route::Show,
            ["api", "version"] => Route::Version,
            _ => return None,
        })
    }

    fn methods(&self) -> &'static [Method] {
        match self {
            Route::Chat | Route::Ollama(_) | Route::Show => WRITE,
            Route::Root => BOTH,
            _ => READ,
        }
    }

    /// Whose words a request for an answer is in; nothing for other requests.
    fn dialect(&self, method: &Method) -> Option<Dialect> {
        match self {
            Route::Chat => Some(Dialect::OpenAi),
            Route::Ollama(_) => Some(Dialect::Ollama),
            Route::Root if method == Method::POST => Some(Dialect::Ollama),
            _ => None,
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
pub async fn handle<B>(context: Arc<Context>, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = answer(&context, request).await;
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
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    response
}

async fn answer<B>(context: &Arc<Context>, request: Request<B>) -> Response<Body>
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
    let tally = route.dialect(&method).map(|dialect| Tally::new(context, dialect));
    let for_person = page::wanted(request.headers());
    let body = request.into_body();
    let answered = match route {
        Route::Live => Ok(health::live()),
        Route::Ready => Ok(health::ready(context)),
        Route::Status => Ok(health::status(context)),
        Route::Incidents => Ok(health::incidents(context)),
        Route::Logs => Ok(diagnostics::logs(context)),
        Route::Diagnostics => diagnostics::diagnostics(context).await,
        Route::OpenApi => Ok(openapi::openapi()),
        Route::Metrics => Ok(metrics::metrics(context)),
        Route::Models => Ok(openai::models::list(context)),
        Route::Model(id) => openai::models::get(context, &id),
        Route::Chat => openai::chat::complete(context, body).await,
        Route::Root if method == Method::POST => ollama::answer::answer(context, Form::Chat, body).await,
        Route::Root if for_person => Ok(page::page()),
        Route::Root => Ok(ollama::models::running()),
        Route::Ollama(form) => ollama::answer::answer(context, form, body).await,
        Route::Tags => Ok(ollama::models::list(context)),
        Route::Loaded => Ok(ollama::models::loaded(context)),
        Route::Show => ollama::models::show(context, body).await,
        Route::Version => Ok(ollama::models::version()),
    };
    let mut response = answered.unwrap_or_else(tell);
    if let Some(tally) = tally {
        tally.follow(&mut response);
    }
    response
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
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
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
    use std::collections::{BTreeMap, BTreeSet};

    use syn::visit::{self, Visit};

    use super::*;

    /// Collects the paths in the patterns of [`Route::of`].
    #[derive(Default)]
    struct Paths(Vec<String>);

    impl<'a> Visit<'a> for Paths {
        fn visit_pat_slice(&mut self, slice: &'a syn::PatSlice) {
            let mut paths = vec![String::new()];
            for part in &slice.elems {
                let parts = parts(part);
                let extended =
                    |path: &String| parts.iter().map(|part| format!("{path}/{part}")).collect::<Vec<_>>();
                paths = paths.iter().flat_map(extended).collect();
            }
            self.0.extend(paths.into_iter().map(|path| if path.is_empty() { "/".into() } else { path }));
            visit::visit_pat_slice(self, slice);
        }
    }

    /// What one part of a path can be.
    fn parts(pattern: &syn::Pat) -> Vec<String> {
        match pattern {
            syn::Pat::Or(or) => or.cases.iter().flat_map(parts).collect(),
            syn::Pat::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => vec![text.value()],
            syn::Pat::Ident(name) => vec![format!("{{{}}}", name.ident)],
            _ => panic!("a part of a path of a new kind: teach this test about it"),
        }
    }

    #[test]
    fn the_document_has_every_path_and_method_and_no_other() {
        let mut paths = Paths::default();
        paths.visit_file(&syn::parse_file(include_str!("route.rs")).unwrap());
        assert!(paths.0.len() > 10);
        let methods = |path: &str| -> BTreeSet<String> {
            Route::of(path).unwrap().methods().iter().map(ToString::to_string).collect()
        };
        let routes: BTreeMap<_, _> = paths.0.into_iter().map(|path| (path.clone(), methods(&path))).collect();
        assert_eq!(openapi::tests::paths(), routes);
    }

    #[test]
    fn paths_lead_to_their_resources() {
        for (path, route) in [
            ("/v1/chat/completions", Some(Route::Chat)),
            ("//v1//chat/completions/", Some(Route::Chat)),
            ("/chat/completions", Some(Route::Chat)),
            ("/v1/models", Some(Route::Models)),
            ("/v1/models/a%2Fb%20c", Some(Route::Model("a/b c".into()))),
            ("/v1/models/org/name", Some(Route::Model("org/name".into()))),
            ("/v1/models/50%", Some(Route::Model("50%".into()))),
            ("/v1/models/%ff%zz", Some(Route::Model("\u{fffd}%zz".into()))),
            ("/health", Some(Route::Ready)),
            ("/readyz", Some(Route::Ready)),
            ("/livez", Some(Route::Live)),
            ("/v1/status", Some(Route::Status)),
            ("/v1/incidents", Some(Route::Incidents)),
            ("/metrics", Some(Route::Metrics)),
            ("/openapi.json", Some(Route::OpenApi)),
            ("/v1/logs", Some(Route::Logs)),
            ("/v1/diagnostics", Some(Route::Diagnostics)),
            ("/", Some(Route::Root)),
            ("", Some(Route::Root)),
            ("//api/chat", Some(Route::Ollama(Form::Chat))),
            ("/api/generate/", Some(Route::Ollama(Form::Generate))),
            ("/api/tags", Some(Route::Tags)),
            ("/api/ps", Some(Route::Loaded)),
            ("/api/show", Some(Route::Show)),
            ("/api/version", Some(Route::Version)),
            ("/api", None),
            ("/api/pull", None),
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
