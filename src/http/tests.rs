//! Real connections to a real server and service; workers are processes that say what
//! a formula gives.

#[path = "../../tests/support/client.rs"]
pub(super) mod client;
mod hostile;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::client::{Events, Sent, content, get, json as body, post};
use super::*;
use crate::config::{self, Config, Seconds};
use crate::http::server::Server;
use crate::service::tests::{recovery, scripted};
use crate::service::{Launch, Settings};
use std::sync::Arc;

const CHAT: &str = "/v1/chat/completions";

pub(super) struct Stage {
    pub address: SocketAddr,
    pub service: Service,
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
    /// Holds its configuration file, config.toml.
    pub dir: tempfile::TempDir,
}

pub(super) fn on_stage(script: &str, change: impl FnOnce(&mut Settings), act: impl AsyncFnOnce(Stage)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let program = scripted::program(dir.path());
        let mut worker = config::Worker::default();
        worker.env.insert(scripted::SCRIPT.into(), script.into());
        let mut settings = Settings::default();
        change(&mut settings);
        let server = Server::bind(&["127.0.0.1:0".parse().unwrap()], settings.limits.clone()).await.unwrap();
        let address = server.addresses()[0];
        let config = Config { worker, recovery: recovery(dir.path()), ..Config::default() };
        let file = dir.path().join("config.toml");
        let launch = Launch { program, ..Launch::new(&config, file.clone()) };
        let (service, _) = Service::start(launch, settings, |_| {});
        let (stop, stopped) = watch::channel(false);
        let context = Context::new(service.clone(), &file, Recent::default(), &[], watch::channel(false).1);
        let ended = tokio::spawn(server.run(Arc::new(context), stopped));
        act(Stage { address, service, stop, ended, dir }).await;
    });
}

fn ask(text: &str, extra: Value) -> Value {
    let mut body = json!({
        "model": "whatever", "seed": 7, "max_tokens": 12, "messages": [{"role": "user", "content": text}],
    });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn a_completion_has_every_field_of_openais_schema() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let response = post(stage.address, CHAT, &ask("hello", json!({}))).await;
            assert_eq!(response.status(), 200);
            assert!(response.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
            assert_eq!(response.headers()["access-control-allow-origin"], "*");
            let mut answer = body(response).await;
            let id = answer["id"].take();
            assert!(id.as_str().unwrap().starts_with("chatcmpl-"));
            assert!(answer["created"].take().as_u64().unwrap() > 1_700_000_000);
            let expected = json!({
                "id": null, "object": "chat.completion", "created": null, "model": "formula",
                "system_fingerprint": format!("llm8850-{}", env!("CARGO_PKG_VERSION")),
                "choices": [{
                    "index": 0,
                    "message": {
                        "role": "assistant", "content": scripted::text(7, 12), "refusal": null, "annotations": [],
                    },
                    "logprobs": null,
                    "finish_reason": "length",
                }],
                "usage": {
                    "prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15,
                    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    "completion_tokens_details": {
                        "reasoning_tokens": 0, "audio_tokens": 0,
                        "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
                    },
                },
            });
            assert_eq!(answer, expected);
        },
    );
}

#[test]
fn logprobs_are_told_where_asked_for() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let wanted = json!({"logprobs": true, "top_logprobs": 1, "max_tokens": 2});
            let answer = body(post(stage.address, CHAT, &ask("hello", wanted.clone())).await).await;
            let first = json!({
                "token": "7: ", "logprob": -0.5, "bytes": [55, 58, 32],
                "top_logprobs": [{"token": "7: ", "logprob": -0.5, "bytes": [55, 58, 32]}],
            });
            let logprobs = &answer["choices"][0]["logprobs"];
            assert_eq!((&logprobs["content"][0], &logprobs["refusal"]), (&first, &Value::Null));
            assert_eq!(logprobs["content"].as_array().unwrap().len(), 2);

            let mut streamed = wanted;
            streamed["stream"] = true.into();
            let events = Events::new(post(stage.address, CHAT, &ask("hello", streamed)).await).rest().await;
            let Sent::Data(chunk) = &events[1] else { panic!("{events:?}") };
            assert_eq!(chunk["choices"][0]["logprobs"]["content"][0], first);
        },
    );
}

#[test]
fn a_stream_begins_with_the_role_and_ends_with_usage_and_done() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let wanted = json!({"stream": true, "stream_options": {"include_usage": true}});
            let events = Events::new(post(stage.address, CHAT, &ask("hello", wanted)).await).rest().await;
            assert_eq!(content(&events), scripted::text(7, 12));
            let chunks: Vec<&Value> =
                events.iter().filter_map(|e| if let Sent::Data(v) = e { Some(v) } else { None }).collect();
            assert_eq!(events.len(), chunks.len() + 1);
            assert_eq!(events.last(), Some(&Sent::Done));
            let [first, .., end, usage] = chunks.as_slice() else { panic!("{chunks:?}") };
            assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
            let ending = json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "length"}]);
            assert_eq!(end["choices"], ending);
            assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(15)));
            for chunk in &chunks {
                assert_eq!(chunk["object"], "chat.completion.chunk");
                assert_eq!(chunk["id"], first["id"]);
                assert!(chunk.get("usage").is_some_and(|u| u.is_null() || *chunk == *usage));
            }

            let plain = Events::new(post(stage.address, CHAT, &ask("hello", json!({"stream": true}))).await)
                .rest()
                .await;
            assert!(plain.iter().all(|e| !matches!(e, Sent::Data(v) if v.get("usage").is_some())));
        },
    );
}

#[test]
fn an_answer_is_whole_although_its_workers_die() {
    on_stage(
        "die-every-10",
        |_| {},
        async |stage| {
            let wanted = json!({"stream": true, "max_tokens": 50});
            let events = Events::new(post(stage.address, CHAT, &ask("hello", wanted)).await).rest().await;
            assert_eq!(content(&events), scripted::text(7, 50));
            assert_eq!(stage.service.status().counters.resumes, 5);
            let answer =
                body(post(stage.address, CHAT, &ask("hello", json!({"max_tokens": 50}))).await).await;
            assert_eq!(answer["choices"][0]["message"]["content"], scripted::text(7, 50));
        },
    );
}

#[test]
fn a_silent_stream_carries_comments_and_its_end_frees_the_card() {
    let quick = |s: &mut Settings| s.limits.keepalive_comment_s = Seconds(Duration::from_millis(50));
    on_stage("", quick, async |stage| {
        let silent = ask("wait for cancel", json!({"stream": true}));
        let mut events = Events::new(post(stage.address, CHAT, &silent).await);
        while events.next().await.unwrap() != Sent::Comment {}
        drop(events);
        stage.service.wait_for(|s| s.counters.abandoned == 1 && !s.running).await;

        // The same for a client that waits for a whole answer.
        let whole = ask("wait for cancel", json!({}));
        let waiting = tokio::spawn(async move { post(stage.address, CHAT, &whole).await });
        stage.service.wait_for(|s| s.running).await;
        waiting.abort();
        stage.service.wait_for(|s| s.counters.abandoned == 2 && !s.running).await;
        let next = post(stage.address, CHAT, &ask("hello", json!({}))).await;
        assert_eq!(next.status(), 200);
    });
}

#[test]
fn a_failure_within_a_stream_is_an_error_event_and_never_done() {
    let hasty = |s: &mut Settings| s.limits.request_timeout_s = Seconds(Duration::from_millis(500));
    on_stage("", hasty, async |stage| {
        stage.service.wait_for(|s| s.ready).await;
        let wanted = ask("wait for cancel", json!({"stream": true}));
        let events = Events::new(post(stage.address, CHAT, &wanted).await).rest().await;
        let Some(Sent::Data(last)) = events.last() else { panic!("{events:?}") };
        assert_eq!(last["error"]["code"], "request_timeout");
        assert!(!events.contains(&Sent::Done));

        let whole = post(stage.address, CHAT, &ask("wait for cancel", json!({}))).await;
        assert_eq!(whole.status(), 504);
        assert_eq!(body(whole).await["error"]["type"], "timeout_error");
    });
}

#[test]
fn an_early_failure_has_its_own_status_also_for_a_stream() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            for stream in [false, true] {
                let response = post(stage.address, CHAT, &ask("refuse", json!({"stream": stream}))).await;
                assert_eq!(response.status(), 400);
                let error = body(response).await["error"].take();
                assert_eq!(
                    (&error["code"], &error["param"]),
                    (&json!("context_length_exceeded"), &json!("messages"))
                );
            }
        },
    );
}

#[test]
fn wrong_requests_are_told_in_openais_form() {
    on_stage(
        "",
        |s| s.limits.body_bytes = 2000,
        async |stage| {
            let request = |method: &str, path: &str, text: &str| {
                let body = Full::from(Bytes::copy_from_slice(text.as_bytes()));
                Request::builder().method(method).uri(path).header("host", "test").body(body).unwrap()
            };
            let long = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(3000)}]})
                .to_string();
            for (method, path, text, status, code) in [
                ("POST", CHAT, "{", 400, "invalid_json"),
                ("POST", CHAT, "{\"model\":\"m\",\"messages\":7}", 400, "invalid_type"),
                ("POST", CHAT, long.as_str(), 413, "request_too_large"),
                ("GET", CHAT, "", 405, "method_not_allowed"),
                ("DELETE", "/v1/models", "", 405, "method_not_allowed"),
                ("GET", "/nowhere", "", 404, "unknown_url"),
                ("GET", "/v1/models/other", "", 404, "model_not_found"),
            ] {
                let response = client::send(stage.address, request(method, path, text)).await.unwrap();
                assert_eq!(response.status(), status, "{method} {path}");
                assert_eq!(response.headers().contains_key("allow"), status == 405);
                let error = body(response).await["error"].take();
                assert_eq!(error["code"], code, "{method} {path}");
                assert_eq!(error["type"], "invalid_request_error");
                assert!(error["message"].is_string() && error.get("param").is_some());
            }
        },
    );
}

#[test]
fn readiness_is_the_engines_and_not_the_ports() {
    on_stage(
        "never-ready",
        |s| s.limits.hold_s = Seconds(Duration::from_millis(100)),
        async |stage| {
            for path in ["/readyz", "/health"] {
                let response = get(stage.address, path).await;
                assert_eq!(response.status(), 503);
                assert!(response.headers().contains_key("retry-after"));
            }
            assert_eq!(get(stage.address, "/livez").await.status(), 200);
            let refused = post(stage.address, CHAT, &ask("hello", json!({}))).await;
            assert_eq!(refused.status(), 503);
            assert!(refused.headers().contains_key("retry-after"));
            assert_eq!(body(refused).await["error"]["code"], "E-NOT-READY");
        },
    );
}

#[test]
fn the_loaded_model_and_the_status_are_told() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            stage.service.wait_for(|s| s.ready).await;
            assert_eq!(get(stage.address, "/readyz").await.status(), 200);
            let list = body(get(stage.address, "//v1/models/").await).await;
            assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("formula")));
            let one = body(get(stage.address, "/v1/models/formula").await).await;
            assert_eq!((&one["object"], &one["owned_by"]), (&json!("model"), &json!("llm8850")));
            let status = body(get(stage.address, "/v1/status").await).await;
            assert_eq!((&status["state"], &status["ready"]), (&json!("ready"), &json!(true)));
            let head = Request::head("/v1/models").header("host", "test").body(Full::default()).unwrap();
            let head = client::send(stage.address, head).await.unwrap();
            assert_eq!(head.status(), 200);
            let options =
                Request::options(CHAT).header("host", "t").header("access-control-request-headers", "x-y");
            let options = client::send(stage.address, options.body(Full::default()).unwrap()).await.unwrap();
            assert_eq!(
                (options.status().as_u16(), options.headers()["access-control-allow-headers"].as_bytes()),
                (204, &b"x-y"[..])
            );
        },
    );
}

#[test]
fn a_full_queue_is_429_with_retry_after() {
    on_stage(
        "",
        |s| s.limits.queue = 0,
        async |stage| {
            let running = ask("wait for cancel", json!({"stream": true}));
            let events = Events::new(post(stage.address, CHAT, &running).await);
            let refused = post(stage.address, CHAT, &ask("hello", json!({}))).await;
            assert_eq!(refused.status(), 429);
            assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
            drop(events);
        },
    );
}

/// What the server says to raw bytes until it closes.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    // A reset counts as an end.
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn slow_broken_and_oversized_requests_are_cut_off() {
    let strict = |s: &mut Settings| {
        s.limits.header_s = Seconds(Duration::from_millis(100));
        s.limits.body_s = Seconds(Duration::from_millis(100));
        s.limits.header_bytes = 8 << 10;
    };
    on_stage("", strict, async |stage| {
        assert_eq!(raw(stage.address, b"").await, "", "an idle connection is closed");
        assert_eq!(raw(stage.address, b"GET /livez HTTP/1.1\r\nhost:").await, "");
        assert!(raw(stage.address, b"\x16\x03\x01 nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let endless = format!("GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(9000));
        assert!(raw(stage.address, endless.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\n{{");
        assert!(raw(stage.address, head.as_bytes()).await.starts_with("HTTP/1.1 408"));
        let huge = format!("POST {CHAT} HTTP/1.1\r\nhost: t\r\ncontent-length: 99999999999\r\n\r\n");
        assert!(raw(stage.address, huge.as_bytes()).await.starts_with("HTTP/1.1 413"));
        assert_eq!(get(stage.address, "/livez").await.status(), 200);
    });
}

#[test]
fn draining_completes_streams_and_takes_no_more() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let wanted = ask("hello", json!({"stream": true, "max_tokens": 300}));
            let mut events = Events::new(post(stage.address, CHAT, &wanted).await);
            stage.service.stop();
            stage.stop.send_replace(true);
            let all = events.rest().await;
            assert_eq!(content(&all), scripted::text(7, 300));
            assert_eq!(all.last(), Some(&Sent::Done));
            stage.ended.await.unwrap();
            assert!(TcpStream::connect(stage.address).await.is_err());
        },
    );
}
