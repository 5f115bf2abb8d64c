use serde_json::{Value, json};

use super::request;
use crate::chat::Input;
use crate::config::Limits;
use crate::http::error::ApiError;
use crate::http::tests::client::{Events, Sent, json as body, post};
use crate::http::tests::on_stage;
use crate::service::tests::scripted;

const PATH: &str = "/v1/completions";

fn ask(extra: Value) -> Value {
    let mut body = json!({"model": "m", "prompt": "hello", "seed": 7, "max_tokens": 12});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn parsed(extra: Value) -> Result<request::Asked, ApiError> {
    request::parse(ask(extra).to_string().as_bytes(), &Limits::default(), None)
}

#[test]
fn prompts_are_taken_as_they_are() {
    let inputs = |extra| {
        let asked = parsed(extra).unwrap();
        asked.prompts.into_iter().map(|request| request.input).collect::<Vec<_>>()
    };
    assert_eq!(inputs(json!({})), [Input::Raw("hello".into())]);
    assert_eq!(inputs(json!({"prompt": ["a", "b"]})), [Input::Raw("a".into()), Input::Raw("b".into())]);
    let chat = json!({"prompt": null, "messages": [{"role": "user", "content": "hi"}]});
    assert!(matches!(inputs(chat).as_slice(), [Input::Chat(messages)] if messages[0].content == "hi"));
    let odd = json!({"echo": false, "suffix": "", "best_of": 2, "n": 2, "user": null, "logprobs": null});
    assert_eq!(parsed(odd).unwrap().n, 2);
}

#[test]
fn what_is_wrong_is_named() {
    for (extra, param, code) in [
        (json!({"prompt": null}), "prompt", "missing_required_parameter"),
        (json!({"prompt": ""}), "prompt", "invalid_value"),
        (json!({"prompt": []}), "prompt", "invalid_value"),
        (json!({"prompt": [1, 2]}), "prompt", "unsupported_parameter"),
        (json!({"prompt": [[1, 2]]}), "prompt", "unsupported_parameter"),
        (json!({"prompt": ["a", null]}), "prompt[1]", "invalid_type"),
        (json!({"prompt": vec!["a"; 10]}), "prompt", "invalid_value"),
        (json!({"prompt": 7}), "prompt", "invalid_type"),
        (json!({"echo": true}), "echo", "unsupported_parameter"),
        (json!({"suffix": "end"}), "suffix", "unsupported_parameter"),
        (json!({"best_of": 3}), "best_of", "unsupported_parameter"),
        (json!({"logprobs": true}), "logprobs", "invalid_type"),
        (json!({"max_tokens": 0}), "max_tokens", "invalid_value"),
        (json!({"model": null}), "model", "missing_required_parameter"),
    ] {
        let error = parsed(extra.clone()).unwrap_err();
        assert_eq!((error.param.as_deref(), error.code), (Some(param), Some(code)), "{extra}");
    }
}

#[test]
fn every_prompt_has_as_many_answers_as_asked_for() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let answer =
                body(post(stage.address, PATH, &ask(json!({"prompt": ["a", "b"], "n": 2}))).await).await;
            assert_eq!((&answer["object"], &answer["model"]), (&json!("text_completion"), &json!("formula")));
            assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
            let choices = answer["choices"].as_array().unwrap();
            let texts: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
            // Seeds are the same for each prompt.
            assert_eq!((texts[0], texts[2]), (scripted::text(7, 12).as_str(), texts[0]));
            assert!(texts[1] == texts[3] && texts[1] != texts[0]);
            for (index, choice) in choices.iter().enumerate() {
                assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(index), &json!("length")));
                assert!(choice["logprobs"].is_null());
            }
            assert_eq!(
                (&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]),
                (&json!(6), &json!(48))
            );
        },
    );
}

#[test]
fn log_probabilities_have_their_old_shape_whole_and_streamed() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let wanted = json!({"logprobs": 1, "max_tokens": 2});
            let answer = body(post(stage.address, PATH, &ask(wanted)).await).await;
            let text = scripted::text(7, 2);
            let (first, second) = text.split_at(3);
            let expected = json!({
                "tokens": [first, second], "token_logprobs": [-0.5, -0.5],
                "top_logprobs": [{first: -0.5}, {second: -0.5}], "text_offset": [0, 3],
            });
            assert_eq!(answer["choices"][0]["logprobs"], expected);

            let streamed = json!({"logprobs": 1, "max_tokens": 2, "stream": true, "stream_options": {"include_usage": true}});
            let events = Events::new(post(stage.address, PATH, &ask(streamed)).await).rest().await;
            let chunks: Vec<&Value> =
                events.iter().filter_map(|e| if let Sent::Data(v) = e { Some(v) } else { None }).collect();
            let told: String =
                chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
            assert_eq!((told, events.last()), (text.clone(), Some(&Sent::Done)));
            assert_eq!(chunks[1]["choices"][0]["logprobs"]["text_offset"], json!([3]));
            assert_eq!(chunks[2]["choices"][0]["finish_reason"], "length");
            assert_eq!(chunks[3]["usage"]["completion_tokens"], 2);
        },
    );
}
