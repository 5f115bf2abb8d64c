//! The page at `/` for a person: what the appliance does, what to do about it, a prompt to try.
//!
//! One document that loads nothing else; it asks the same interface as any client.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};

use super::body::{Body, response};
use crate::sys::chance;

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(include_str!("page.js"), include_str!("system.js"), include_str!("models.js"));

/// Whether whoever asks can show it. Programs look for Ollama's words at `/` instead.
pub fn wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted.filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

/// The page. Only its own script and style, marked with a number nobody can guess, are run.
pub fn page() -> Response<Body> {
    let nonce = format!("{:016x}{:016x}", chance::bits(), chance::bits());
    let document = HTML.replace("{nonce}", &nonce).replace("{style}", STYLE).replace("{script}", SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = response(StatusCode::OK, "text/html; charset=utf-8", document);
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::VARY, "accept"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert::<HeaderName>(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::Request;

    use crate::http::tests::client::{send, text};
    use crate::http::tests::on_stage;

    #[test]
    fn browsers_get_the_page_and_programs_what_they_look_for() {
        on_stage(
            "",
            |_| {},
            async |stage| {
                let ask = async |method: &str, accept: Option<&str>| {
                    let mut request = Request::builder().method(method).uri("/").header("host", "test");
                    if let Some(accept) = accept {
                        request = request.header("accept", accept);
                    }
                    send(stage.address, request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
                };
                for accept in [None, Some("*/*"), Some("application/json")] {
                    assert_eq!(text(ask("GET", accept).await).await, "Ollama is running");
                }
                let browser = Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
                let first = ask("GET", browser).await;
                let policy = first.headers()["content-security-policy"].to_str().unwrap().to_owned();
                assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"), "{policy}");
                assert!(!policy.contains("unsafe"), "{policy}");
                let nonce = policy.split('\'').find_map(|part| part.strip_prefix("nonce-")).unwrap();
                let document = text(first).await;
                assert_eq!(document.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
                assert!(document.contains("</html>") && !document.contains("{script}"));
                assert!(!document.contains("https://") && !document.contains("src="), "nothing is loaded");
                assert!(!document.contains(" style=") && !document.contains("innerHTML"));
                let second = ask("GET", browser).await;
                assert!(!second.headers()["content-security-policy"].to_str().unwrap().contains(nonce));
                let head = ask("HEAD", browser).await;
                assert_eq!(head.headers()["content-type"], "text/html; charset=utf-8");
            },
        );
    }
}
