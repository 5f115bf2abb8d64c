//! How a worker begins, serves and ends.

use llm8850::chat::{Event, Finish, Request, RequestId};
use llm8850::fault::Fault;
use llm8850::link::frame::{Command, Report};
use serde_json::json;

use crate::installed::{demo_model, runtime};
use crate::support::{Worker, ask, linked_model};

#[test]
fn a_worker_answers_and_leaves_cleanly_on_stop() {
    let (mut worker, info) = Worker::ready(&[]);
    assert!(info.copy_saving && info.chunked, "{info:?}");
    assert!(info.card_memory_bytes > 100 << 20, "{info:?}");
    let answer = worker.answer(1, &ask("What is the capital of France?", 12), &[]);
    let done = answer.done.as_ref().unwrap();
    assert_eq!(done.usage.completion_tokens as usize, answer.tokens.len());
    assert!(!answer.text().is_empty());
    worker.send(&Command::Stop);
    let (status, said) = worker.end();
    assert_eq!(status.code(), Some(0), "{said:?}");
}

#[test]
fn out_of_memory_the_kernel_takes_a_worker_before_others() {
    let worker = Worker::start(&[]);
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", worker.pid())).unwrap();
    assert_eq!(score, "500\n");
}

#[test]
fn the_whole_embedding_table_is_brought_into_memory_behind_the_load() {
    let (mut worker, _) = Worker::ready(&[]);
    let smaps = format!("/proc/{}/smaps", worker.pid());
    worker.ping_until(|_| {
        let maps = std::fs::read_to_string(&smaps).unwrap();
        let table = maps.lines().skip_while(|line| !line.ends_with(".bfloat16.bin"));
        let kilobytes = |name: &str| {
            let field = table.clone().find_map(|line| line.strip_prefix(name)).unwrap();
            field.trim_end_matches("kB").trim().parse::<u64>().unwrap()
        };
        assert!(kilobytes("Size:") > 50_000);
        kilobytes("Rss:") == kilobytes("Size:")
    });
}

#[test]
fn a_worker_leaves_when_the_supervisor_is_gone() {
    let (mut worker, _) = Worker::ready(&[]);
    worker.hang_up();
    let (status, _) = worker.end();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn sigterm_in_the_middle_of_an_answer_releases_the_card() {
    let (mut worker, _) = Worker::ready(&[]);
    worker.generate(1, &ask("Tell me a long story about a lighthouse.", 400), &[]);
    while !matches!(worker.event(1), Event::Token(t) if t.index == 3) {}
    worker.terminate();
    let (status, said) = worker.end();
    assert_eq!(status.code(), Some(0));
    assert!(said.iter().all(|r| matches!(r, Report::Answer { event: Event::Token(_), .. })), "{said:?}");
}

#[test]
fn sigterm_while_loading_waits_for_the_engine_and_leaves() {
    let worker = Worker::start(&[]);
    while !matches!(worker.report(), Report::Loading { done: 5, .. }) {}
    worker.terminate();
    let (status, said) = worker.end();
    assert_eq!(status.code(), Some(0));
    assert!(!said.iter().any(|r| matches!(r, Report::Ready(_) | Report::Fatal(_))), "{said:?}");
}

#[test]
fn a_cancelled_request_ends_within_a_token_and_the_next_is_answered() {
    let (mut worker, _) = Worker::ready(&[]);
    worker.generate(1, &ask("Tell me a long story about a lighthouse.", 400), &[]);
    worker.generate(2, &ask("And you?", 3), &[]);
    worker.send(&Command::Cancel { id: RequestId(2) });
    while !matches!(worker.event(1), Event::Token(_)) {}
    // From now on a token takes long enough for a cancellation to arrive during the next.
    let slow = json!({ "fault": {
        "call": "axclrtSynchronizeStream", "times": 0, "act": { "hang_ms": 500 } } });
    assert_eq!(worker.control(&slow)["ok"], true);
    worker.ping_until(|a| a.call.as_deref() == Some("axclrtSynchronizeStream") && a.since_ms > 50);
    let before = loop {
        if let Event::Token(token) = worker.event(1) {
            break token.index + 1;
        }
    };
    worker.send(&Command::Cancel { id: RequestId(1) });
    let answer = worker.rest(1);
    assert!(answer.tokens.len() <= 1, "{} tokens after the cancellation", answer.tokens.len());
    let done = answer.done.unwrap();
    assert_eq!(done.finish, Finish::Cancelled);
    assert_eq!(done.usage.completion_tokens as usize, before as usize + answer.tokens.len());
    // The second was cancelled while it waited.
    let second = worker.rest(2);
    assert_eq!((second.tokens.len(), second.done.unwrap().finish), (0, Finish::Cancelled));
    worker.control(&json!({ "clear": {} }));
    assert_eq!(worker.answer(3, &ask("Hello", 4), &[]).done.unwrap().usage.completion_tokens, 4);
}

#[test]
fn one_bad_request_harms_nobody_else() {
    let (mut worker, _) = Worker::ready(&[]);
    let mut bad = ask("Hello", 4);
    bad.sampling.stop = vec!["stop".to_owned(); 17];
    let failed = worker.answer(1, &bad, &[]);
    assert_eq!(failed.failed.unwrap().fault, llm8850::fault::Fault::RequestInvalid);
    assert_eq!(worker.answer(2, &ask("Hello", 4), &[]).tokens.len(), 4);
}

#[test]
fn a_second_turn_computes_only_what_is_new() {
    let (mut worker, _) = Worker::ready(&[]);
    let first = worker.answer(1, &ask("Name three colours.", 6), &[]);
    assert_eq!(first.started.unwrap().cached_tokens, 0);
    let again = worker.answer(2, &ask("Name three colours.", 6), &[]);
    let started = again.started.unwrap();
    assert_eq!(started.cached_tokens, started.prompt_tokens - 1);
    assert_eq!(again.tokens, first.tokens, "a reused prefix changes nothing");
    assert_eq!(again.done.unwrap().usage.cached_tokens, started.cached_tokens);
}

fn tested(worker: &mut Worker) -> Vec<u32> {
    worker.send(&Command::Test { model: None });
    match worker.report() {
        Report::Tested { tokens, .. } => tokens,
        other => panic!("unexpected: {other:?}"),
    }
}

#[test]
fn the_test_prompt_notices_wrong_results_and_leaves_the_conversation_warm() {
    let (mut worker, _) = Worker::ready(&[]);
    let right = tested(&mut worker);
    assert_eq!(right.len(), 8);
    let first = worker.answer(1, &ask("Name three colours.", 6), &[]);
    assert_eq!(tested(&mut worker), right);
    let again = worker.answer(2, &ask("Name three colours.", 6), &[]);
    let started = again.started.unwrap();
    assert_eq!(started.cached_tokens, started.prompt_tokens - 1, "the conversation was forgotten");
    assert_eq!(again.tokens, first.tokens);
    worker.arm("axclrtEngineExecuteAsync", 1, &json!({ "spoil": 0 }));
    assert_ne!(tested(&mut worker), right, "plausible and wrong numbers went unnoticed");
}

/// The bars for one token: a message per engine and six calls more, five of which wait;
/// the embedding, a position and two columns of a mask; nothing copied on the card.
#[test]
fn a_token_costs_no_more_calls_and_bytes_than_promised() {
    let (mut worker, info) = Worker::ready(&[]);
    let mut cost = |id, tokens| {
        let answer = worker.answer(id, &ask("Tell me a long story about a lighthouse.", tokens), &[]);
        assert_eq!(answer.tokens.len(), tokens as usize, "the answer ended early");
        // The marker of the end comes after the last frame: the next request's is behind it.
        worker.answer(100 + id, &ask("Tell me a long story about a lighthouse.", 1), &[]);
        let trace = worker.control(&json!({ "trace": {} }));
        let requests = trace["trace"]["requests"].as_array().unwrap();
        let request = requests.iter().find(|r| r["id"] == id).unwrap();
        assert_eq!(request["ended"], true);
        ["rpc", "dma", "blocking", "h2d_bytes", "d2h_bytes", "d2d_bytes"]
            .map(|k| request[k].as_u64().unwrap())
    };
    cost(1, 4);
    let (few, many) = (cost(2, 4), cost(3, 12));
    let [rpc, dma, blocking, up, down, within] = std::array::from_fn(|i| many[i] - few[i]);
    let tokens = 8;
    assert_eq!(rpc + dma, tokens * (u64::from(info.layers) + 6));
    assert_eq!(blocking, tokens * 5);
    assert_eq!(down, tokens * 2 * u64::from(info.vocabulary));
    assert_eq!(within, 0);
    let hidden = demo_hidden();
    assert_eq!(up, tokens * (2 * hidden + 4 + 4));
}

/// Values of one hidden state of the demo model.
fn demo_hidden() -> u64 {
    let text = std::fs::read_to_string(demo_model().join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["tokens_embed_size"].as_u64().unwrap()
}

#[test]
fn models_are_loaded_side_by_side_and_each_answers_as_if_alone() {
    let config = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    let (runtime, model) = (runtime(), demo_model());
    let text = format!(
        "[worker]\nruntime = {runtime:?}\n[model]\ndir = {model:?}\nname = \"first\"\n\
         [[model.others]]\ndir = {model:?}\nname = \"second\"\ncontext = 256\n\
         [[model.others]]\ndir = \"/no/such\"\nname = \"gone\"\n"
    );
    std::fs::write(config.path(), text).unwrap();
    let mut worker = Worker::start_as(&["--config", config.path().to_str().unwrap()]);
    let first = worker.wait_ready();
    assert_eq!(first.name, "first");
    let load = |model: &str| Command::Load { model: model.into(), evict: Vec::new() };
    worker.send(&load("second"));
    let second = loop {
        match worker.report() {
            Report::Loading { .. } => {}
            Report::Added(info) => break info,
            other => panic!("unexpected while loading: {other:?}"),
        }
    };
    assert_eq!((second.name.as_str(), second.context), ("second", 256));
    assert!(second.card_memory_bytes > 100 << 20, "{second:?}");
    assert_eq!(second.fingerprint, first.fingerprint, "the same files");

    let question = ask("What is the capital of France?", 8);
    let other = Request { model: Some("second".into()), ..ask("Tell me a story.", 8) };
    let alone = worker.answer(1, &question, &[]);
    let between = worker.answer(2, &other, &[]);
    let again = worker.answer(3, &question, &[]);
    assert_eq!(alone.text(), again.text());
    let first = Request { model: None, ..other.clone() };
    assert_eq!(between.text(), worker.answer(4, &first, &[]).text());
    let cached = worker.answer(5, &question, &[]).started.unwrap().cached_tokens;
    assert!(cached > 0, "the other model's prompt took the first's place");

    worker.send(&load("gone"));
    let Report::NotAdded { model, failure } = worker.report() else { panic!("it was loaded") };
    assert_eq!((model.as_str(), failure.fault), ("gone", Fault::ModelMissing));
    worker.send(&Command::Unload { model: "second".into() });
    assert_eq!(worker.report(), Report::Unloaded { model: "second".into() });
    worker.send(&Command::Test { model: None });
    assert!(
        matches!(worker.report(), Report::Tested { model, tokens } if model == "first" && !tokens.is_empty())
    );
    assert_eq!(worker.answer(6, &question, &[]).text(), alone.text());
    worker.send(&Command::Stop);
    assert_eq!(worker.end().0.code(), Some(0));
}

#[test]
fn a_model_that_is_given_no_name_has_its_packages() {
    let model = linked_model();
    let config = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    let (runtime, dir) = (runtime(), model.path());
    let text = format!("[worker]\nruntime = {runtime:?}\n[model]\ndir = {dir:?}\n");
    std::fs::write(config.path(), text).unwrap();
    let mut worker = Worker::start_as(&["--config", config.path().to_str().unwrap()]);
    let name = worker.wait_ready().name;
    assert_ne!(name, dir.file_name().unwrap().to_str().unwrap());
    assert!(!worker.answer(1, &ask("What is the capital of France?", 4), &[]).text().is_empty());
    worker.send(&Command::Test { model: Some(name.clone()) });
    assert!(matches!(worker.report(), Report::Tested { model, .. } if model == name));
}
