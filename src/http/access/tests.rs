use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response};
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::http::tests::client::{Events, get, json as body, post, send, text};
use crate::http::tests::{Stage, on_stage};
use crate::service::Settings;

const CHAT: &str = "/v1/chat/completions";
pub(in crate::http) const WALL: &str = "sk-wall";
pub(in crate::http) const TECHNICIAN: &str = "sk-technician";

/// Two keys; `extra` belongs to the first, `section` to `[access]`.
pub(in crate::http) fn keys(section: &str, extra: &str) -> impl FnOnce(&mut Settings) {
    let hash = |key: &str| KeyHash::of(key.as_bytes());
    let text = format!(
        "[access]\n{section}\n[[access.key]]\nname = \"wall\"\nsha256 = \"{}\"\n{extra}\n\
         [[access.key]]\nname = \"technician\"\nadmin = true\nsha256 = \"{}\"\n",
        hash(WALL),
        hash(TECHNICIAN)
    );
    let (config, problems) = Config::parse(&text, Path::new("c.toml"));
    assert_eq!(problems, vec![]);
    move |settings| settings.access = config.access
}

pub(in crate::http) fn bearer(key: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {key}"))
}

fn basic(pair: &str) -> (&'static str, String) {
    ("authorization", format!("Basic {}", STANDARD.encode(pair)))
}

fn ask(text: &str, extra: Value) -> Value {
    let mut body = json!({
        "model": "m", "seed": 7, "max_tokens": 12, "stream": false, "input": text,
        "messages": [{"role": "user", "content": text}],
    });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

pub(in crate::http) async fn call(
    stage: &Stage,
    method: &str,
    path: &str,
    with: &[(&'static str, String)],
    content: &Value,
) -> Response<Incoming> {
    let mut request = Request::builder().method(method).uri(path).header("host", "test");
    for (name, value) in with {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let content = if method == "POST" { content.to_string() } else { String::new() };
    send(stage.address, request.body(Full::<Bytes>::from(content)).unwrap()).await.unwrap()
}

fn read(headers: &[(&'static str, &str)]) -> Result<Option<String>, &'static str> {
    let mut map = HeaderMap::new();
    for &(name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    given(&map).map(|key| key.map(|key| String::from_utf8(key).unwrap()))
}

#[test]
fn keys_are_read_however_they_are_sent() {
    let user = format!("Basic {}", STANDARD.encode("anybody:k:1"));
    let long = "k".repeat(20_000);
    for (headers, expected) in [
        (vec![], None),
        (vec![("authorization", "Bearer k")], Some("k")),
        (vec![("authorization", "bEARER  \t k \t")], Some("k")),
        (vec![("authorization", &user)], Some("k:1")),
        (vec![("api-key", " k ")], Some("k")),
        (vec![("x-api-key", "k")], Some("k")),
        (vec![("x-api-key", &long)], Some(&long)),
        (vec![("x-api-key", "schlüssel")], Some("schlüssel")),
        (vec![("x-api-key", "k"), ("api-key", "k"), ("authorization", "Bearer k")], Some("k")),
        // Empty ones are none.
        (vec![("authorization", "Bearer"), ("api-key", ""), ("x-api-key", " ")], None),
        (vec![("authorization", ""), ("api-key", "k")], Some("k")),
        (vec![("authorization", "Basic Og==")], None),
    ] {
        assert_eq!(read(&headers), Ok(expected.map(str::to_owned)), "{headers:?}");
    }
    for (headers, words) in [
        (vec![("authorization", "Bearer a"), ("api-key", "b")], "two different"),
        (vec![("authorization", "Bearer a"), ("authorization", "Bearer b")], "two different"),
        (vec![("api-key", "a"), ("x-api-key", "A")], "two different"),
        (vec![("authorization", "Digest username=\"k\"")], "scheme"),
        (vec![("authorization", "sk-naked")], "scheme"),
        (vec![("authorization", "Schlüssel k")], "scheme"),
        (vec![("authorization", "Basic !!!")], "valid Basic"),
        (vec![("authorization", "Basic a2V5")], "valid Basic"),
        (vec![("authorization", "Basic")], "valid Basic"),
    ] {
        let told = read(&headers).unwrap_err();
        assert!(told.contains(words) && !told.contains("sk-"), "{headers:?}: {told}");
    }
    let mut map = HeaderMap::new();
    map.insert("authorization", HeaderValue::from_bytes(b"\xff\xfe k").unwrap());
    assert!(given(&map).is_err());
    map.insert("authorization", HeaderValue::from_bytes(b"Bearer \xff").unwrap());
    assert_eq!(given(&map), Ok(Some(vec![0xff])));
}

#[test]
fn places_are_counted_for_each_key() {
    let places = Places::default();
    let first = places.take("a", 2).unwrap();
    let second = places.take("a", 2);
    assert!(second.is_some() && places.take("a", 2).is_none() && places.take("b", 1).is_some());
    drop(first);
    assert!(places.take("a", 2).is_some());
    drop(second);
    assert!(places.taken().is_empty(), "nothing is kept of keys that ask nothing");
}

#[test]
fn without_keys_everything_is_open_whatever_is_sent() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            for with in [vec![], vec![bearer("")], vec![bearer("a"), ("api-key", "b".into())]] {
                assert_eq!(call(&stage, "POST", CHAT, &with, &ask("hello", json!({}))).await.status(), 200);
                assert_eq!(call(&stage, "GET", "/v1/logs", &with, &Value::Null).await.status(), 200);
            }
            assert_eq!(body(get(stage.address, "/v1/status").await).await["keys"], false);
        },
    );
}

#[test]
fn answers_need_a_key_in_every_dialect() {
    on_stage("", keys("", ""), async |stage| {
        for path in [
            CHAT,
            "/chat/completions",
            "/openai/deployments/m/chat/completions",
            "/v1/completions",
            "/v1/responses",
            "/api/chat",
            "/api/generate",
            "/",
            "/api/show",
            "/api/reset",
        ] {
            let refused = post(stage.address, path, &ask("hello", json!({}))).await;
            assert_eq!(refused.status(), 401, "{path}");
            assert_eq!(refused.headers()["www-authenticate"], "Bearer realm=\"llm8850\"");
            let told = body(refused).await;
            match path == "/" || path.starts_with("/api/") {
                true => assert!(told["error"].as_str().unwrap().contains("Bearer KEY"), "{path}: {told}"),
                false => assert_eq!(told["error"]["code"], "invalid_api_key", "{path}: {told}"),
            }
            for with in
                [bearer(WALL), ("api-key", WALL.into()), ("x-api-key", WALL.into()), basic("any:sk-wall")]
            {
                let answered = call(&stage, "POST", path, &[with], &ask("hello", json!({}))).await;
                assert_eq!(answered.status(), 200, "{path}");
            }
        }
        for path in ["/v1/models", "/v1/models/formula", "/api/tags", "/api/ps", "/api/version", "/api/stop"]
        {
            assert_eq!(get(stage.address, path).await.status(), 401, "{path}");
            assert_eq!(
                call(&stage, "GET", path, &[bearer(WALL)], &Value::Null).await.status(),
                200,
                "{path}"
            );
        }
        let streamed = ask("hello", json!({"stream": true}));
        Events::new(call(&stage, "POST", CHAT, &[bearer(WALL)], &streamed).await).rest().await;
    });
}

#[test]
fn wrong_keys_are_refused_and_never_repeated() {
    on_stage("", keys("", ""), async |stage| {
        for (with, words) in [
            (vec![bearer("sk-wal")], "Incorrect API key"),
            (vec![bearer("sk-walls")], "Incorrect API key"),
            (vec![bearer("SK-WALL")], "Incorrect API key"),
            (vec![bearer(&format!("sk-{}", "w".repeat(20_000)))], "Incorrect API key"),
            (vec![bearer("sk-schlüssel\u{7f00}")], "Incorrect API key"),
            (vec![bearer(&KeyHash::of(WALL.as_bytes()).to_string())], "Incorrect API key"),
            (vec![basic("sk-wall:")], "did not provide"),
            (vec![bearer("")], "did not provide"),
            (vec![("authorization", "Token sk-wall".into())], "scheme other than"),
            (vec![bearer(WALL), ("api-key", "sk-other".into())], "two different"),
            (vec![bearer(WALL), ("api-key", TECHNICIAN.into())], "two different"),
        ] {
            for path in [CHAT, "/api/chat"] {
                let refused = call(&stage, "POST", path, &with, &ask("hello", json!({}))).await;
                assert_eq!(refused.status(), 401, "{with:?}");
                let told = text(refused).await;
                assert!(told.contains(words), "{with:?}: {told}");
                for secret in ["sk-", "SK-", "wwww"] {
                    assert!(!told.contains(secret), "{told}");
                }
            }
        }
        let numbers = text(get(stage.address, "/metrics").await).await;
        for line in ["{reason=\"wrong_key\"} 12", "{reason=\"no_key\"} 10"] {
            assert!(numbers.contains(&format!("llm8850_denials_total{line}")), "{line} is not in\n{numbers}");
        }
        assert!(!numbers.contains("llm8850_requests_total{"), "who may not ask has asked nothing");
    });
}

#[test]
fn what_is_open_stays_open() {
    let all = |section: &'static str, status: u16| {
        on_stage("", keys(section, ""), async |stage| {
            stage.service.wait_for(|s| s.ready).await;
            // A wrong key does not close what needs none.
            for with in [vec![], vec![bearer("wrong")]] {
                for path in ["/", "/livez", "/readyz", "/health", "/openapi.json"] {
                    assert_eq!(call(&stage, "GET", path, &with, &Value::Null).await.status(), 200, "{path}");
                }
                for path in ["/v1/status", "/v1/incidents", "/metrics"] {
                    let told = call(&stage, "GET", path, &with, &Value::Null).await;
                    assert_eq!(told.status(), status, "{path} with {section}");
                }
                assert_eq!(call(&stage, "OPTIONS", CHAT, &with, &Value::Null).await.status(), 204);
                assert_eq!(call(&stage, "GET", "/nowhere", &with, &Value::Null).await.status(), 404);
                assert_eq!(call(&stage, "GET", CHAT, &with, &Value::Null).await.status(), 405);
            }
            let told = call(&stage, "GET", "/v1/status", &[bearer(WALL)], &Value::Null).await;
            assert_eq!(body(told).await["keys"], true);
        });
    };
    all("", 200);
    all("public_status = false", 401);
}

#[test]
fn the_log_and_models_are_for_admins() {
    on_stage("", keys("", ""), async |stage| {
        for (method, path, with_key) in [
            ("GET", "/v1/logs", 200),
            ("GET", "/v1/diagnostics", 200),
            ("POST", "/api/pull", 404),
            ("POST", "/api/create", 501),
            ("DELETE", "/api/delete", 501),
        ] {
            let content = json!({"model": "other"});
            let call = async |with: &[_]| call(&stage, method, path, with, &content).await;
            assert_eq!(call(&[]).await.status(), 401, "{path}");
            let refused = call(&[bearer(WALL)]).await;
            assert_eq!(refused.status(), 403, "{path}");
            assert!(!refused.headers().contains_key("www-authenticate"));
            assert!(text(refused).await.contains("admin = true"));
            stage.service.wait_for(|s| s.ready).await;
            assert_eq!(call(&[bearer(TECHNICIAN)]).await.status(), with_key, "{path}");
        }
    });
}

#[test]
fn a_mistaken_section_closes_everything_that_needs_a_key() {
    let mistaken = |s: &mut Settings| {
        s.access = Config::parse("[[access.key]]\nname = \"a\"", Path::new("c.toml")).0.access;
    };
    on_stage("", mistaken, async |stage| {
        for (path, code) in [(CHAT, "E-CONFIG"), ("/api/chat", "E-CONFIG")] {
            let refused = call(&stage, "POST", path, &[bearer(WALL)], &ask("hello", json!({}))).await;
            assert_eq!(refused.status(), 503);
            assert!(text(refused).await.contains(code), "{path}");
        }
        for path in ["/v1/models", "/v1/logs", "/v1/status"] {
            assert_eq!(get(stage.address, path).await.status(), 503, "{path}");
        }
        assert_eq!(get(stage.address, "/livez").await.status(), 200);
    });
}

#[test]
fn keys_change_while_the_service_runs() {
    on_stage("", keys("", ""), async |stage| {
        let status = async |key: &str| {
            call(&stage, "POST", CHAT, &[bearer(key)], &ask("hello", json!({}))).await.status().as_u16()
        };
        assert_eq!((status(WALL).await, status("sk-new").await), (200, 401));
        let mut settings = stage.service.settings();
        let hash = KeyHash::of(b"sk-new");
        let section = format!("[[access.key]]\nname = \"new\"\nsha256 = \"{hash}\"\n");
        settings.access = Config::parse(&section, Path::new("c.toml")).0.access;
        stage.service.reload(settings);
        assert_eq!((status(WALL).await, status("sk-new").await), (401, 200));
    });
}

#[test]
fn a_key_has_so_many_requests_under_way_and_no_more() {
    on_stage("", keys("", "requests = 1"), async |stage| {
        let endless = ask("wait for cancel", json!({"stream": true}));
        let events = Events::new(call(&stage, "POST", CHAT, &[bearer(WALL)], &endless).await);
        let refused = call(&stage, "POST", CHAT, &[bearer(WALL)], &ask("hello", json!({}))).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (429, &"2".parse().unwrap())
        );
        let told = body(refused).await["error"].take();
        assert_eq!((&told["code"], &told["retry_after_s"]), (&json!("rate_limit_exceeded"), &json!(2)));
        assert!(told["message"].as_str().unwrap().starts_with("E-KEY-LIMIT"), "{told}");
        let refused = call(&stage, "POST", "/api/chat", &[bearer(WALL)], &ask("hello", json!({}))).await;
        assert_eq!(refused.status(), 429);
        assert!(body(refused).await["error"].as_str().unwrap().starts_with("E-KEY-LIMIT"));
        // Nobody else's place.
        let stop = events;
        let other = tokio::spawn({
            let address = stage.address;
            async move {
                let content = Full::<Bytes>::from(ask("hello", json!({})).to_string());
                let request = Request::post(CHAT).header("host", "t").header("api-key", TECHNICIAN);
                send(address, request.body(content).unwrap()).await.unwrap().status()
            }
        });
        stage.service.wait_for(|s| s.queue == 1).await;
        drop(stop);
        assert_eq!(other.await.unwrap(), 200);
        for _ in 0..3 {
            let next = call(&stage, "POST", CHAT, &[bearer(WALL)], &ask("hello", json!({"n": 2}))).await;
            assert_eq!(next.status(), 200, "several choices are one request, and it has ended");
            body(next).await;
        }
        let numbers = text(get(stage.address, "/metrics").await).await;
        assert!(numbers.contains("llm8850_denials_total{reason=\"key_limit\"} 2"), "{numbers}");
    });
}
