use super::*;
use crate::chat::Limits;
use crate::model::{ModelDir, fixture};
use std::sync::LazyLock;

static PACKAGE: LazyLock<(tempfile::TempDir, ModelDir)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let package = fixture::package(dir.path(), None);
    (dir, package)
});

fn chat(messages: Vec<Message>, limits: Limits) -> Request {
    Request { limits, ..Request::new(Input::Chat(messages)) }
}

fn prepared(request: &Request, context: u32) -> Result<Prepared> {
    prepare(PACKAGE.1.text(), &Sampling::default(), request, context, &[])
}

fn text_of(prompt: &[TokenId]) -> String {
    let pieces = PACKAGE.1.text().pieces();
    let bytes: Vec<u8> = prompt.iter().flat_map(|&t| pieces.bytes(t)).copied().collect();
    String::from_utf8(bytes).unwrap()
}

/// Messages of 20 bytes, numbered: user and assistant in turn, after a system message.
fn history(turns: u32) -> Vec<Message> {
    let mut list = vec![Message::text(Role::System, "Be brief.")];
    for n in 0..turns {
        let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
        list.push(Message::text(role, format!("message number {n:05}")));
    }
    list
}

#[test]
fn a_conversation_that_fits_is_whole() {
    let ready = prepared(&chat(history(3), Limits::default()), 1000).unwrap();
    assert_eq!(ready.dropped_messages, 0);
    assert!(
        text_of(&ready.prompt).starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    );
    assert!(text_of(&ready.prompt).ends_with("00002<|im_end|>\n<|im_start|>assistant\n"));
    assert!(ready.finished.is_none());
}

#[test]
fn a_long_conversation_keeps_system_and_newest_and_most_of_the_prefix() {
    let context = 800;
    let (mut last_cut, mut moves, mut reused) = (0, 0, 0);
    let mut before: Vec<TokenId> = Vec::new();
    for turns in (1..121).step_by(2) {
        let ready = prepared(&chat(history(turns), Limits::default()), context).unwrap();
        assert!(ready.prompt.len() <= 600, "{} tokens leave no room", ready.prompt.len());
        let text = text_of(&ready.prompt);
        assert!(text.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"), "{text}");
        assert!(text.ends_with(&format!("{:05}<|im_end|>\n<|im_start|>assistant\n", turns - 1)));
        assert!(ready.dropped_messages >= last_cut && ready.dropped_messages.is_multiple_of(2));
        if ready.dropped_messages == last_cut {
            // All but the generation prompt comes again, then the new turn.
            let common = before.iter().zip(&ready.prompt).take_while(|(a, b)| a == b).count();
            assert!(common + 2 >= before.len(), "{common} of {}", before.len());
            reused += 1;
        } else {
            moves += 1;
        }
        last_cut = ready.dropped_messages;
        before = ready.prompt;
    }
    assert!(last_cut > 80);
    assert!(moves < 25 && reused > 34, "moved {moves} times, reused {reused} times");
}

#[test]
fn a_conversation_is_cut_where_its_prompt_would_be_read_slowly_but_never_its_newest_turn() {
    let window = Window { context: 2000, quick: 700 };
    let prepared = |messages| {
        let request = chat(messages, Limits { max_tokens: Some(10), ..Limits::default() });
        prepare(PACKAGE.1.text(), &Sampling::default(), &request, window, &[]).unwrap()
    };
    let long = prepared(history(61));
    assert!(long.dropped_messages > 0 && long.prompt.len() <= 700, "{}", long.prompt.len());
    let one = prepared(vec![Message::text(Role::User, "x".repeat(1500))]);
    assert_eq!((one.dropped_messages, one.prompt.len() > 1500), (0, true));
    let mut newest = history(3);
    newest.push(Message::text(Role::Assistant, "yes"));
    newest.push(Message::text(Role::User, "x".repeat(1500)));
    let newest = prepared(newest);
    assert!(newest.dropped_messages == 4 && newest.prompt.len() > 1500, "{}", newest.dropped_messages);
}

#[test]
fn a_single_message_that_is_too_long_keeps_its_end() {
    let mut long = "x".repeat(5000);
    long.push_str(" and what now? é");
    let ready = prepared(&chat(vec![Message::text(Role::User, long)], Limits::default()), 400).unwrap();
    assert!((250..=300).contains(&ready.prompt.len()), "{}", ready.prompt.len());
    assert!(text_of(&ready.prompt).contains("xx and what now? é<|im_end|>"));
}

#[test]
fn a_system_message_that_is_too_long_keeps_its_beginning() {
    let system = format!("You are a poet.{}", "y".repeat(5000));
    let list = vec![Message::text(Role::System, system), Message::text(Role::User, "A poem!")];
    let ready = prepared(&chat(list, Limits::default()), 400).unwrap();
    let text = text_of(&ready.prompt);
    assert!(text.contains("system\nYou are a poet.yy") && text.contains("A poem!"), "{text}");
    assert!(ready.prompt.len() <= 300);
}

#[test]
fn refusal_is_possible_and_says_by_how_much() {
    let limits = Limits { overflow: Overflow::Error, ..Limits::default() };
    let failure = prepared(&chat(history(41), limits.clone()), 800).err().unwrap();
    assert_eq!(failure.fault, Fault::ContextLength);
    assert!(failure.detail.contains("exceeds the available context size of 800"), "{}", failure.detail);
    assert!(prepared(&chat(history(5), limits), 800).is_ok());
    // A context that holds not even the template's own marks.
    let failure = prepared(&chat(history(1), Limits::default()), 8).err().unwrap();
    assert_eq!(failure.fault, Fault::ContextLength);
}

#[test]
fn a_request_may_use_less_context_and_reserve_less_for_its_answer() {
    let small = Limits { context: Some(400), max_tokens: Some(10), ..Limits::default() };
    let ready = prepared(&chat(history(61), small), 8000).unwrap();
    assert!((250..=390).contains(&ready.prompt.len()), "{}", ready.prompt.len());
}

#[test]
fn raw_prompts_are_taken_as_they_are_and_lose_their_beginning_in_steps() {
    let raw = |n: usize| Request {
        input: Input::Raw(format!("<|im_start|>{}!", "z".repeat(n))),
        ..chat(Vec::new(), Limits::default())
    };
    let short = prepared(&raw(10), 400).unwrap();
    assert_eq!(short.prompt.first(), Some(&fixture::START));
    assert_eq!(short.prompt.len(), 12);
    for n in [300, 350, 398, 399, 900] {
        let long = prepared(&raw(n), 400).unwrap();
        assert!(
            long.prompt.len() <= 300 && (n + 2 - long.prompt.len()).is_multiple_of(100),
            "{}",
            long.prompt.len()
        );
        assert!(text_of(&long.prompt).ends_with("zz!"));
    }
}

#[test]
fn requests_without_words_are_refused() {
    assert_eq!(
        prepared(&chat(Vec::new(), Limits::default()), 400).err().unwrap().fault,
        Fault::RequestInvalid
    );
    let empty = Request { input: Input::Raw(String::new()), ..chat(Vec::new(), Limits::default()) };
    assert_eq!(prepared(&empty, 400).err().unwrap().fault, Fault::RequestInvalid);
}

#[test]
fn thinking_is_switched_off_by_the_prompt() {
    let request = Request { think: Think::Off, ..chat(history(1), Limits::default()) };
    let ready = prepared(&request, 400).unwrap();
    assert!(text_of(&ready.prompt).ends_with("assistant\n<think>\n\n</think>\n\n"));
}

/// What the next prompt begins with whatever is asked, and the whole of one.
fn continued(
    package: &ModelDir,
    request: &Request,
    context: u32,
    said: &str,
) -> (Vec<TokenId>, Vec<TokenId>) {
    let said = Delta { content: said.into(), ..Delta::default() };
    let ahead = continuation(package.text(), request, context, &said).unwrap();
    let Input::Chat(messages) = &request.input else { panic!("no conversation") };
    let more =
        [Message::text(Role::Assistant, said.content), Message::text(Role::User, "And then? Pray go on.")];
    let next = chat([messages.as_slice(), &more].concat(), request.limits.clone());
    let next = prepare(package.text(), &Sampling::default(), &next, context, &[]).unwrap().prompt;
    (ahead, next)
}

#[test]
fn the_next_prompt_is_known_up_to_its_question() {
    for template in [None, Some("qwen3"), Some("qwen2_5"), Some("llama3"), Some("mistral"), Some("gemma")] {
        let dir = tempfile::tempdir().unwrap();
        let read = |name| {
            let path = format!("{}/tests/templates/{name}.jinja", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        let package = fixture::package(dir.path(), template.map(read).as_deref());
        let request = chat(history(3)[1..].to_vec(), Limits::default());
        let (ahead, next) = continued(&package, &request, 4000, "an answer");
        assert!(next.starts_with(&ahead), "{template:?}");
        let now = prepare(package.text(), &Sampling::default(), &request, 4000, &[]).unwrap();
        assert!(next.starts_with(&now.prompt[..now.prompt.len() - now.cue]), "{template:?}: {}", now.cue);
        let text = text_of(&ahead);
        assert!(text.contains("an answer"), "{template:?}: {text}");
        assert!(text_of(&next[ahead.len()..]).starts_with("And then?"), "{template:?}: {text}");
    }
}

#[test]
fn the_next_prompt_is_known_where_it_will_be_cut() {
    let mut cuts = 0;
    for turns in (1..121).step_by(2) {
        let request = chat(history(turns), Limits::default());
        let now = prepared(&request, 800).unwrap();
        let (ahead, next) = continued(&PACKAGE.1, &request, 800, "message number 00000");
        assert!(next.starts_with(&ahead), "{} of {}", ahead.len(), next.len());
        cuts += u32::from(!ahead.starts_with(&now.prompt[..now.prompt.len().min(100)]));
    }
    assert!(cuts > 3, "{cuts}");
}

#[test]
fn nothing_is_known_of_what_follows_a_call_a_long_message_or_a_text() {
    let call = crate::chat::CallPiece { index: 0, name: Some("look".into()), arguments: "{}".into() };
    let said = Delta { calls: vec![call], ..Delta::default() };
    let text = PACKAGE.1.text();
    assert_eq!(continuation(text, &chat(history(3), Limits::default()), 1000, &said), None);
    let long = chat(vec![Message::text(Role::User, "x".repeat(LONG_MESSAGE + 1))], Limits::default());
    assert_eq!(continuation(text, &long, 100_000, &Delta::default()), None);
    let raw = Request::new(Input::Raw("Once".into()));
    assert_eq!(continuation(text, &raw, 1000, &Delta::default()), None);
}
