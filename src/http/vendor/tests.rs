//! Over real connections; workers are processes that say what a formula gives, and how many
//! messages they were given.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::config::Seconds;
use crate::http::tests::client::{get, json as body, post};
use crate::http::tests::on_stage;
use crate::service::Settings;
use crate::service::tests::scripted;

const GENERATE: &str = "/api/generate";

fn ask(prompt: &str, extra: Value) -> Value {
    let mut body = json!({"model": "m", "prompt": prompt, "stream": false});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// How many messages the model is given with a prompt.
async fn messages(address: SocketAddr, extra: Value) -> u64 {
    let answer = body(post(address, GENERATE, &ask("count messages", extra)).await).await;
    answer["prompt_eval_count"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

async fn reset(address: SocketAddr, system: &str) {
    let done = body(post(address, "/api/reset", &json!({"system_prompt": system})).await).await;
    assert_eq!(done, json!({"status": "ok"}));
}

#[test]
fn after_a_reset_prompts_continue_one_conversation() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let address = stage.address;
            assert_eq!(body(get(address, "/api/stop").await).await, json!({"status": "ok"}));
            for _ in 0..2 {
                assert_eq!(messages(address, json!({})).await, 1, "without a reset nothing is kept");
            }
            reset(address, "You are Coyote.").await;
            assert_eq!(messages(address, json!({})).await, 2);
            assert_eq!(messages(address, json!({"context": []})).await, 4);
            // What brings its own beginning stands alone, and is not kept.
            assert_eq!(messages(address, json!({"system": "You are a cat."})).await, 2);
            assert_eq!(messages(address, json!({"context": [1, 2]})).await, 1);
            assert_eq!(messages(address, json!({"stream": false})).await, 6);
            let streamed = post(address, GENERATE, &ask("hello", json!({"stream": true}))).await;
            streamed.into_body().collect().await.unwrap();
            assert_eq!(messages(address, json!({})).await, 10);
            reset(address, "").await;
            assert_eq!(messages(address, json!({})).await, 1);
            let answer = body(post(address, GENERATE, &ask("hello", json!({}))).await).await;
            assert_eq!(answer["eval_count"], 80, "a limit of its own");
            let short = json!({"options": {"num_predict": 5, "seed": 7}});
            let answer = body(post(address, GENERATE, &ask("hello", short)).await).await;
            assert_eq!(answer["response"], scripted::text(7, 5));
            for wrong in
                [json!({"system_prompt": 7}), json!([]), json!({"system_prompt": "x".repeat(70_000)})]
            {
                let refused = post(address, "/api/reset", &wrong).await;
                assert_eq!(refused.status(), 400);
                assert!(body(refused).await["error"].is_string());
            }
            assert_eq!(get(address, "/api/reset").await.status(), 405);
        },
    );
}

#[test]
fn what_failed_was_stopped_or_left_is_not_kept() {
    let quick = |s: &mut Settings| s.limits.keepalive_comment_s = Seconds(Duration::from_millis(50));
    on_stage("", quick, async |stage| {
        let address = stage.address;
        reset(address, "You are Coyote.").await;
        assert_eq!(post(address, GENERATE, &ask("refuse", json!({}))).await.status(), 400);
        let left = post(address, GENERATE, &ask("wait for cancel", json!({"stream": true}))).await;
        drop(left);
        stage.service.wait_for(|s| s.counters.abandoned == 1 && !s.running).await;
        assert_eq!(messages(address, json!({})).await, 2);

        // Whoever asked gets what was said so far, and who waited gets the next turn.
        for (number, path) in [(2, "/api/stop"), (3, "/api/reset")] {
            let stopped = tokio::spawn(async move {
                let answer = post(address, GENERATE, &ask("wait for cancel", json!({}))).await;
                (answer.status().as_u16(), body(answer).await)
            });
            stage.service.wait_for(|s| s.running).await;
            let waiting = tokio::spawn(async move { messages(address, json!({})).await });
            post(address, path, &json!({})).await;
            let (status, answer) = stopped.await.unwrap();
            assert_eq!(
                (status, &answer["response"], &answer["done_reason"]),
                (200, &json!(""), &json!("stop"))
            );
            assert_eq!(waiting.await.unwrap(), if number == 2 { 4 } else { 1 });
            stage.service.wait_for(|s| s.counters.abandoned == number).await;
        }
    });
}

#[test]
fn who_waits_for_a_turn_is_bounded_in_number_and_time() {
    let narrow = |s: &mut Settings| {
        s.limits.queue = 0;
        s.limits.request_timeout_s = Seconds(Duration::from_secs(2));
    };
    on_stage("", narrow, async |stage| {
        let address = stage.address;
        stage.service.wait_for(|s| s.ready).await;
        reset(address, "").await;
        async fn silent(address: SocketAddr) -> u16 {
            post(address, GENERATE, &ask("wait for cancel", json!({}))).await.status().as_u16()
        }
        let first = tokio::spawn(silent(address));
        stage.service.wait_for(|s| s.running).await;
        let mut others: Vec<_> = (0..2).map(|_| tokio::spawn(silent(address))).collect();
        let (second, third) = (others.remove(0).await.unwrap(), others.remove(0).await.unwrap());
        // One of them waits until its time is over, or until the first one's is.
        assert!(second == 429 || third == 429, "{second} {third}");
        assert!(second == 504 || third == 504, "{second} {third}");
        assert_eq!(first.await.unwrap(), 504);
    });
}

#[test]
fn answers_can_be_polled_where_configured() {
    let begin = json!({"prompt": "hello", "temperature": 0.7, "top-k": 40, "top-p": 0.9});
    on_stage(
        "",
        |s| s.resident.polled = true,
        async |stage| {
            let address = stage.address;
            let poll = async || {
                let mut text = String::new();
                loop {
                    let piece = body(get(address, "/api/generate_provider").await).await;
                    text.push_str(piece["response"].as_str().unwrap());
                    if piece["done"] == true {
                        return (text, piece["error"].clone());
                    }
                    tokio::task::yield_now().await;
                }
            };
            assert_eq!(poll().await, (String::new(), Value::Null));
            for _ in 0..2 {
                assert_eq!(body(post(address, GENERATE, &begin).await).await, json!({"status": "ok"}));
                let (text, error) = poll().await;
                assert_eq!(
                    (text.clone(), error),
                    (scripted::text(scripted::seed(&text).unwrap(), 80), Value::Null)
                );
            }
            // Polled or not, it is one conversation.
            assert_eq!(messages(address, json!({})).await, 5);

            let silent = json!({"prompt": "wait for cancel"});
            assert_eq!(post(address, GENERATE, &silent).await.status(), 200);
            let busy = post(address, GENERATE, &begin).await;
            assert_eq!((busy.status().as_u16(), body(busy).await), (400, json!({"error": "llm is running"})));
            assert_eq!(
                body(get(address, "/api/content").await).await,
                json!({"response": "", "done": false})
            );
            stage.service.wait_for(|s| s.running).await;
            get(address, "/api/stop").await;
            assert_eq!(poll().await, (String::new(), Value::Null));

            post(address, GENERATE, &json!({"prompt": "refuse"})).await;
            assert!(poll().await.1.as_str().unwrap().contains("E-CONTEXT"));
            assert_eq!(post(address, GENERATE, &json!({"prompt": 7})).await.status(), 400);
            assert_eq!(post(address, GENERATE, &json!({"temperature": 1})).await.status(), 400);
        },
    );
    on_stage(
        "",
        |_| {},
        async |stage| {
            assert_eq!(post(stage.address, GENERATE, &begin).await.status(), 400);
            assert_eq!(get(stage.address, "/api/generate_provider").await.status(), 404);
        },
    );
}
