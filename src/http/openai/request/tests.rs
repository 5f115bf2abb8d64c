use serde_json::{Value, json};

use super::*;
use crate::chat::{Message, Role};

fn with(extra: Value) -> Result<ChatRequest, ApiError> {
    let mut body = json!({"model": "any", "messages": [{"role": "user", "content": "Hi"}]});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    parse(body.to_string().as_bytes(), 10, None)
}

fn messages(list: Value) -> Result<Vec<Message>, ApiError> {
    with(json!({"messages": list})).map(|chat| match chat.request.input {
        Input::Chat(messages) => messages,
        Input::Raw(_) | Input::Nothing => unreachable!(),
    })
}

#[test]
fn the_first_clients_request_is_understood() {
    let chat = with(json!({
        "temperature": 0.9, "max_tokens": 125, "top_p": 0.95, "frequency_penalty": 0,
        "presence_penalty": 0, "stop": null,
    }))
    .unwrap();
    let sampling = &chat.request.sampling;
    assert_eq!((sampling.temperature, sampling.top_p), (Some(0.9), Some(0.95)));
    assert_eq!((sampling.frequency_penalty, sampling.presence_penalty), (Some(0.0), Some(0.0)));
    assert_eq!((sampling.stop.len(), chat.request.limits.max_tokens), (0, Some(125)));
    assert!(!chat.stream);
}

#[test]
fn every_parameter_may_be_null() {
    let names = [
        "temperature",
        "top_p",
        "n",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "seed",
        "logprobs",
        "top_logprobs",
        "user",
        "stream",
        "stream_options",
        "response_format",
        "tools",
        "functions",
        "tool_choice",
        "top_k",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "repetition_penalty",
        "repeat_last_n",
        "enable_thinking",
        "chat_template_kwargs",
        "reasoning_effort",
        "modalities",
    ];
    let nulls: Value = names.iter().map(|name| (name.to_string(), Value::Null)).collect();
    assert_eq!(with(nulls).unwrap(), with(json!({})).unwrap());
}

#[test]
fn every_parameter_has_its_effect() {
    let chat = with(json!({
        "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 5,
        "max_completion_tokens": 7.0, "top_k": 40, "min_p": 0.05, "typical_p": 0.9,
        "repetition_penalty": 1.1, "repeat_last_n": -1, "logit_bias": {"50256": -100, "7": 1.5},
        "logprobs": true, "top_logprobs": 3, "stop": ["#", "", "["], "seed": 11,
        "reasoning_effort": "none", "user": "someone", "n": 3, "tools": [], "tool_choice": "auto",
        "response_format": {"type": "text"}, "modalities": ["text"], "unknown": {"x": [1]},
    }))
    .unwrap();
    assert!(chat.stream && chat.include_usage);
    assert_eq!((chat.n, chat.model.as_str()), (3, "any"));
    let request = chat.request;
    assert_eq!((request.limits.max_tokens, request.logprobs, request.think), (Some(7), Some(3), Think::Off));
    let expected = Sampling {
        top_k: Some(40),
        min_p: Some(0.05),
        typical_p: Some(0.9),
        repeat_penalty: Some(1.1),
        repeat_last_n: Some(-1),
        logit_bias: vec![(50256, -100.0), (7, 1.5)],
        seed: Some(11),
        stop: vec!["#".into(), "[".into()],
        ..Sampling::default()
    };
    assert_eq!(request.sampling, expected);
}

#[test]
fn a_deployment_stands_for_a_model_that_is_not_named() {
    let body =
        |model: Value| json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).to_string();
    let model = |named| parse(body(named).as_bytes(), 10, Some("coyote")).unwrap().model;
    assert_eq!((model(json!(null)), model(json!("other"))), ("coyote".into(), "other".into()));
}

#[test]
fn any_whole_number_is_a_seed() {
    for (text, seed) in [
        ("0", 0),
        ("-1", u64::MAX),
        ("18446744073709551615", u64::MAX),
        ("42.0", 42),
        ("1e30", 1e30f64.to_bits()),
    ] {
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(with(json!({"seed": value})).unwrap().request.sampling.seed, Some(seed), "{text}");
    }
}

#[test]
fn thinking_is_switched_in_three_ways() {
    for (extra, think) in [
        (json!({}), Think::Default),
        (json!({"enable_thinking": false}), Think::Off),
        (json!({"chat_template_kwargs": {"enable_thinking": true, "other": 1}}), Think::On),
        (json!({"reasoning_effort": "high"}), Think::On),
        (json!({"enable_thinking": false, "reasoning_effort": "high"}), Think::Off),
    ] {
        assert_eq!(with(extra.clone()).unwrap().request.think, think, "{extra}");
    }
}

#[test]
fn messages_of_every_role_and_form_are_read() {
    let read = messages(json!([
        {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "developer", "content": "c"},
        {"role": "user", "content": "", "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
        {"role": "tool", "content": "7", "tool_call_id": "1"},
        {"role": "assistant", "content": "d", "reasoning_content": "hm", "refusal": null},
    ]))
    .unwrap();
    let roles: Vec<Role> = read.iter().map(|m| m.role).collect();
    use Role::{Assistant, Developer, System, Tool, User};
    assert_eq!(roles, [System, Developer, User, Assistant, Tool, Assistant]);
    assert_eq!(read[0].content, "a\nb");
    assert_eq!(read[2].name.as_deref(), Some("Ann"));
    assert_eq!((read[3].content.as_str(), read[3].tool_calls[0].arguments.as_str()), ("", "{\"x\":1}"));
    assert_eq!(read[4].tool_call_id.as_deref(), Some("1"));
    assert_eq!(read[5].reasoning.as_deref(), Some("hm"));
}

#[test]
fn what_is_wrong_is_named() {
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    let many: Vec<Value> = (0..11).map(|_| json!({"role": "user", "content": "x"})).collect();
    let biases: Value = (0..10_001).map(|i| (i.to_string(), json!(1))).collect();
    let stops: Vec<String> = (0..17).map(|i| i.to_string()).collect();
    for (extra, param, code) in [
        (json!({"messages": null}), "messages", "missing_required_parameter"),
        (json!({"messages": []}), "messages", "invalid_value"),
        (json!({"messages": "hi"}), "messages", "invalid_type"),
        (json!({"messages": ["hi"]}), "messages[0]", "invalid_type"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role", "missing_required_parameter"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", "missing_required_parameter"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content", "invalid_type"),
        (json!({"messages": image}), "messages[0].content[0].type", "unsupported_parameter"),
        (json!({"messages": many}), "messages", "invalid_value"),
        (json!({"model": null}), "model", "missing_required_parameter"),
        (json!({"model": 5}), "model", "invalid_type"),
        (json!({"temperature": "hot"}), "temperature", "invalid_type"),
        (json!({"temperature": 2.1}), "temperature", "invalid_value"),
        (json!({"temperature": -0.1}), "temperature", "invalid_value"),
        (json!({"top_p": 1.1}), "top_p", "invalid_value"),
        (json!({"n": 129}), "n", "invalid_value"),
        (json!({"n": 0}), "n", "invalid_value"),
        (json!({"max_tokens": 0}), "max_tokens", "invalid_value"),
        (json!({"max_tokens": 1.5}), "max_tokens", "invalid_type"),
        (json!({"max_completion_tokens": "9"}), "max_completion_tokens", "invalid_type"),
        (json!({"max_tokens": u64::MAX}), "max_tokens", "invalid_value"),
        (json!({"presence_penalty": 3}), "presence_penalty", "invalid_value"),
        (json!({"stop": 5}), "stop", "invalid_type"),
        (json!({"stop": ["a", 5]}), "stop[1]", "invalid_type"),
        (json!({"stop": stops}), "stop", "invalid_value"),
        (json!({"seed": 1.5}), "seed", "invalid_type"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage", "invalid_type"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias.x", "invalid_value"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias.1", "invalid_value"),
        (json!({"logit_bias": biases}), "logit_bias", "invalid_value"),
        (json!({"logit_bias": [1]}), "logit_bias", "invalid_type"),
        (json!({"top_logprobs": 3}), "top_logprobs", "invalid_value"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "invalid_value"),
        (json!({"logprobs": 5}), "logprobs", "invalid_type"),
        (json!({"response_format": {"type": "grammar"}}), "response_format.type", "invalid_value"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name", "missing_required_parameter"),
        (json!({"functions": [{"name": "f"}]}), "functions", "unsupported_parameter"),
        (json!({"tool_choice": "required"}), "tool_choice", "invalid_value"),
        (json!({"deadline_ms": 0}), "deadline_ms", "invalid_value"),
        (json!({"modalities": ["text", "audio"]}), "modalities", "unsupported_parameter"),
        (json!({"reasoning_effort": "extreme"}), "reasoning_effort", "invalid_value"),
        (json!({"user": 5}), "user", "invalid_type"),
    ] {
        let error = with(extra.clone()).unwrap_err();
        assert_eq!(
            (error.param.as_deref(), error.code),
            (Some(param), Some(code)),
            "{extra}: {}",
            error.message
        );
        assert_eq!(error.status, 400);
        assert!(error.message.contains(param), "{}", error.message);
    }
}

#[test]
fn what_is_not_json_or_not_an_object_is_refused() {
    for body in ["", "{", "nonsense", "\u{0}"] {
        assert_eq!(parse(body.as_bytes(), 10, None).unwrap_err().code, Some("invalid_json"));
    }
    let deep = "[".repeat(100_000);
    assert_eq!(parse(deep.as_bytes(), 10, None).unwrap_err().code, Some("nested_too_deeply"));
    assert!(parse(b"[1]", 10, None).unwrap_err().message.contains("an array"));
    assert_eq!(parse(b"\xff\xfe", 10, None).unwrap_err().status, 400);
}

proptest::proptest! {
    /// Nothing a client sends makes the parser panic.
    #[test]
    fn arbitrary_values_are_answered(
        key in "(temperature|messages|stop|seed|logit_bias|tools|stream_options|max_tokens|n|top_logprobs)",
        text in "(-?[0-9]{1,25}(\\.[0-9]{1,3})?(e[0-9]{1,3})?|\"[a-z]{0,5}\"|\\[(1|\"x\"|null|\\{\\})?\\]|\\{\"type\":[0-9]\\}|true)",
    ) {
        let body = format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],\"{key}\":{text}}}");
        if let Err(error) = parse(body.as_bytes(), 10, None) {
            proptest::prop_assert_eq!(error.status, 400);
        }
    }
}
