use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};

use super::events::Events;
use super::reply::Reply;
use super::request::{self, Asked};
use crate::chat::{CallPiece, Delta, Done, Finish, Input, Role, Sampling, Think, Token};
use crate::config::Seconds;
use crate::http::answer::Script;
use crate::http::error::ApiError;
use crate::http::tests::client::{json as body, post, send};
use crate::http::tests::on_stage;
use crate::service::tests::scripted;

const PATH: &str = "/v1/responses";

fn ask(extra: Value) -> Value {
    let mut body = json!({"model": "m", "input": "hello", "seed": 7, "max_output_tokens": 12});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn parsed(extra: Value) -> Result<Asked, ApiError> {
    request::parse(ask(extra).to_string().as_bytes(), 4)
}

/// A stream's events, whose names and numbers are right.
fn events(text: &str) -> Vec<Value> {
    let each = text.split_terminator("\n\n").enumerate().map(|(number, event)| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        assert_eq!(data["sequence_number"], number);
        data
    });
    each.collect()
}

async fn streamed(response: Response<Incoming>) -> Vec<Value> {
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    events(std::str::from_utf8(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap())
        .collect();
    kinds.dedup();
    kinds
}

#[test]
fn input_is_a_string_or_items() {
    let messages = |extra| match parsed(extra).unwrap().request.input {
        Input::Chat(messages) => messages.into_iter().map(|m| (m.role, m.content)).collect::<Vec<_>>(),
        Input::Raw(_) | Input::Nothing => unreachable!(),
    };
    let told = json!({"instructions": "Be short."});
    assert_eq!(messages(told), [(Role::System, "Be short.".into()), (Role::User, "hello".into())]);
    let items = json!({"input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "b"}]},
        {"role": "developer", "content": "c"},
    ]});
    assert_eq!(
        messages(items),
        [(Role::User, "a".into()), (Role::Assistant, "b".into()), (Role::Developer, "c".into())]
    );
    let all = parsed(json!({
        "temperature": 0.5, "top_p": 0.9, "reasoning": {"effort": "low"}, "store": true, "tools": [],
        "text": {"format": {"type": "text"}}, "truncation": "auto", "previous_response_id": null,
    }));
    let request = all.unwrap().request;
    assert_eq!((request.sampling.temperature, request.sampling.top_p), (Some(0.5), Some(0.9)));
    assert_eq!((request.think, request.limits.max_tokens), (Think::On, Some(12)));
}

#[test]
fn calls_and_what_they_gave_are_part_of_the_conversation() {
    let asked = parsed(json!({
        "input": [
            {"role": "user", "content": "How is the weather in Rome and Oslo?"},
            {"role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\": \"Rome\"}"},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}", "id": "fc_1", "status": "completed"},
        ],
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "function", "name": "weather"}, "parallel_tool_calls": false, "deadline_ms": 900,
    }));
    let Asked { request, told, .. } = asked.unwrap();
    assert_eq!(request.limits.deadline_ms, Some(900));
    assert!(request.tools.single && request.tools.list[0].name == "weather");
    let Input::Chat(messages) = request.input else { unreachable!() };
    assert_eq!(messages.len(), 2);
    let calls: Vec<_> =
        messages[1].tool_calls.iter().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("c1", "{\"city\": \"Rome\"}"), ("c2", "{}")]);
    assert_eq!(told.choice(), json!({"type": "function", "name": "weather"}));

    let given = parsed(json!({"input": [
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "sunny"}]},
    ]}));
    let Input::Chat(messages) = given.unwrap().request.input else { unreachable!() };
    assert_eq!((messages[0].role, messages[0].tool_calls.len()), (Role::Assistant, 1));
    assert_eq!((messages[1].role, messages[1].content.as_str()), (Role::Tool, "sunny"));
    assert_eq!(messages[1].tool_call_id.as_deref(), Some("c1"));
}

#[test]
fn what_is_wrong_is_named() {
    let items: Vec<Value> = (0..5).map(|_| json!({"role": "user", "content": "x"})).collect();
    for (extra, param) in [
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"input": items}), "input"),
        (json!({"input": [{"type": "reasoning"}]}), "input"),
        (json!({"input": [{"type": "function_call"}]}), "input[0].arguments"),
        (json!({"input": [{"type": "function_call_output", "output": "x"}]}), "input[0].call_id"),
        (json!({"input": [{"type": "function_call_output", "call_id": "c"}]}), "input[0].output"),
        (json!({"input": [{"type": "computer_call"}]}), "input[0].type"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
            "input[0].content[0].type",
        ),
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"background": true}), "background"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"deadline_ms": 0}), "deadline_ms"),
        (json!({"text": {"format": {"type": "grammar"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema"}}}), "text.format.schema"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"temperature": 3}), "temperature"),
    ] {
        assert_eq!(parsed(extra.clone()).unwrap_err().param.as_deref(), Some(param), "{extra}");
    }
}

#[test]
fn a_whole_answer_and_a_streamed_one_say_the_same() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let answer = body(post(stage.address, PATH, &ask(json!({"metadata": {"a": "b"}}))).await).await;
            assert_eq!((&answer["object"], &answer["status"]), (&json!("response"), &json!("incomplete")));
            assert_eq!(answer["incomplete_details"]["reason"], "max_output_tokens");
            assert_eq!((&answer["model"], &answer["metadata"]["a"]), (&json!("formula"), &json!("b")));
            assert_eq!((&answer["store"], &answer["temperature"]), (&json!(false), &json!(0.9)));
            let message = &answer["output"][0];
            assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
            assert_eq!(message["content"][0]["text"], scripted::text(7, 12));
            assert_eq!(
                (&answer["usage"]["input_tokens"], &answer["usage"]["output_tokens"]),
                (&json!(3), &json!(12))
            );

            let all = streamed(post(stage.address, PATH, &ask(json!({"stream": true}))).await).await;
            let order = [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "incomplete",
            ];
            assert_eq!(kinds(&all), order);
            let deltas: String = all.iter().filter_map(|event| event["delta"].as_str()).collect();
            assert_eq!(deltas, scripted::text(7, 12));
            let last = &all.last().unwrap()["response"];
            assert_eq!(last["output"][0]["content"][0]["text"], scripted::text(7, 12));
            assert_eq!(last["output"][0]["id"], all[2]["item"]["id"]);
            assert_eq!(
                (&last["id"], &last["usage"]["output_tokens"]),
                (&all[0]["response"]["id"], &json!(12))
            );
        },
    );
}

#[test]
fn a_failed_stream_ends_with_the_failed_response() {
    let hasty =
        |s: &mut crate::service::Settings| s.limits.request_timeout_s = Seconds(Duration::from_millis(300));
    on_stage("", hasty, async |stage| {
        stage.service.wait_for(|s| s.ready).await;
        let stuck = ask(json!({"input": "wait for cancel", "stream": true}));
        let all = streamed(post(stage.address, PATH, &stuck).await).await;
        assert_eq!(kinds(&all), ["created", "in_progress", "failed"]);
        let response = &all[2]["response"];
        assert_eq!(
            (&response["status"], &response["error"]["code"]),
            (&json!("failed"), &json!("server_error"))
        );
        for (method, path) in [("GET", "resp_1"), ("DELETE", "resp_1"), ("POST", "resp_1/cancel")] {
            let request = Request::builder().method(method).uri(format!("{PATH}/{path}")).header("host", "t");
            let response = send(stage.address, request.body(Full::default()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 404);
            assert!(body(response).await["error"]["message"].as_str().unwrap().contains("keeps none"));
        }
    });
}

#[test]
fn reasoning_is_an_item_before_the_message() {
    let reply = Reply::new("m".into(), request::Told::default(), &Sampling::default());
    let mut script = Events::new(reply);
    let mut text = Vec::new();
    text.extend(script.begin().unwrap());
    for (reasoning, content) in [("hm", ""), (" so", ""), ("", "Yes"), ("", ".")] {
        let delta = Delta { content: content.into(), reasoning: reasoning.into(), ..Delta::default() };
        text.extend(script.token(0, Token { index: 0, id: 0, delta, logprobs: None }).unwrap());
    }
    let (tail, usage, timings) = Default::default();
    text.extend(script.end(0, Done { finish: Finish::Stop, tail, usage, timings, logprobs: None }).unwrap());
    let all = events(std::str::from_utf8(&text).unwrap());
    let item = |kind| ["output_item.added", "content_part.added", kind];
    let end = |kind| [kind, "content_part.done", "output_item.done"];
    let mut order = vec!["created", "in_progress"];
    order.extend(item("reasoning_text.delta"));
    order.extend(end("reasoning_text.done"));
    order.extend(item("output_text.delta"));
    order.extend(end("output_text.done"));
    order.push("completed");
    assert_eq!(kinds(&all), order);
    let output = &all.last().unwrap()["response"]["output"];
    assert_eq!(
        (&output[0]["content"][0]["text"], &output[1]["content"][0]["text"]),
        (&json!("hm so"), &json!("Yes."))
    );
    let index = |kind: &str| {
        all.iter().find(|e| e["type"] == format!("response.{kind}")).unwrap()["output_index"].clone()
    };
    assert_eq!((index("reasoning_text.done"), index("output_text.done")), (json!(0), json!(1)));
}

#[test]
fn calls_are_items_after_the_message() {
    let piece = |index, name: Option<&str>, arguments: &str| CallPiece {
        index,
        name: name.map(str::to_owned),
        arguments: arguments.into(),
    };
    let pieces = [
        Delta { content: "I look.".into(), ..Delta::default() },
        Delta { calls: vec![piece(0, Some("weather"), "")], ..Delta::default() },
        Delta { calls: vec![piece(0, None, "{\"city\":"), piece(0, None, "\"Rome\"}")], ..Delta::default() },
        Delta { calls: vec![piece(1, Some("time"), "{}")], ..Delta::default() },
    ];
    let mut whole = Delta::default();
    let mut script = Events::new(Reply::new("m".into(), request::Told::default(), &Sampling::default()));
    let mut text = Vec::from(script.begin().unwrap());
    for (index, delta) in (0..).zip(pieces) {
        whole.append(delta.clone());
        text.extend(script.token(0, Token { index, id: 0, delta, logprobs: None }).unwrap());
    }
    let (tail, usage, timings) = Default::default();
    let done = Done { finish: Finish::ToolCalls, tail, usage, timings, logprobs: None };
    text.extend(script.end(0, done.clone()).unwrap());
    let all = events(std::str::from_utf8(&text).unwrap());
    let call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ];
    let mut order = vec!["created", "in_progress", "output_item.added", "content_part.added"];
    order.extend(["output_text.delta", "output_text.done", "content_part.done", "output_item.done"]);
    order.extend(call);
    order.extend(call);
    order.push("completed");
    assert_eq!(kinds(&all), order);
    let of = |kind: &str| all.iter().filter(|e| e["type"] == format!("response.{kind}")).collect::<Vec<_>>();
    let ends = of("function_call_arguments.done");
    assert_eq!((&ends[0]["arguments"], &ends[0]["output_index"]), (&json!("{\"city\":\"Rome\"}"), &json!(1)));
    assert_eq!((&ends[1]["name"], &ends[1]["output_index"]), (&json!("time"), &json!(2)));
    let items: Vec<_> = of("output_item.done").into_iter().map(|event| event["item"].clone()).collect();
    let output = &all.last().unwrap()["response"]["output"];
    assert_eq!(json!(items), *output);
    assert_ne!(output[1]["call_id"], output[2]["call_id"]);
    assert_eq!(ends[0]["item_id"], output[1]["id"]);
    // Without a word, calls are all there is.
    let reply = Reply::new("m".into(), request::Told::default(), &Sampling::default());
    whole.content.clear();
    let ended = reply.ended(&whole, &done);
    assert_eq!((ended["output"].as_array().unwrap().len(), &ended["output"][1]["name"]), (2, &json!("time")));
}
