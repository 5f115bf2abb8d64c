use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::config::{Seconds, SpokenFallback};
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
