//! When the card cannot be brought back, the small model on the CPU answers, and says so.

use serde_json::json;

use crate::client::{Events, Sent, get, json as body, post};
use crate::installed::{demo_model, runtime};
use crate::supervisor::{CHAT, Supervisor, ask, run};

const DEGRADED: &str = "x-llm8850-degraded";

#[test]
fn without_the_card_the_cpu_answers_and_every_surface_says_so() {
    run(async {
        let (model, library) = (json!(demo_model()), json!(runtime()));
        let fallback = format!("[fallback]\nmodel_dir = {model}\nruntime = {library}");
        let supervisor = Supervisor::ready(&fallback).await;
        supervisor.wait_state("ready").await;
        let on_card = post(supervisor.address, CHAT, &ask("Hello", json!({}))).await;
        assert!(!on_card.headers().contains_key(DEGRADED));
        assert_eq!(body(on_card).await["model"], "demo");

        let rule = supervisor.break_call("axclInit", "0x8030010b");
        assert!(supervisor.kill_worker().await);
        let status = supervisor.wait_state("degraded").await;
        assert_eq!((&status["degraded"], &status["ready"]), (&json!(true), &json!(true)));
        assert_eq!(status["incident"]["code"], "E-CARD-DRIVER");
        assert_eq!(status["lights"]["status"]["shows"]["name"], "double breath");
        assert_eq!(body(get(supervisor.address, "/readyz").await).await["degraded"], true);
        let on_cpu = post(supervisor.address, CHAT, &ask("Hello", json!({}))).await;
        assert_eq!(on_cpu.headers()[DEGRADED], "cpu");
        assert_ne!(body(on_cpu).await["model"], "demo");

        // The card comes back under a running answer, which is completed where it began.
        let long = json!({"stream": true, "max_tokens": 200, "temperature": 0, "logit_bias": {"2": -100}});
        let mut events = Events::new(post(supervisor.address, CHAT, &ask("Tell me a story.", long)).await);
        events.next().await.unwrap();
        std::fs::remove_file(rule).unwrap();
        assert_eq!(events.rest().await.last(), Some(&Sent::Done));
        supervisor.wait_state("ready").await;
        let again = post(supervisor.address, CHAT, &ask("Hello", json!({}))).await;
        assert!(!again.headers().contains_key(DEGRADED));
        assert_eq!(body(again).await["model"], "demo");
        let counters = supervisor.status().await["counters"].take();
        assert_eq!(counters["failed"], 0, "{counters}");
        assert!(counters["degraded"].as_u64().unwrap() >= 2, "{counters}");
    });
}

#[test]
fn readiness_ends_with_the_engine_and_comes_back_with_it() {
    run(async {
        let mut supervisor = Supervisor::ready("").await;
        supervisor.wait_state("ready").await;
        let rule = supervisor.break_call("axclInit", "0x8030010b");
        assert!(supervisor.kill_worker().await);
        supervisor.wait_log("E-CARD-DRIVER").await;
        for path in ["/readyz", "/health"] {
            let refused = get(supervisor.address, path).await;
            assert_eq!(refused.status(), 503);
            assert_ne!(body(refused).await["status"], "ok");
        }
        assert_eq!(get(supervisor.address, "/livez").await.status(), 200);
        std::fs::remove_file(rule).unwrap();
        supervisor.wait_state("ready").await;
        assert_eq!(get(supervisor.address, "/readyz").await.status(), 200);
    });
}

#[test]
fn a_conversation_is_as_quick_after_its_workers_death_as_before() {
    run(async {
        let mut supervisor = Supervisor::ready("").await;
        supervisor.wait_state("ready").await;
        let system =
            "You are an old coyote beside the road, and you know everybody who ever came by. ".repeat(4);
        let mut messages = vec![json!({ "role": "system", "content": system })];
        let address = supervisor.address;
        let mut turn = async |question: &str| {
            messages.push(json!({ "role": "user", "content": question }));
            let asked = json!({ "model": "demo", "messages": messages, "max_tokens": 8, "temperature": 0 });
            let answer = body(post(address, CHAT, &asked).await).await;
            messages.push(answer["choices"][0]["message"].clone());
            let usage = &answer["usage"];
            (
                usage["prompt_tokens"].as_u64().unwrap(),
                usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap(),
            )
        };
        let (asked, cached) = turn("Who came by today?").await;
        assert!(asked > 80 && cached == 0, "{cached} of {asked}");
        let before = supervisor.status().await["worker_pid"].clone();
        assert!(supervisor.kill_worker().await);
        supervisor.wait_log("a conversation is on the card again").await;
        assert_ne!(supervisor.status().await["worker_pid"], before);
        let (asked, cached) = turn("And yesterday?").await;
        assert!(asked - cached < 40, "{cached} of {asked}");
    });
}

#[test]
fn a_wrong_configuration_is_told_while_defaults_serve() {
    run(async {
        let supervisor = Supervisor::ready("[limits]\nqueue = \"many\"").await;
        supervisor.wait_state("ready").await;
        let ready = get(supervisor.address, "/readyz").await;
        assert_eq!(ready.status(), 200);
        assert_eq!(body(ready).await["warning"], "E-CONFIG");
        let status = supervisor.status().await;
        assert!(status["problems"][0].as_str().unwrap().contains("limits.queue"), "{status}");
        assert_eq!(status["lights"]["fault"]["shows"]["name"], "6 flashes");
    });
}
