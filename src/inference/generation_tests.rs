use super::*;
use crate::chat::{Input, Limits, Message, Request, Role, Sampling};
use crate::inference::prepare;
use crate::model::{ModelDir, fixture};
use half::bf16;
use proptest::prelude::*;
use std::sync::LazyLock;

pub(super) static PACKAGE: LazyLock<(tempfile::TempDir, ModelDir)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let package = fixture::package(dir.path(), None);
    (dir, package)
});

pub(super) fn request(sampling: Sampling, max_tokens: Option<u32>) -> Request {
    Request {
        sampling,
        limits: Limits { max_tokens, ..Limits::default() },
        logprobs: Some(2),
        ..Request::new(Input::Chat(vec![Message::text(Role::User, "hi")]))
    }
}

/// Logits that depend on everything before them, as a model's do.
fn logits(history: &[TokenId], script: &[TokenId]) -> Vec<bf16> {
    let mut state = history.iter().fold(0x9e37_79b9_7f4a_7c15u64, |s, &t| {
        (s ^ u64::from(t)).wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(29)
    });
    let wanted = script.get(history.len()).copied();
    (0..fixture::VOCABULARY)
        .map(|id| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 40) as f32 / (1u64 << 22) as f32;
            bf16::from_f32(if Some(id) == wanted { 12.0 + noise } else { noise })
        })
        .collect()
}

/// Everything an answer consists of, from `resume` on.
pub(super) fn answer(request: &Request, script: &[TokenId], resume: &[TokenId]) -> (Vec<Token>, Done) {
    answer_within(512, request, script, resume)
}

pub(super) fn answer_within(
    context: u32,
    request: &Request,
    script: &[TokenId],
    resume: &[TokenId],
) -> (Vec<Token>, Done) {
    let (_, package) = &*PACKAGE;
    let mut prepared = prepare(package.text(), &Sampling::default(), request, context, resume).unwrap();
    let mut history = resume.to_vec();
    let mut tokens = Vec::new();
    if let Some(done) = prepared.finished {
        return (tokens, done);
    }
    loop {
        match prepared.generation.next(&logits(&history, script).into()).unwrap() {
            Step::Token(token) => {
                history.push(token.id);
                tokens.push(token);
            }
            Step::Last(token, done) => {
                tokens.push(token);
                return (tokens, done);
            }
            Step::Done(done) => return (tokens, done),
        }
    }
}

pub(super) fn script(text: &str) -> Vec<TokenId> {
    let mut ids = PACKAGE.1.text().encode(text, false).unwrap();
    ids.push(fixture::END);
    ids
}

pub(super) fn joined(tokens: &[Token], done: &Done) -> (String, String) {
    let deltas = || tokens.iter().map(|t| &t.delta).chain([&done.tail]);
    (deltas().map(|d| d.reasoning.as_str()).collect(), deltas().map(|d| d.content.as_str()).collect())
}

fn greedy(stop: &[&str]) -> Sampling {
    Sampling {
        temperature: Some(0.0),
        stop: stop.iter().map(|s| (*s).to_owned()).collect(),
        ..Sampling::default()
    }
}

#[test]
fn an_answer_ends_with_its_end_token() {
    let (tokens, done) = answer(&request(greedy(&[]), None), &script("the café 日本"), &[]);
    assert_eq!(joined(&tokens, &done), (String::new(), "the café 日本".to_owned()));
    assert_eq!(done.finish, Finish::Stop);
    assert_eq!(done.usage.completion_tokens as usize, tokens.len() + 1);
    assert_eq!(done.logprobs.unwrap().chosen.id, fixture::END);
    assert!(tokens.iter().enumerate().all(|(i, t)| t.index as usize == i));
    assert_eq!(tokens[0].logprobs.as_ref().unwrap().chosen.bytes, b"the");
}

#[test]
fn a_stop_string_ends_it_across_tokens_and_is_never_sent() {
    let (tokens, done) = answer(&request(greedy(&["nice th", "#"]), None), &script("so nice the end"), &[]);
    // The token "the" completes the stop string.
    assert_eq!(joined(&tokens, &done).1, "so ");
    assert_eq!(done.finish, Finish::Stop);
    assert_eq!(done.usage.completion_tokens as usize, tokens.len());
}

#[test]
fn a_limit_flushes_what_was_held() {
    let (tokens, done) = answer(&request(greedy(&["abcdef"]), Some(5)), &script("xyabc"), &[]);
    assert_eq!(joined(&tokens, &done).1, "xyabc");
    assert_eq!(done.tail.content, "abc");
    assert_eq!(done.finish, Finish::Length);
    assert_eq!(answer(&request(greedy(&[]), Some(0)), &script("x"), &[]).1.finish, Finish::Length);
}

#[test]
fn the_context_is_a_limit() {
    let long: Vec<TokenId> = vec![u32::from(b'a'); 600];
    let (tokens, done) = answer(&request(greedy(&[]), None), &long, &[]);
    assert_eq!(done.finish, Finish::Length);
    assert_eq!(done.usage.prompt_tokens as usize + tokens.len(), 512);
}

#[test]
fn reasoning_is_separated_counted_and_exempt_from_stop_strings() {
    let (tokens, done) =
        answer(&request(greedy(&["#"]), None), &script("<think>\n# one\n</think>\n\nyes # no"), &[]);
    assert_eq!(joined(&tokens, &done), ("# one".to_owned(), "yes ".to_owned()));
    // The block's nine tokens: markers, newlines and text.
    assert_eq!(done.usage.reasoning_tokens, 9);
}

#[test]
fn impossible_logits_are_a_fault() {
    let (_, package) = &*PACKAGE;
    let mut prepared =
        prepare(package.text(), &Sampling::default(), &request(greedy(&[]), None), 512, &[]).unwrap();
    let generation = &mut prepared.generation;
    assert_eq!(generation.next(&vec![bf16::ONE; 3].into()).unwrap_err().fault, Fault::CardOutput);
    let mut broken = vec![bf16::ONE; 320];
    broken[200] = bf16::NAN;
    assert_eq!(generation.next(&broken.into()).unwrap_err().fault, Fault::CardOutput);
}

#[test]
fn a_resumed_end_is_finished() {
    let request = request(greedy(&["#"]), None);
    let (tokens, done) = answer(&request, &script("ab#"), &[]);
    let ids: Vec<TokenId> = tokens.iter().map(|t| t.id).collect();
    assert_eq!(answer(&request, &[], &ids), (Vec::new(), done));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_answer_resumed_anywhere_is_the_uninterrupted_one(
        text in "(<think>\n[a-c é日]{0,8}</think>\n\n)?[a-e é日#]{0,30}",
        noisy in any::<bool>(),
        stop in proptest::collection::vec("[a-e]{1,3}", 0..3),
        max_tokens in 1u32..40,
        seed in any::<u64>(),
    ) {
        let sampling = Sampling {
            temperature: Some(if noisy { 1.3 } else { 0.2 }),
            top_p: Some(0.9),
            repeat_penalty: Some(1.3),
            frequency_penalty: Some(0.2),
            seed: Some(seed),
            stop,
            ..Sampling::default()
        };
        let request = request(sampling, Some(max_tokens));
        // Without a script the model babbles: bytes that are no characters, unused ids.
        let script = if noisy { Vec::new() } else { script(&text) };
        let (tokens, done) = answer(&request, &script, &[]);
        let ids: Vec<TokenId> = tokens.iter().map(|t| t.id).collect();
        for k in 0..=ids.len() {
            let (rest, end) = answer(&request, &script, &ids[..k]);
            prop_assert_eq!(&rest[..], &tokens[k..], "after {}", k);
            prop_assert_eq!(&end, &done, "after {}", k);
        }
    }
}
