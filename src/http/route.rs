//! Which path leads where.

use hyper::Method;

use super::access::Need;
use super::ollama::reply::Form;
use crate::metrics::Dialect;

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Live,
    Ready,
    Status,
    Incidents,
    Metrics,
    Logs,
    Diagnostics,
    /// Of the image.
    Update,
    FactoryReset,
    Installs,
    Install(String),
    /// Of an installed model: that it is served.
    Choose(String),
    Uploads,
    Incoming(String),
    /// Of a model, a file.
    Upload(String, String),
    OpenApi,
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
const INSTALL: &[Method] = &[Method::POST, Method::DELETE];
const HELD: &[Method] = &[Method::GET, Method::HEAD, Method::DELETE];
const UPLOAD: &[Method] = &[Method::HEAD, Method::PATCH];
const ANY: &[Method] = &[Method::GET, Method::HEAD, Method::POST, Method::DELETE];

impl Route {
    /// The resource at `path`; doubled and trailing slashes count once and not at all.
    pub fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // Azure has `/openai` before everything.
        let parts = match parts.split_first() {
            Some((&"openai", rest)) if matches!(rest.first(), Some(&("v1" | "models" | "responses"))) => rest,
            _ => parts.as_slice(),
        };
        Some(match parts {
            ["livez"] => Route::Live,
            ["readyz" | "health"] => Route::Ready,
            ["v1", "status"] => Route::Status,
            ["v1", "incidents"] => Route::Incidents,
            ["v1", "logs"] => Route::Logs,
            ["v1", "diagnostics"] => Route::Diagnostics,
            ["v1", "update"] => Route::Update,
            ["v1", "factory-reset"] => Route::FactoryReset,
            ["openapi.json"] => Route::OpenApi,
            ["metrics"] => Route::Metrics,
            ["v1", "chat", "completions"] | ["chat", "completions"] => Route::Chat(None),
            ["openai", "deployments", name, "chat", "completions"] => Route::Chat(Some(unescape(name))),
            ["v1", "completions"] | ["completions"] => Route::Completions(None),
            ["openai", "deployments", name, "completions"] => Route::Completions(Some(unescape(name))),
            ["v1", "responses"] | ["responses"] => Route::Responses,
            ["v1", "responses", _id @ ..] | ["responses", _id @ ..] => Route::Response,
            ["v1", "embeddings"] => Route::Embeddings,
            ["openai", "deployments", _name, "embeddings"] => Route::Embeddings,
            ["v1", "models"] | ["models"] => Route::Models,
            ["v1", "models", "installs"] => Route::Installs,
            ["v1", "models", "installs", model] => Route::Install(unescape(model)),
            ["v1", "models", "installs", model, "default"] => Route::Choose(unescape(model)),
            ["v1", "models", "uploads"] => Route::Uploads,
            ["v1", "models", "uploads", model] => Route::Incoming(unescape(model)),
            ["v1", "models", "uploads", model, path @ ..] => {
                Route::Upload(unescape(model), unescape(&path.join("/")))
            }
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
            ["api", "blobs", _digest] => Route::Blob,
            ["api", "reset"] => Route::Reset,
            ["api", "stop"] => Route::Stop,
            ["api", "generate_provider" | "content"] => Route::Polled,
            _ => return None,
        })
    }

    pub fn methods(&self) -> &'static [Method] {
        match self {
            Route::Chat(_) | Route::Completions(_) | Route::Responses | Route::Embeddings => WRITE,
            Route::Ollama(_) | Route::Show | Route::Pull | Route::Manage | Route::Reset => WRITE,
            Route::FactoryReset | Route::Uploads | Route::Choose(_) => WRITE,
            Route::Root | Route::Update | Route::Installs => BOTH,
            Route::Install(_) => INSTALL,
            Route::Incoming(_) => HELD,
            Route::Upload(..) => UPLOAD,
            Route::Stop | Route::Polled => CALL,
            Route::Response => ANY,
            Route::Delete => DELETE,
            Route::Blob => BLOB,
            _ => READ,
        }
    }

    /// What it asks of callers, once there are keys. A page can be shown before it has one, and
    /// whoever watches the appliance needs none.
    pub fn need(&self, method: &Method) -> Need {
        match self {
            Route::Live | Route::Ready | Route::OpenApi => Need::Nothing,
            Route::Root if method != Method::POST => Need::Nothing,
            Route::FactoryReset => Need::Owner,
            Route::Update if method == Method::POST => Need::Owner,
            Route::Installs | Route::Install(_) | Route::Choose(_) => Need::Owner,
            Route::Uploads | Route::Incoming(_) | Route::Upload(..) => Need::Owner,
            Route::Status | Route::Incidents | Route::Metrics | Route::Update => Need::Status,
            Route::Logs | Route::Diagnostics => Need::Admin,
            Route::Pull | Route::Manage | Route::Delete | Route::Blob => Need::Admin,
            _ => Need::Key,
        }
    }

    /// Whose words a request for an answer is in; nothing for other requests.
    pub fn dialect(&self, method: &Method) -> Option<Dialect> {
        match self {
            Route::Chat(_) | Route::Completions(_) | Route::Responses => Some(Dialect::OpenAi),
            Route::Ollama(_) => Some(Dialect::Ollama),
            Route::Root if method == Method::POST => Some(Dialect::Ollama),
            _ => None,
        }
    }
}

/// A path as part of an address.
pub fn escape(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    let part = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(part).collect()
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use syn::visit::{self, Visit};

    use super::*;
    use crate::http::openapi;

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
            syn::Pat::Ident(name) => {
                vec![format!("{{{}}}", name.ident.to_string().trim_start_matches('_'))]
            }
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
    fn only_what_is_listed_is_open() {
        let mut open = Vec::new();
        for (path, methods) in openapi::tests::paths() {
            let route = Route::of(&path).unwrap();
            for method in methods {
                let need = route.need(&method.parse().unwrap());
                if need != Need::Key {
                    open.push(format!("{need:?} {method} {path}"));
                }
            }
        }
        open.sort();
        let expected = [
            "Admin DELETE /api/delete",
            "Admin GET /v1/diagnostics",
            "Admin GET /v1/logs",
            "Admin HEAD /api/blobs/{digest}",
            "Admin HEAD /v1/diagnostics",
            "Admin HEAD /v1/logs",
            "Admin POST /api/blobs/{digest}",
            "Admin POST /api/copy",
            "Admin POST /api/create",
            "Admin POST /api/pull",
            "Admin POST /api/push",
            "Nothing GET /",
            "Nothing GET /health",
            "Nothing GET /livez",
            "Nothing GET /openapi.json",
            "Nothing GET /readyz",
            "Nothing HEAD /",
            "Nothing HEAD /health",
            "Nothing HEAD /livez",
            "Nothing HEAD /openapi.json",
            "Nothing HEAD /readyz",
            "Owner DELETE /v1/models/installs/{model}",
            "Owner DELETE /v1/models/uploads/{model}",
            "Owner GET /v1/models/installs",
            "Owner GET /v1/models/uploads/{model}",
            "Owner HEAD /v1/models/installs",
            "Owner HEAD /v1/models/uploads/{model}",
            "Owner HEAD /v1/models/uploads/{model}/{path}",
            "Owner PATCH /v1/models/uploads/{model}/{path}",
            "Owner POST /v1/factory-reset",
            "Owner POST /v1/models/installs",
            "Owner POST /v1/models/installs/{model}",
            "Owner POST /v1/models/installs/{model}/default",
            "Owner POST /v1/models/uploads",
            "Owner POST /v1/update",
            "Status GET /metrics",
            "Status GET /v1/incidents",
            "Status GET /v1/status",
            "Status GET /v1/update",
            "Status HEAD /metrics",
            "Status HEAD /v1/incidents",
            "Status HEAD /v1/status",
            "Status HEAD /v1/update",
        ];
        assert_eq!(open, expected);
    }

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
            ("/v1/models/installs", Some(Route::Installs)),
            ("/v1/models/installs/m", Some(Route::Install("m".into()))),
            ("/v1/models/installs/m/default", Some(Route::Choose("m".into()))),
            ("/v1/models/uploads", Some(Route::Uploads)),
            ("/v1/models/uploads/m", Some(Route::Incoming("m".into()))),
            ("/v1/models/uploads/m/a/b%20c", Some(Route::Upload("m".into(), "a/b c".into()))),
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
}
