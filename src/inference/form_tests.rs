//! Answers that must have a form: whatever the model would rather say.

use serde_json::{Value, json};

use super::tests::{answer, answer_within, joined, request, script};
use super::*;
use crate::chat::{CallPiece, Format, Request, Sampling, Think, Tool, ToolChoice, Tools};

/// A request whose answer is drawn from noise.
fn noisy(seed: u64, max_tokens: u32) -> Request {
    let sampling = Sampling { temperature: Some(1.0), seed: Some(seed), ..Sampling::default() };
    request(sampling, Some(max_tokens))
}

fn form(format: Format, seed: u64, max_tokens: u32) -> (String, Done) {
    let request = Request { format, ..noisy(seed, max_tokens) };
    let (tokens, done) = answer(&request, &[], &[]);
    (joined(&tokens, &done).1, done)
}

fn calls(tokens: &[Token], done: &Done) -> Vec<CallPiece> {
    let mut all: Vec<CallPiece> = Vec::new();
    for piece in tokens.iter().map(|t| &t.delta).chain([&done.tail]).flat_map(|delta| &delta.calls) {
        match piece.name {
            Some(_) => all.push(piece.clone()),
            None => all.last_mut().unwrap().arguments.push_str(&piece.arguments),
        }
    }
    all
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "mood": {"enum": ["glad", "sad", "größer 日本"]},
            "friends": {"type": "array", "items": {"$ref": "#/$defs/friend"}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "age", "mood", "friends"],
        "additionalProperties": false,
        "$defs": {"friend": {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 10}, "near": {"type": "boolean"}},
            "required": ["name", "near"],
            "additionalProperties": false,
        }},
    })
}

#[test]
fn noise_becomes_json_of_the_schema() {
    for seed in 0..60 {
        let (text, done) = form(Format::Schema(person()), seed, 220);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{seed}: {e}: {text}"));
        assert!((0..=150).contains(&value["age"].as_i64().unwrap()), "{text}");
        assert!(["glad", "sad", "größer 日本"].contains(&value["mood"].as_str().unwrap()), "{text}");
        let friends = value["friends"].as_array().unwrap();
        assert!((1..=3).contains(&friends.len()), "{text}");
        assert!(friends.iter().all(|f| f["near"].is_boolean() && f["name"].as_str().unwrap().len() <= 40));
        assert_eq!(value.as_object().unwrap().len(), 4, "{text}");
        assert_eq!(done.finish, Finish::Stop, "{text}");
    }
}

#[test]
fn any_object_will_do_where_no_schema_is_given() {
    for seed in 0..40 {
        let (text, done) = form(Format::Json, seed, 120);
        // Numbers may be larger than any type holds.
        serde_json::from_str::<serde::de::IgnoredAny>(&text)
            .unwrap_or_else(|e| panic!("{seed}: {e}: {text}"));
        assert!(text.starts_with('{') && done.finish == Finish::Stop, "{text}");
    }
}

#[test]
fn a_schema_that_cannot_be_held_to_is_refused() {
    for schema in [
        json!({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/none"}}, "required": ["a"]}),
        json!({"type": "nonsense"}),
        json!({"allOf": [{"type": "string"}, {"type": "number"}]}),
        json!({"type": "string", "pattern": "("}),
    ] {
        let request = Request { format: Format::Schema(schema.clone()), ..noisy(1, 20) };
        let (_, package) = &*super::tests::PACKAGE;
        let prepared = crate::inference::prepare(package.text(), &Sampling::default(), &request, 512, &[]);
        match prepared {
            Err(failure) => assert_eq!(failure.fault, Fault::RequestInvalid, "{schema}"),
            Ok(_) => panic!("{schema} was taken"),
        }
    }
}

#[test]
fn thinking_comes_before_the_form() {
    let request = Request { think: Think::On, format: Format::Json, ..noisy(3, 200) };
    let script = script("<think>\nhm\n</think>\n\n{\"a\": 1}");
    let greedy = Request { sampling: Sampling { temperature: Some(0.0), ..Sampling::default() }, ..request };
    let (tokens, done) = answer(&greedy, &script, &[]);
    assert_eq!(joined(&tokens, &done), ("hm".to_owned(), "{\"a\": 1}".to_owned()));
}

fn tools(choice: ToolChoice, single: bool) -> Tools {
    let parameters =
        json!({"properties": {"who": {"type": "string"}, "n": {"type": "integer"}}, "required": ["who"]});
    let tool =
        |name: &str| Tool { name: name.into(), description: String::new(), parameters: parameters.clone() };
    Tools { list: vec![tool("meet"), tool("leave \"it\"")], choice, single }
}

#[test]
fn a_demanded_call_is_made_whatever_the_model_would_say() {
    let mut named = [0, 0];
    for seed in 0..30 {
        let request = Request { tools: tools(ToolChoice::Required, true), ..noisy(seed, 120) };
        let (tokens, done) = answer_within(1024, &request, &[], &[]);
        let calls = calls(&tokens, &done);
        assert_eq!((calls.len(), done.finish), (1, Finish::ToolCalls), "{calls:?}");
        assert_eq!(joined(&tokens, &done).1, "");
        let arguments: Value = serde_json::from_str(&calls[0].arguments).unwrap();
        assert!(arguments["who"].is_string());
        named[usize::from(calls[0].name.as_deref() != Some("meet"))] += 1;
    }
    assert!(named.iter().all(|&times| times > 0), "{named:?}");
}

#[test]
fn a_named_tool_is_the_one_that_is_called() {
    let name = "leave \"it\"".to_owned();
    let request = Request { tools: tools(ToolChoice::Named(name.clone()), false), ..noisy(5, 120) };
    let (tokens, done) = answer_within(1024, &request, &[], &[]);
    assert_eq!(calls(&tokens, &done)[0].name, Some(name));
}

#[test]
fn where_the_model_decides_it_may_speak_call_or_both() {
    let greedy = Sampling { temperature: Some(0.0), ..Sampling::default() };
    let request = Request { tools: tools(ToolChoice::Auto, false), ..request(greedy, Some(400)) };
    let (tokens, done) = answer_within(1024, &request, &script("No need."), &[]);
    assert_eq!((joined(&tokens, &done).1.as_str(), done.finish), ("No need.", Finish::Stop));
    let call = "I look.\n<tool_call>\n{\"name\": \"meet\", \"arguments\": {\"who\": \"Al\", \"n\": 3}}\n</tool_call>";
    let (tokens, done) = answer_within(1024, &request, &script(call), &[]);
    let got = calls(&tokens, &done);
    assert_eq!((joined(&tokens, &done).1.as_str(), done.finish), ("I look.", Finish::ToolCalls));
    let arguments: Value = serde_json::from_str(&got[0].arguments).unwrap();
    assert_eq!((&arguments["who"], &arguments["n"]), (&json!("Al"), &json!(3)));
    // What would not fit the tool's schema is turned into what does.
    let wrong = "<tool_call>\n{\"name\": \"other\", \"arguments\": [";
    let (tokens, done) = answer_within(1024, &request, &script(wrong), &[]);
    let got = calls(&tokens, &done);
    assert!(matches!(got[0].name.as_deref(), Some("meet" | "leave \"it\"")));
    assert!(serde_json::from_str::<Value>(&got[0].arguments).unwrap().is_object());
}

#[test]
fn an_interrupted_form_goes_on_where_it_stopped() {
    let request = Request { format: Format::Schema(person()), ..noisy(11, 220) };
    let (whole, done) = answer(&request, &[], &[]);
    let ids: Vec<TokenId> = whole.iter().map(|token| token.id).collect();
    for cut in [1, ids.len() / 2, ids.len() - 1] {
        let (rest, end) = answer(&request, &[], &ids[..cut]);
        assert_eq!(rest, whole[cut..], "cut at {cut}");
        assert_eq!((end.finish, end.tail), (done.finish, done.tail.clone()));
    }
}
