//! Workers die, clients do not notice.

use rustix::process::Signal;
use serde_json::json;

use crate::client::{Events, Sent, content, json as body, post};
use crate::supervisor::{CHAT, Supervisor, ask, run};

#[test]
fn a_worker_killed_at_every_tenth_token_costs_no_letter() {
    run(async {
        let supervisor = Supervisor::start("").await;
        // With log-probabilities every token has a piece of its own to count.
        let wanted =
            json!({"max_tokens": 60, "temperature": 0.8, "logprobs": true, "logit_bias": {"2": -100}});
        let mut request = ask("Write a long story about a coyote.", wanted);
        let whole = body(post(supervisor.address, CHAT, &request).await).await["choices"][0].take();
        assert_eq!(whole["finish_reason"], "length");

        request["stream"] = true.into();
        let mut events = Events::new(post(supervisor.address, CHAT, &request).await);
        let (mut seen, mut kills) = (Vec::new(), 0);
        while let Some(event) = events.next().await {
            let is_token = matches!(&event, Sent::Data(chunk) if chunk["choices"][0]["logprobs"].is_object());
            seen.push(event);
            let tokens =
                seen.iter().filter(|e| matches!(e, Sent::Data(c) if c["choices"][0]["logprobs"].is_object()));
            if is_token && tokens.count() % 10 == 0 && supervisor.kill_worker().await {
                kills += 1;
            }
        }
        assert_eq!(content(&seen), whole["message"]["content"].as_str().unwrap());
        assert_eq!(seen.last(), Some(&Sent::Done));
        let tokens: Vec<_> = seen
            .iter()
            .filter_map(|event| match event {
                Sent::Data(chunk) => chunk["choices"][0]["logprobs"]["content"].get(0).cloned(),
                Sent::Done | Sent::Comment => None,
            })
            .collect();
        let expected = whole["logprobs"]["content"].as_array().unwrap();
        let names = |list: &[serde_json::Value]| list.iter().map(|t| t["bytes"].clone()).collect::<Vec<_>>();
        assert_eq!(names(&tokens), names(expected));
        assert!(kills >= 3, "only {kills} kills came before the end");
        let counters = supervisor.status().await["counters"].take();
        assert!(counters["resumes"].as_u64().unwrap() >= 3, "{counters}");
    });
}

#[test]
fn sigterm_completes_the_running_answer_and_ends_with_success() {
    run(async {
        let supervisor = Supervisor::ready("").await;
        let request = ask("Write a long story.", json!({"stream": true, "max_tokens": 40, "temperature": 0}));
        let mut events = Events::new(post(supervisor.address, CHAT, &request).await);
        events.next().await.unwrap();
        supervisor.signal(Signal::TERM);
        assert_eq!(events.rest().await.last(), Some(&Sent::Done));
        assert!(supervisor.wait().success());
    });
}

#[test]
fn a_changed_configuration_takes_effect_on_hang_up_and_a_wrong_one_does_not() {
    run(async {
        let mut supervisor = Supervisor::ready("[defaults]\nmax_tokens = 3\ntemperature = 0").await;
        let address = supervisor.address;
        let tokens = async || {
            let mut request = ask("Write a long story.", json!({}));
            request.as_object_mut().unwrap().remove("max_tokens");
            body(post(address, CHAT, &request).await).await["usage"]["completion_tokens"].take()
        };
        assert_eq!(tokens().await, 3);
        supervisor.configure("[defaults]\nmax_tokens = 5\ntemperature = 0");
        supervisor.signal(Signal::HUP);
        supervisor.wait_log("the configuration was read again").await;
        assert_eq!(tokens().await, 5);
        supervisor.configure("[defaults]\nmax_tokens = -7");
        supervisor.signal(Signal::HUP);
        supervisor.wait_log("the configuration in force is kept").await;
        assert_eq!(tokens().await, 5);
    });
}
