//! What a worker does when card, model or runtime are not as they should be.

use std::fs;
use std::path::Path;

use llm8850::chat::Event;
use llm8850::fault::{Failure, Fault};
use llm8850::link::frame::Report;
use llm8850::worker::exit_code;
use serde_json::json;

use crate::installed::demo_model;
use crate::support::{Worker, ask, linked_model};

fn fatal(said: &[Report]) -> &Failure {
    match said.last() {
        Some(Report::Fatal(failure)) => failure,
        other => panic!("no Fatal last: {other:?}"),
    }
}

fn expect_fatal(worker: Worker, fault: Fault) -> Failure {
    let (status, said) = worker.end();
    let failure = fatal(&said).clone();
    assert_eq!(failure.fault, fault, "{failure}");
    assert_eq!(status.code(), Some(i32::from(exit_code(fault))));
    failure
}

#[test]
fn pings_are_answered_while_a_call_to_the_card_hangs() {
    let (mut worker, _) = Worker::ready(&[]);
    worker.generate(1, &ask("Tell me a long story.", 400), &[]);
    while !matches!(worker.event(1), Event::Token(_)) {}
    worker.arm("axclrtSynchronizeStream", 1, &json!({ "hang": true }));
    let inside =
        worker.ping_until(|a| a.call.as_deref() == Some("axclrtSynchronizeStream") && a.since_ms > 200);
    assert_eq!(inside.phase, "decode");
    let later = worker.ping_until(|a| a.since_ms > inside.since_ms + 50);
    assert_eq!(later.progress, inside.progress, "a hanging card makes no progress");
}

#[test]
fn a_stop_that_gets_stuck_ends_the_process_all_the_same() {
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(config.path(), "[worker]\nstop_s = 0.3\n").unwrap();
    let (mut worker, _) = Worker::ready(&["--config", config.path().to_str().unwrap()]);
    worker.arm("axclrtSynchronizeStream", 1, &json!({ "hang": true }));
    worker.generate(1, &ask("Hello", 5), &[]);
    worker.ping_until(|a| a.call.as_deref() == Some("axclrtSynchronizeStream"));
    worker.terminate();
    let (status, _) = worker.end();
    assert_eq!(status.code(), Some(75));
}

#[test]
fn a_damaged_file_stops_the_load_and_is_named() {
    let model = linked_model();
    let name = "model.embed_tokens.weight.bfloat16.bin";
    let (file, original) = find(model.path(), name);
    let mut bytes = fs::read(&original).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    let failure = expect_fatal(Worker::start_with(model.path(), &[]), Fault::ModelChecksum);
    assert!(failure.detail.contains(name), "{failure}");

    let worker = Worker::start_with(model.path(), &["--no-verify"]);
    worker.wait_ready();
}

#[test]
fn a_model_too_large_is_refused_before_loading_with_what_is_missing() {
    let model = linked_model();
    let (file, _) = find(model.path(), "post.axmodel");
    fs::remove_file(&file).unwrap();
    // Sparse: it takes no space on the disk.
    fs::File::create(&file).and_then(|f| f.set_len(8 << 30)).unwrap();
    let worker = Worker::start_with(model.path(), &["--no-verify"]);
    let failure = expect_fatal(worker, Fault::CardMemory);
    assert!(failure.detail.contains("are missing"), "{failure}");
}

#[test]
fn a_missing_runtime_is_named() {
    let worker = Worker::start_with(&demo_model(), &["--runtime", "/nowhere/libaxcl_rt.so"]);
    let failure = expect_fatal(worker, Fault::RuntimeOpen);
    assert!(failure.detail.contains("/nowhere/libaxcl_rt.so"), "{failure}");
}

#[test]
fn a_failing_call_in_an_answer_is_fatal_and_names_function_and_code() {
    let (mut worker, _) = Worker::ready(&[]);
    worker.arm("axclrtMemcpy", 20, &json!({ "fail": "0x8030050c" }));
    worker.generate(1, &ask("Tell me a long story.", 50), &[]);
    let failure = expect_fatal(worker, Fault::CardCall);
    assert!(failure.detail.starts_with("axclrtMemcpy("), "{failure}");
    assert!(failure.detail.contains("0x8030050c"), "{failure}");
}

#[test]
fn logits_of_a_silent_failure_are_computed_again() {
    let (mut worker, _) = Worker::ready(&[]);
    let request = ask("What is the capital of France?", 8);
    let undisturbed = worker.answer(1, &request, &[]);
    // The post engine of the third token (30 layers and it are 31 runs) writes nothing.
    let engines = 31;
    worker.arm("axclrtEngineExecuteAsync", 3 * engines, &json!({ "stale": true }));
    assert_eq!(worker.answer(2, &request, &[]).tokens, undisturbed.tokens);
    worker.control(&json!({ "clear": {} }));
    worker.arm("axclrtEngineExecuteAsync", 2 * engines, &json!({ "nan": true }));
    assert_eq!(worker.answer(3, &request, &[]).tokens, undisturbed.tokens);
}

#[test]
fn a_card_that_keeps_giving_nonsense_is_given_up() {
    let (mut worker, _) = Worker::ready(&[]);
    let rule = json!({ "fault": { "call": "axclrtEngineExecute*", "nth": 100, "times": 0, "act": { "nan": true } } });
    assert_eq!(worker.control(&rule)["ok"], true);
    worker.generate(1, &ask("Tell me a long story.", 50), &[]);
    expect_fatal(worker, Fault::CardOutput);
}

#[test]
fn a_card_that_refuses_shortcuts_is_driven_the_plain_way() {
    let (mut plain, info) = Worker::ready(&["--path", "plain"]);
    assert!(!info.copy_saving);
    let (mut saving, _) = Worker::ready(&[]);
    let mut refusing = Worker::start_refusing("axclrtEngineExecuteAsync", "0x8030070c", &[]);
    let info = refusing.wait_ready();
    assert!(!info.copy_saving && info.chunked, "{info:?}");
    // A prompt of several chunks' worth of text, then an answer.
    let long = "The lighthouse keeper counted the ships that passed. ".repeat(40);
    let request = ask(&long, 6);
    let answers = [&mut plain, &mut saving, &mut refusing].map(|w| w.answer(1, &request, &[]).tokens);
    assert!(!answers[0].is_empty());
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    let worker = Worker::start_refusing("axclrtEngineExecuteAsync", "0x8030070c", &["--path", "copy-saving"]);
    expect_fatal(worker, Fault::SelfTest);
}

#[test]
fn chunks_write_into_the_caches_where_the_self_test_proves_it() {
    // Behind five tokens one by one, through 30 layers each and the head once, come the chunks.
    let first_chunk = 5 * 30 + 1 + 1;
    let rule = json!({ "call": "axclrtEngineExecuteAsync", "nth": first_chunk, "act": { "spoil": 30 } });
    let (mut trusted, _) = Worker::ready(&[]);
    let mut doubted = Worker::start_under(&rule, &[]);
    let info = doubted.wait_ready();
    assert!(info.copy_saving && info.chunked, "{info:?}");
    let long = "The lighthouse keeper counted the ships that passed. ".repeat(20);
    let [trusted, doubted] = [&mut trusted, &mut doubted].map(|worker| {
        let answer = worker.answer(1, &ask(&long, 6), &[]);
        worker.answer(2, &ask("Hello", 1), &[]);
        let trace = worker.control(&json!({ "trace": {} }));
        let request = &trace["trace"]["requests"][0];
        assert_eq!((&request["id"], &request["ended"]), (&json!(1), &json!(true)));
        (answer, request["d2d_bytes"].as_u64().unwrap())
    });
    assert!(!trusted.0.tokens.is_empty());
    assert_eq!(trusted.0.tokens, doubted.0.tokens);
    // One hidden state for the head; K and V rows of 384 bytes for each layer and token besides.
    let tokens = u64::from(trusted.0.started.unwrap().prompt_tokens);
    assert_eq!((trusted.1, doubted.1), (1152, 1152 + tokens * 30 * 2 * 384));
}

#[test]
fn a_card_without_room_on_its_ports_is_told_from_a_missing_one() {
    let worker = Worker::start_refusing("axclrtSetDevice", "0x80300186", &[]);
    expect_fatal(worker, Fault::CardPorts);
    let worker = Worker::start_refusing("axclInit", "0x80300181", &[]);
    expect_fatal(worker, Fault::CardAbsent);
}

#[test]
fn a_dying_process_is_not_a_worker_that_says_goodbye() {
    let (mut worker, _) = Worker::ready(&[]);
    worker.arm("axclrtSynchronizeStream", 4, &json!({ "exit": 3 }));
    worker.generate(1, &ask("Tell me a long story.", 50), &[]);
    let (status, said) = worker.end();
    assert_eq!(status.code(), Some(3));
    assert!(said.iter().all(|r| matches!(
        r,
        Report::Health(_) | Report::Answer { event: Event::Started(_) | Event::Token(_), .. }
    )));
}

/// The file of the model whose name ends so, and where its bytes are.
fn find(model: &Path, ending: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    fn walk(directory: &Path, ending: &str) -> Option<std::path::PathBuf> {
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).find_map(|path| {
            if path.is_dir() {
                walk(&path, ending)
            } else {
                path.to_string_lossy().ends_with(ending).then_some(path)
            }
        })
    }
    let file = walk(model, ending).unwrap();
    let original = fs::canonicalize(&file).unwrap();
    (file, original)
}
