//! Which pages of other origins may call: `server.cors_origins`.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::{Body, response};

/// Asked before a page of the internet calls into a private network.
const ASKS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// What a caller's origin is allowed.
pub struct Cors {
    /// The origin as it is told back, where its pages may call.
    allowed: Option<HeaderValue>,
    /// Whether answers differ with the origin, which caches must know.
    varies: bool,
}

impl Cors {
    /// Of the request with this head.
    pub fn of(origins: &[String], headers: &HeaderMap) -> Self {
        if origins.iter().any(|origin| origin == "*") {
            return Self { allowed: Some(HeaderValue::from_static("*")), varies: false };
        }
        let known = |asked: &&HeaderValue| {
            origins.iter().any(|origin| asked.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
        };
        let allowed = headers.get(header::ORIGIN).filter(known).cloned();
        Self { allowed, varies: !origins.is_empty() }
    }

    /// Marks a response.
    pub fn mark(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = self.allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        }
    }

    /// The answer to a browser that asks before it lets a page call.
    pub fn preflight(&self, asked: &HeaderMap) -> Response<Body> {
        let mut response = response(StatusCode::NO_CONTENT, "text/plain", "");
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        if self.allowed.is_none() {
            return response;
        }
        let methods = HeaderValue::from_static("GET, POST, PATCH, DELETE, OPTIONS");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        let allowed = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let allowed = allowed.unwrap_or(HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        if asked.get(ASKS_PRIVATE).is_some_and(|asks| asks == "true") {
            headers.insert(ALLOWS_PRIVATE, HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::Request;
    use hyper::body::Incoming;

    use super::*;
    use crate::http::tests::client::send;
    use crate::http::tests::{Stage, on_stage};
    use crate::service::Settings;

    const PAGE: &str = "https://show.example:8443";

    async fn ask(stage: &Stage, method: &str, origin: Option<&str>) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri("/v1/models").header("host", "t");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        if method == "OPTIONS" {
            request = request
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization, x-y")
                .header("access-control-request-private-network", "true");
        }
        send(stage.address, request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
    }

    fn told<'a>(response: &'a Response<Incoming>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn any_page_may_call_where_nothing_else_is_said() {
        on_stage(
            "",
            |_| {},
            async |stage| {
                for origin in [None, Some(PAGE), Some("null"), Some("what ever")] {
                    let plain = ask(&stage, "GET", origin).await;
                    assert_eq!(told(&plain, "access-control-allow-origin"), Some("*"));
                    assert_eq!(told(&plain, "vary"), None);
                    let preflight = ask(&stage, "OPTIONS", origin).await;
                    assert_eq!(preflight.status(), 204);
                    assert_eq!(told(&preflight, "access-control-allow-origin"), Some("*"));
                    assert_eq!(told(&preflight, "access-control-allow-headers"), Some("authorization, x-y"));
                    assert_eq!(told(&preflight, "access-control-allow-private-network"), Some("true"));
                }
            },
        );
    }

    #[test]
    fn only_listed_origins_may_call() {
        let listed = |s: &mut Settings| s.server.cors_origins = vec![PAGE.into(), "null".into()];
        on_stage("", listed, async |stage| {
            for (origin, may) in [
                (None, false),
                (Some(PAGE), true),
                (Some("https://SHOW.example:8443"), true),
                (Some("null"), true),
                (Some("https://show.example"), false),
                (Some("https://show.example:8443.evil.example"), false),
                (Some("*"), false),
            ] {
                for method in ["GET", "OPTIONS"] {
                    let response = ask(&stage, method, origin).await;
                    let allowed = told(&response, "access-control-allow-origin");
                    assert_eq!(allowed, origin.filter(|_| may), "{method} {origin:?}");
                    assert_eq!(told(&response, "vary"), Some("origin"));
                    let asked = told(&response, "access-control-allow-private-network");
                    assert_eq!(asked.is_some(), may && method == "OPTIONS", "{method} {origin:?}");
                }
            }
        });
    }

    #[test]
    fn without_origins_no_page_may_call() {
        let none = |s: &mut Settings| s.server.cors_origins.clear();
        on_stage("", none, async |stage| {
            for method in ["GET", "OPTIONS"] {
                let response = ask(&stage, method, Some(PAGE)).await;
                assert!(response.status().is_success());
                let names = response.headers().keys().map(|name| name.as_str());
                let cors: Vec<&str> = names.filter(|name| name.starts_with("access-control")).collect();
                assert_eq!((cors, told(&response, "vary")), (vec![], None));
            }
        });
    }
}
