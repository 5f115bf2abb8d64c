use std::time::Duration;

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::*;
use crate::chat::Input;
use crate::config::{Defaults, KeyHash, Seconds, SpokenFallback};
use crate::http::access::tests::{TECHNICIAN, WALL, bearer, call, keys};
use crate::http::tests::client::{Events, Sent, content, json as body, post};
use crate::http::tests::on_stage;
use crate::service::Settings;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "The desert is silent.";

/// On the stage's only address.
fn spoken(settings: &mut Settings) {
    let listen = "127.0.0.1:0".parse().unwrap();
    settings.server.spoken_fallback.push(SpokenFallback { listen, text: TEXT.into() });
}

fn ask(text: &str, extra: Value) -> Value {
    let mut body = json!({
        "model": "m", "messages": [{"role": "user", "content": text}], "input": text,
    });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn a_sentence_is_told_instead_of_a_refusal_in_every_dialect() {
    let full = |s: &mut Settings| {
        spoken(s);
        s.limits.queue = 0;
    };
    on_stage("", full, async |stage| {
        let running = ask("wait for cancel", json!({"stream": true}));
        let events = Events::new(post(stage.address, CHAT, &running).await);
        for (path, place) in [
            (CHAT, "/choices/0/message/content"),
            ("/openai/deployments/m/chat/completions", "/choices/0/message/content"),
            ("/v1/completions", "/choices/0/text"),
            ("/v1/responses", "/output/0/content/0/text"),
            ("/api/chat", "/message/content"),
            ("/api/generate", "/response"),
        ] {
            // A prompt means something else to /v1/responses.
            let key = if path == "/api/generate" { "prompt" } else { "unknown" };
            let whole =
                post(stage.address, path, &ask("hello", json!({"stream": false, key: "hello"}))).await;
            assert_eq!(
                (whole.status().as_u16(), &whole.headers()["x-llm8850-fallback"]),
                (200, &"E-BUSY".parse().unwrap())
            );
            assert_eq!(body(whole).await.pointer(place), Some(&json!(TEXT)), "{path}");
            let streamed = ask("hello", json!({"stream": true, key: "hello"}));
            let streamed = post(stage.address, path, &streamed).await;
            assert_eq!(streamed.headers()["x-llm8850-fallback"], "E-BUSY");
            let all = streamed.into_body().collect().await.unwrap().to_bytes();
            assert!(String::from_utf8_lossy(&all).contains(TEXT), "{path}: {all:?}");
        }
        drop(events);
        stage.service.wait_for(|s| s.counters.spoken_fallbacks == 12).await;
    });
}

#[test]
fn a_wrong_request_is_still_told_so() {
    on_stage("", spoken, async |stage| {
        for (text, extra) in [("hello", json!({"temperature": 9})), ("refuse", json!({}))] {
            let response = post(stage.address, CHAT, &ask(text, extra)).await;
            assert_eq!(response.status(), 400);
            assert!(!response.headers().contains_key("x-llm8850-fallback"));
        }
        assert_eq!(stage.service.status().counters.spoken_fallbacks, 0);
    });
}

#[test]
fn other_addresses_get_the_error() {
    let elsewhere = |s: &mut Settings| {
        spoken(s);
        s.server.spoken_fallback[0].listen = "127.0.0.1:1".parse().unwrap();
        s.limits.hold_s = Seconds(Duration::from_millis(50));
    };
    on_stage("never-ready", elsewhere, async |stage| {
        assert_eq!(post(stage.address, CHAT, &ask("hello", json!({}))).await.status(), 503);
    });
}

#[test]
fn a_stream_that_said_nothing_ends_with_the_sentence_and_any_other_with_the_error() {
    let hasty = |s: &mut Settings| {
        spoken(s);
        s.limits.request_timeout_s = Seconds(Duration::from_millis(500));
    };
    on_stage("", hasty, async |stage| {
        stage.service.wait_for(|s| s.ready).await;
        let silent = ask("wait for cancel", json!({"stream": true}));
        let events = Events::new(post(stage.address, CHAT, &silent).await).rest().await;
        assert_eq!((content(&events).as_str(), events.last()), (TEXT, Some(&Sent::Done)));

        let endless = ask("hello", json!({"stream": true, "max_tokens": 1_000_000_000}));
        let events = Events::new(post(stage.address, CHAT, &endless).await).rest().await;
        let Some(Sent::Data(last)) = events.last() else { panic!("{events:?}") };
        assert_eq!(last["error"]["code"], "request_timeout");
        assert!(!content(&events).contains(TEXT));

        // Nobody has seen anything of an answer that is told whole.
        let whole = ask("hello", json!({"max_tokens": 1_000_000_000}));
        let answer = body(post(stage.address, CHAT, &whole).await).await;
        assert_eq!(answer["choices"][0]["message"]["content"], TEXT);
    });
}

#[test]
fn a_keys_sentence_is_told_instead_of_an_error() {
    let spoken = "requests = 1\nspoken_fallback = \"One moment.\"";
    on_stage("", keys("", spoken), async |stage| {
        let endless = ask("wait for cancel", json!({"stream": true}));
        let events = Events::new(call(&stage, "POST", CHAT, &[bearer(WALL)], &endless).await);
        let several = ask("hello", json!({"n": 2, "stream": false}));
        let spoken = call(&stage, "POST", CHAT, &[bearer(WALL)], &several).await;
        assert_eq!(spoken.headers()["x-llm8850-fallback"], "E-KEY-LIMIT");
        let told = body(spoken).await;
        for choice in 0..2 {
            assert_eq!(told["choices"][choice]["message"]["content"], "One moment.");
        }
        // Who is not let in is told why.
        let wrong = call(&stage, "POST", CHAT, &[bearer("wrong")], &ask("hello", json!({}))).await;
        assert_eq!(wrong.status(), 401);
        drop(events);
    });
}

#[test]
fn a_key_bounds_and_defaults_what_a_request_leaves_open() {
    let extra = "max_tokens = 5\ndeadline_ms = 60000\npriority = \"low\"";
    on_stage("", keys("", extra), async |stage| {
        let tokens = async |key: &str, mut extra: Value| {
            extra["seed"] = 7.into();
            let answer = call(&stage, "POST", CHAT, &[bearer(key)], &ask("hello", extra)).await;
            body(answer).await["usage"]["completion_tokens"].clone()
        };
        assert_eq!(tokens(WALL, json!({})).await, 5);
        assert_eq!(tokens(WALL, json!({"max_tokens": 12})).await, 5);
        assert_eq!(tokens(WALL, json!({"max_tokens": null})).await, 5);
        assert_eq!(tokens(WALL, json!({"max_tokens": 3})).await, 3);
        assert_eq!(tokens(TECHNICIAN, json!({"max_tokens": 12})).await, 12);
        let ollama = json!({"stream": false, "options": {"num_predict": -1}});
        let answer = call(&stage, "POST", "/api/chat", &[bearer(WALL)], &ask("hello", ollama)).await;
        assert_eq!(body(answer).await["eval_count"], 5);
        let caller = |key: &str| {
            let mut caller = Caller::at(stage.address, &stage.service);
            caller.enter(stage.service.settings().access.find(&KeyHash::of(key.as_bytes())).cloned());
            caller
        };
        let request = || Request::new(Input::Raw(String::new()));
        let adorned = caller(WALL).adorn(request());
        assert_eq!((adorned.priority, adorned.limits.deadline_ms), (Priority::Low, Some(60_000)));
        let mut hurried = caller(WALL);
        let mut head = HeaderMap::new();
        head.insert("x-priority", HeaderValue::from_static("high"));
        head.insert("x-deadline-ms", HeaderValue::from_static("900"));
        hurried.read(&head).unwrap();
        let adorned = hurried.adorn(hurried.adorn(request()));
        assert_eq!((adorned.priority, adorned.limits.deadline_ms), (Priority::High, Some(900)));
        assert_eq!(caller(TECHNICIAN).adorn(request()).limits.deadline_ms, None);
    });
}

#[test]
fn the_configurations_deadline_holds_for_requests_without_one() {
    let hurried = |s: &mut Settings| s.defaults = Defaults { deadline_ms: 1000, ..Defaults::default() };
    on_stage("", hurried, async |stage| {
        stage.service.wait_for(|s| s.ready).await;
        for path in [CHAT, "/v1/responses", "/api/chat"] {
            let late = post(stage.address, path, &ask("wait for cancel", json!({"stream": false}))).await;
            assert_eq!(late.status(), 504, "{path}");
        }
        let endless = ask("hello", json!({"max_tokens": 1_000_000_000}));
        let answer = body(post(stage.address, CHAT, &endless).await).await;
        assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
    });
}

#[test]
fn a_refusal_tells_the_place_in_line_and_when_to_come_back() {
    let full = |s: &mut Settings| s.limits.queue = 0;
    on_stage("", full, async |stage| {
        let running = ask("wait for cancel", json!({"stream": true}));
        let events = Events::new(post(stage.address, CHAT, &running).await);
        for (path, place) in [(CHAT, "/error"), ("/v1/responses", "/error"), ("/api/chat", "")] {
            let refused = post(stage.address, path, &ask("hello", json!({}))).await;
            assert_eq!(refused.status(), 429);
            let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            let told = body(refused).await;
            let told = told.pointer(place).unwrap();
            assert_eq!(
                (&told["queue_position"], &told["retry_after_s"]),
                (&json!(2), &json!(after)),
                "{path}"
            );
        }
        drop(events);
    });
}
