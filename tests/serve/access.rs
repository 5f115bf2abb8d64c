//! Keys: made by the program, asked for by the service, taken back while it runs.

use std::process::{Command, Output};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::{Request, Response};
use rustix::process::Signal;
use serde_json::json;

use crate::client::{get, json_request, send, text};
use crate::supervisor::{CHAT, Supervisor, ask, run};

fn make_key(name: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llm8850-supervisor")).args(["--make-key", name]).output().unwrap()
}

/// A new key, and its lines of configuration.
fn made(name: &str) -> (String, String) {
    let output = make_key(name);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let key = said.lines().next().unwrap().to_owned();
    let entry = said.find("[[access.key]]").unwrap();
    assert!(!said[entry..].contains(&key), "the configuration holds no key");
    (key, said[entry..].to_owned())
}

async fn chat(supervisor: &Supervisor, key: &str) -> Response<hyper::body::Incoming> {
    let mut request: Request<Full<Bytes>> = json_request(CHAT, &ask("Hi", json!({"max_tokens": 2})));
    let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
    request.headers_mut().insert("authorization", value);
    send(supervisor.address, request).await.unwrap()
}

#[test]
fn a_key_is_made_used_and_taken_back() {
    run(async {
        let ((first, one), (second, two)) = (made("wall"), made("floor"));
        assert!(first != second && first.starts_with("sk-") && first.len() > 40);
        let mut supervisor = Supervisor::ready(&format!("{one}\n{two}")).await;
        assert_eq!(chat(&supervisor, &first).await.status(), 200);
        assert_eq!(chat(&supervisor, &second).await.status(), 200);
        assert_eq!(chat(&supervisor, "sk-guessed-by-somebody").await.status(), 401);
        assert_eq!(get(supervisor.address, "/v1/models").await.status(), 401);

        supervisor.configure(&two.replace("[[access.key]]", "[[access.key]]\nadmin = true"));
        supervisor.signal(Signal::HUP);
        supervisor.wait_log("the configuration was read again").await;
        assert_eq!(chat(&supervisor, &first).await.status(), 401);
        assert_eq!(chat(&supervisor, &second).await.status(), 200);

        // What is wrong is not taken over: nobody is let in by it, nor locked out.
        supervisor.configure("[[access.key]]\nname = \"floor\"");
        supervisor.signal(Signal::HUP);
        supervisor.wait_log("the configuration in force is kept").await;
        assert_eq!(chat(&supervisor, &second).await.status(), 200);
        assert_eq!(chat(&supervisor, "").await.status(), 401);

        let request = Request::get("/v1/logs").header("host", "t").header("x-api-key", &second);
        let logs = send(supervisor.address, request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(logs.status(), 200);
        let logs = text(logs).await;
        for secret in [&first, &second, "guessed-by-somebody"] {
            assert!(!logs.contains(secret), "a key stands in the log");
        }
    });
}

#[test]
fn a_mistake_at_the_start_closes_the_service_and_is_named() {
    run(async {
        let (key, entry) = made("wall");
        let mut supervisor = Supervisor::start(&entry.replace("sha256", "sha265")).await;
        supervisor.wait_log("-> ready").await;
        for path in ["/v1/models", "/v1/status", "/v1/logs"] {
            assert_eq!(get(supervisor.address, path).await.status(), 503, "{path}");
        }
        let refused = chat(&supervisor, &key).await;
        assert_eq!(refused.status(), 503);
        assert!(text(refused).await.contains("E-CONFIG"));
        assert_eq!(get(supervisor.address, "/readyz").await.status(), 200);

        supervisor.configure(&entry);
        supervisor.signal(Signal::HUP);
        supervisor.wait_log("the configuration was read again").await;
        assert_eq!(chat(&supervisor, &key).await.status(), 200);
    });
}

#[test]
fn a_key_needs_a_name_that_can_be_printed() {
    for name in ["", " ", "two\nlines", &"x".repeat(65)] {
        let output = make_key(name);
        assert!(!output.status.success() && output.stdout.is_empty(), "{name:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("1 to 64 printable"), "{name:?}");
    }
}
