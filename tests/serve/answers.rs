//! What clients get.

use serde_json::json;

use crate::client::{Events, Sent, content, get, json as body, post, text};
use crate::supervisor::{CHAT, Supervisor, ask, run};

#[test]
fn a_request_is_held_while_loading_and_answered_whole_and_as_a_stream_alike() {
    run(async {
        let supervisor = Supervisor::start("").await;
        let question = ask("What is the capital of France?", json!({"temperature": 0}));
        let answer = body(post(supervisor.address, CHAT, &question).await).await;
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap();
        assert!(text.contains("Paris"), "{answer}");
        assert_eq!(answer["model"], "demo");
        assert_eq!(get(supervisor.address, "/readyz").await.status(), 200);

        let mut streamed = question.clone();
        streamed["stream"] = true.into();
        let events = Events::new(post(supervisor.address, CHAT, &streamed).await).rest().await;
        assert_eq!(content(&events), text);
        assert_eq!(events.last(), Some(&Sent::Done));

        let again = body(post(supervisor.address, CHAT, &question).await).await;
        assert!(again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0, "{again}");
    });
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    run(async {
        let supervisor = Supervisor::start("").await;
        let text = async |seed: u64| {
            let request = ask("Tell me a story.", json!({"temperature": 1.0, "seed": seed}));
            body(post(supervisor.address, CHAT, &request).await).await["choices"][0]["message"]["content"]
                .take()
        };
        let first = text(1).await;
        assert_eq!(text(1).await, first);
        assert_ne!(text(2).await, first);
    });
}

#[test]
fn a_conversation_longer_than_the_context_is_refused_where_configured() {
    run(async {
        let supervisor = Supervisor::start("context = 128\n[limits]\noverflow = \"error\"").await;
        let response =
            post(supervisor.address, CHAT, &ask(&"word ".repeat(2000), json!({"stream": true}))).await;
        assert_eq!(response.status(), 400);
        assert_eq!(body(response).await["error"]["code"], "context_length_exceeded");
    });
}

#[test]
fn a_client_that_leaves_frees_the_card_and_a_full_queue_refuses() {
    run(async {
        let mut supervisor = Supervisor::ready("[limits]\nqueue = 0").await;
        let endless =
            ask("Count to a million.", json!({"stream": true, "max_tokens": 5000, "temperature": 0}));
        let mut events = Events::new(post(supervisor.address, CHAT, &endless).await);
        while content(&[events.next().await.unwrap()]).is_empty() {}
        let refused = post(supervisor.address, CHAT, &ask("Hi", json!({}))).await;
        assert_eq!(refused.status(), 429);
        assert!(refused.headers().contains_key("retry-after"));
        drop(events);
        supervisor.wait_log("the client left").await;
        assert_eq!(post(supervisor.address, CHAT, &ask("Hi", json!({}))).await.status(), 200);
        let counters = supervisor.status().await["counters"].take();
        assert_eq!((&counters["abandoned"], &counters["restarts"]), (&json!(1), &json!(0)));
    });
}

#[test]
fn the_last_lines_of_the_log_are_at_hand() {
    run(async {
        let supervisor = Supervisor::ready("").await;
        assert_eq!(post(supervisor.address, CHAT, &ask("Hi", json!({}))).await.status(), 200);
        let log = text(get(supervisor.address, "/v1/logs").await).await;
        for line in ["listening on http://", "the model is loaded", "-> ready", "answered request=1"] {
            assert!(log.contains(line), "{line} is not in\n{log}");
        }
    });
}
