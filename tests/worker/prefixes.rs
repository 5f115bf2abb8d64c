//! Which conversations the card keeps.

use std::sync::Arc;

use llm8850::chat::{Event, Finish, Input, Message, Request, RequestId, Role, Started};
use llm8850::link::frame::{Command, Report};
use serde_json::json;

use crate::installed::{demo_model, runtime};
use crate::support::{Answer, Worker, ask};

const SYSTEM: &str = "You are an old coyote who lives beside the road and knows everybody who comes by. Answer \
                      in one short sentence, and never say that you are a machine.";

/// A conversation, as its client keeps it.
struct Talk {
    messages: Vec<Message>,
    answers: Vec<String>,
    topic: &'static str,
}

impl Talk {
    fn about(topic: &'static str) -> Self {
        Self { messages: vec![Message::text(Role::System, SYSTEM)], answers: Vec::new(), topic }
    }

    /// With more behind it than one chunk takes.
    fn with_a_past(topic: &'static str) -> Self {
        let mut talk = Self::about(topic);
        let past = format!("the {topic} is old. ").repeat(30);
        talk.messages.push(Message::text(Role::User, format!("What I know about the {topic}: {past}")));
        talk.messages.push(Message::text(Role::Assistant, "I see."));
        talk
    }

    fn question(&mut self) -> Request {
        let text = format!("Tell me one more thing about the {}.", self.topic);
        self.messages.push(Message::text(Role::User, text));
        Request { input: Input::Chat(self.messages.clone()), ..ask("", 12) }
    }

    fn heard(&mut self, answer: &Answer) -> Started {
        self.messages.push(Message::text(Role::Assistant, answer.text()));
        self.answers.push(answer.text());
        answer.started.unwrap()
    }

    fn turn(&mut self, worker: &mut Worker, id: u64) -> Started {
        let question = self.question();
        let answer = worker.answer(id, &question, &[]);
        self.heard(&answer)
    }
}

/// A worker whose card keeps so many conversations.
fn keeping(slots: u32, more: &str) -> Worker {
    saving(1 << 30, slots, more)
}

/// The same, and its host's memory so many bytes of those that had to leave it.
fn saving(bytes: u32, slots: u32, more: &str) -> Worker {
    let config = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    let (runtime, model) = (runtime(), demo_model());
    let text = format!(
        "[worker]\nruntime = {runtime:?}\nprefix_slots = {slots}\nsaved_bytes = {bytes}\n[model]\ndir = {model:?}\nname = \"first\"\n{more}"
    );
    std::fs::write(config.path(), text).unwrap();
    let worker = Worker::start_as(&["--config", config.path().to_str().unwrap()]);
    worker.wait_ready();
    worker
}

#[test]
fn conversations_in_turns_compute_only_what_is_new_and_answer_as_if_alone() {
    let mut worker = keeping(3, "");
    let mut talks = ["river", "moon", "road"].map(Talk::about);
    let mut before = [0; 3];
    let mut id = 0;
    for turn in 0..4 {
        for (talk, before) in talks.iter_mut().zip(&mut before) {
            id += 1;
            let Started { cached_tokens, prompt_tokens, .. } = talk.turn(&mut worker, id);
            if turn > 0 {
                // What was generated may be spelt in other tokens when it comes back.
                assert!(cached_tokens >= *before, "{cached_tokens} of {prompt_tokens}, {before} before");
            } else if id > 1 {
                assert!(cached_tokens > 30, "the beginning they share was computed again: {cached_tokens}");
            }
            *before = prompt_tokens;
        }
        // The test of the card disturbs nobody.
        worker.send(&Command::Test { model: None });
        assert!(matches!(worker.report(), Report::Tested { .. }));
    }
    let mut alone = keeping(1, "");
    for talk in talks {
        let mut again = Talk::about(talk.topic);
        for (turn, said) in talk.answers.iter().enumerate() {
            again.turn(&mut alone, 1000 + turn as u64);
            assert_eq!(&again.answers[turn], said, "turn {turn} about the {}", talk.topic);
        }
    }
}

/// Three visitors in turns, after one long first question each; what had to be computed from the second turn on.
fn visitors(worker: &mut Worker, rest: bool) -> (Vec<u32>, Vec<Vec<String>>) {
    let mut talks = ["river", "moon", "road"].map(Talk::with_a_past);
    let (mut computed, mut id) = (Vec::new(), 0);
    for turn in 0..4 {
        for talk in &mut talks {
            id += 1;
            let Started { cached_tokens, prompt_tokens, .. } = talk.turn(worker, id);
            if turn > 0 {
                computed.push(prompt_tokens - cached_tokens);
            }
            if rest {
                worker.ping_until(|activity| activity.phase == "idle");
            }
        }
    }
    (computed, talks.map(|talk| talk.answers).to_vec())
}

#[test]
fn conversations_that_had_to_leave_the_card_come_back_from_the_host() {
    let (cold, alone) = visitors(&mut saving(0, 1, ""), false);
    assert!(cold.iter().all(|&computed| computed > 180), "{cold:?}");
    for rest in [false, true] {
        let (computed, answers) = visitors(&mut saving(1 << 30, 1, ""), rest);
        assert!(computed.iter().all(|&computed| computed < 60), "{computed:?}");
        assert_eq!(answers, alone);
    }
}

/// Cancels request `id` while rows move for it, each layer's slowly: the rest of them stay where they are.
fn cancel_while_rows_move(worker: &mut Worker, id: u64) {
    worker.ping_until(|a| a.call.as_deref() == Some("axclrtMemcpy") && a.since_ms > 20);
    worker.control(&json!({ "trace": { "reset": true } }));
    worker.send(&Command::Cancel { id: RequestId(id) });
    let answer = worker.rest(id);
    let done = answer.done.unwrap();
    assert_eq!((answer.tokens.len(), done.finish), (0, Finish::Cancelled));
    assert_eq!((answer.started.unwrap().cached_tokens, done.usage.cached_tokens), (0, 0));
    let trace = worker.control(&json!({ "trace": {} }));
    let copies = trace["trace"]["total"]["functions"]["axclrtMemcpy"].as_u64().unwrap_or(0);
    // Of two for each of 30 layers.
    assert!(copies < 30, "{copies} more copies");
    worker.control(&json!({ "clear": {} }));
}

#[test]
fn a_request_is_cancelled_while_rows_move_for_it_and_nothing_is_lost() {
    let slow = json!({ "fault": { "call": "axclrtMemcpy", "times": 0, "act": { "hang_ms": 100 } } });
    let mut worker = saving(1 << 30, 1, "");
    let mut talk = Talk::with_a_past("river");
    // Before the next can be answered its rows are saved; that it waits already leaves no time to do so ahead.
    worker.generate(1, &talk.question(), &[]);
    worker.generate(2, &Talk::with_a_past("moon").question(), &[]);
    let Event::Started(started) = worker.event(1) else { panic!("no Started first") };
    assert_eq!(worker.control(&slow)["ok"], true);
    let answer = Answer { started: Some(started), ..worker.rest(1) };
    talk.heard(&answer);
    cancel_while_rows_move(&mut worker, 2);
    let Started { cached_tokens, prompt_tokens, .. } = talk.turn(&mut worker, 3);
    assert!(prompt_tokens - cached_tokens < 60, "{cached_tokens} of {prompt_tokens}");
    // Too short to be saved: the conversation's rows are brought back at once.
    worker.answer(4, &ask("Hello", 1), &[]);
    assert_eq!(worker.control(&slow)["ok"], true);
    let question = talk.question();
    worker.generate(5, &question, &[]);
    cancel_while_rows_move(&mut worker, 5);
    let answer = worker.answer(6, &question, &[]);
    let Started { cached_tokens, prompt_tokens, .. } = talk.heard(&answer);
    assert!(prompt_tokens - cached_tokens < 60, "{cached_tokens} of {prompt_tokens}");

    let (mut alone, mut again) = (saving(0, 1, ""), Talk::with_a_past("river"));
    for id in 1..4 {
        again.turn(&mut alone, id);
    }
    assert_eq!(talk.answers, again.answers);
}

#[test]
fn the_prompt_behind_a_cut_is_computed_before_it_comes() {
    let mut worker = keeping(2, "");
    let mut talk = Talk::about("weather");
    let (mut dropped, mut cuts) = (0, 0);
    for id in 1..30 {
        let mut question = talk.question();
        question.limits.context = Some(256);
        let answer = worker.answer(id, &question, &[]);
        let started = talk.heard(&answer);
        if started.dropped_messages > dropped {
            (dropped, cuts) = (started.dropped_messages, cuts + 1);
            // All but the new question and what the template puts around it.
            let computed = started.prompt_tokens - started.cached_tokens;
            assert!(computed < 40, "{computed} of {} tokens", started.prompt_tokens);
        }
        // Nobody asks before the card is done.
        worker.ping_until(|activity| activity.phase == "idle");
    }
    assert!(cuts >= 3, "{cuts} cuts");
}

#[test]
fn requests_that_follow_at_once_and_a_stop_are_obeyed() {
    let mut worker = keeping(2, "");
    let mut talk = Talk::about("weather");
    for id in 1..20 {
        let mut question = talk.question();
        question.limits.context = Some(256);
        // The next request comes before there is time for anything else.
        worker.generate(2 * id, &ask("Hello", 1), &[]);
        worker.generate(2 * id + 1, &question, &[]);
        worker.generate(1000 + id, &ask("Hello", 1), &[]);
        assert_eq!(worker.rest(2 * id).tokens.len(), 1);
        let answer = worker.rest(2 * id + 1);
        talk.heard(&answer);
        assert_eq!(worker.rest(1000 + id).tokens.len(), 1);
    }
    worker.send(&Command::Stop);
    assert_eq!(worker.end().0.code(), Some(0));
}

#[test]
fn a_new_worker_is_given_the_conversations_of_the_one_before() {
    let mut before = keeping(2, "");
    let mut talks = ["river", "moon"].map(Talk::about);
    let mut warm = Vec::new();
    for (id, talk) in (1..).zip(&mut talks) {
        let request = talk.question();
        let answer = before.answer(id, &request, &[]);
        talk.heard(&answer);
        warm.push(Command::Warm { request: Arc::new(request), resume: answer.ids() });
    }
    drop(before);
    let mut worker = keeping(2, "");
    for command in &warm {
        let calls = worker.ping(0).progress;
        worker.send(command);
        // Asking the card how it is takes a few calls, too.
        worker.ping_until(|activity| activity.phase == "idle" && activity.progress > calls + 20);
    }
    worker.send(&Command::Test { model: None });
    assert!(matches!(worker.report(), Report::Tested { .. }));
    for (id, talk) in (1..).zip(&mut talks) {
        let Started { cached_tokens, prompt_tokens, .. } = talk.turn(&mut worker, id);
        assert!(prompt_tokens - cached_tokens < 40, "{cached_tokens} of {prompt_tokens}");
    }
    // A request right behind them is answered all the same.
    let mut other = keeping(2, "");
    warm.iter().for_each(|command| other.send(command));
    assert_eq!(other.answer(9, &ask("Hello", 3), &[]).tokens.len(), 3);
}

#[test]
fn for_another_model_conversations_are_given_up_before_models() {
    let more = format!("[[model.others]]\ndir = {:?}\nname = \"second\"\n", demo_model());
    let mut worker = keeping(3, &more);
    let mut talks = ["river", "moon"].map(Talk::about);
    for (id, talk) in (1..).zip(&mut talks) {
        talk.turn(&mut worker, id);
    }
    // The card's memory is short, once.
    worker.arm("axclrtMalloc", 1, &json!({ "fail": "0x8030050c" }));
    worker.send(&Command::Load { model: "second".into(), evict: vec!["first".into()] });
    loop {
        match worker.report() {
            Report::Loading { .. } => {}
            Report::Added(info) => break assert_eq!(info.name, "second"),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let [older, newer] = &mut talks;
    let kept = newer.turn(&mut worker, 3);
    assert!(kept.prompt_tokens - kept.cached_tokens < 40, "{kept:?}");
    // Of the other conversation nothing but what both begin with.
    let forgotten = older.turn(&mut worker, 4);
    assert!(forgotten.cached_tokens < kept.cached_tokens, "{forgotten:?}");
    assert!(forgotten.cached_tokens > 30, "{forgotten:?}");
}
