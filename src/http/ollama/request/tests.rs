use serde_json::{Value, json};

use super::*;

fn read(form: Form, extra: Value) -> Result<Asked, ApiError> {
    let mut body = match form {
        Form::Chat => json!({"model": "any", "messages": [{"role": "user", "content": "Hi"}]}),
        Form::Generate => json!({"model": "any", "prompt": "Hi"}),
    };
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    parse(form, body.to_string().as_bytes(), 10)
}

fn request(form: Form, extra: Value) -> Request {
    read(form, extra).unwrap().request
}

#[test]
fn the_first_clients_requests_are_understood() {
    let asked = read(
        Form::Chat,
        json!({
            "model": "llama3.2:3b", "think": false, "keep_alive": -1, "stream": false,
            "options": {
                "temperature": 0.99, "top_k": 85, "top_p": 0.9, "repeat_last_n": 64, "repeat_penalty": 1.5,
                "num_predict": 100, "stop": ["#", "["],
            },
        }),
    )
    .unwrap();
    assert_eq!((asked.model.as_str(), asked.stream), ("llama3.2:3b", false));
    let request = asked.request;
    let sampling = Sampling {
        temperature: Some(0.99),
        top_k: Some(85),
        top_p: Some(0.9),
        repeat_penalty: Some(1.5),
        repeat_last_n: Some(64),
        stop: vec!["#".into(), "[".into()],
        ..Sampling::default()
    };
    assert_eq!(request.sampling, sampling);
    assert_eq!((request.limits.max_tokens, request.think, request.buffered), (Some(100), Think::Off, true));

    let asked = read(Form::Generate, json!({"stream": false})).unwrap();
    let input = Input::Chat(vec![Message::text(Role::User, "Hi")]);
    assert_eq!(asked.request.input, input);
}

#[test]
fn every_option_has_its_effect_and_unknown_ones_have_none() {
    let request = request(
        Form::Chat,
        json!({
            "think": "high", "logprobs": true, "top_logprobs": 3, "format": "", "tools": [], "template": "",
            "keep_alive": "5m", "unknown": {"x": [1]},
            "options": {
                "temperature": 0, "top_k": 40, "top_p": 0.5, "min_p": 0.05, "typical_p": 0.9,
                "repeat_penalty": 1.1, "repeat_last_n": -1, "frequency_penalty": 0.5, "presence_penalty": -0.5,
                "seed": 11, "stop": ["#", ""], "num_predict": 7, "num_ctx": 512, "mirostat": 1, "num_gpu": 99,
                "num_keep": "?", "logit_bias": {"7": 1},
            },
        }),
    );
    let sampling = Sampling {
        temperature: Some(0.0),
        top_k: Some(40),
        top_p: Some(0.5),
        min_p: Some(0.05),
        typical_p: Some(0.9),
        repeat_penalty: Some(1.1),
        repeat_last_n: Some(-1),
        frequency_penalty: Some(0.5),
        presence_penalty: Some(-0.5),
        logit_bias: Vec::new(),
        seed: Some(11),
        stop: vec!["#".into()],
    };
    assert_eq!(request.sampling, sampling);
    let limits = Limits { max_tokens: Some(7), context: Some(512), ..Limits::default() };
    assert_eq!((request.limits, request.think, request.logprobs), (limits, Think::On, Some(3)));
    assert!(!request.buffered, "streamed unless asked otherwise");
}

#[test]
fn everything_but_the_model_may_be_null_or_absent() {
    for (form, names) in [
        (Form::Chat, &["tools"][..]),
        (Form::Generate, &["suffix", "images", "system", "template", "raw", "context"]),
    ] {
        let both = ["stream", "options", "format", "keep_alive", "think", "logprobs", "top_logprobs"];
        let nulls: Value = names.iter().chain(&both).map(|name| (name.to_string(), Value::Null)).collect();
        assert_eq!(read(form, nulls).unwrap(), read(form, json!({})).unwrap());
        let options = [
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "repeat_penalty",
            "repeat_last_n",
            "frequency_penalty",
            "presence_penalty",
            "seed",
            "stop",
            "num_predict",
            "num_ctx",
        ];
        let nulls: Value = options.iter().map(|name| (name.to_string(), Value::Null)).collect();
        assert_eq!(read(form, json!({"options": nulls})).unwrap(), read(form, json!({})).unwrap());
    }
}

#[test]
fn special_numbers_mean_what_they_mean_to_ollama() {
    let options = |options: Value| request(Form::Chat, json!({"options": options}));
    for endless in [-1, -2, 0] {
        assert_eq!(options(json!({"num_predict": endless})).limits.max_tokens, Some(u32::MAX));
    }
    assert_eq!(options(json!({"num_ctx": 0})).limits.context, None);
    assert_eq!(options(json!({"seed": -1})).sampling.seed, None);
    assert_eq!(options(json!({"seed": 0})).sampling.seed, Some(0));
    assert_eq!(options(json!({"top_k": 0})).sampling.top_k, Some(0));
}

#[test]
fn messages_of_every_role_and_form_are_read() {
    let list = json!([
        {"role": "system", "content": "a"},
        {"role": "user", "content": null, "images": []},
        {"role": "assistant", "thinking": "hm", "tool_calls": [
            {"function": {"name": "f", "arguments": {"x": 1}}}, {"function": {"name": "g"}}]},
        {"role": "tool", "content": "7", "tool_name": "f"},
    ]);
    let Input::Chat(read) = request(Form::Chat, json!({"messages": list})).input else { panic!() };
    let roles: Vec<Role> = read.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!((read[1].content.as_str(), read[2].reasoning.as_deref()), ("", Some("hm")));
    let arguments: Vec<&str> = read[2].tool_calls.iter().map(|call| call.arguments.as_str()).collect();
    assert_eq!(arguments, ["{\"x\":1}", "{}"]);
    assert_eq!(read[3].name.as_deref(), Some("f"));
}

#[test]
fn a_prompt_is_rendered_unless_it_is_raw() {
    let input = |extra| request(Form::Generate, extra).input;
    let system = [Message::text(Role::System, "Be brief."), Message::text(Role::User, "Hi")];
    assert_eq!(input(json!({"system": "Be brief.", "context": [1, 2]})), Input::Chat(system.into()));
    assert_eq!(input(json!({"raw": true, "context": [1]})), Input::Raw("Hi".into()));
}

#[test]
fn asking_nothing_asks_for_the_model() {
    for (form, extra) in [
        (Form::Chat, json!({"messages": []})),
        (Form::Chat, json!({"messages": null, "keep_alive": 0})),
        (Form::Generate, json!({"prompt": ""})),
        (Form::Generate, json!({"prompt": null, "raw": true})),
    ] {
        assert_eq!(read(form, extra.clone()).unwrap().request.input, Input::Nothing, "{extra}");
    }
}

#[test]
fn a_model_is_kept_for_seconds_or_durations_of_go() {
    for (given, seconds) in [
        (json!(300), Some(300)),
        (json!(0), Some(0)),
        (json!(0.2), Some(1)),
        (json!(-1), Some(-1)),
        (json!("5m"), Some(300)),
        (json!("1h30m0.5s"), Some(5401)),
        (json!("500ms"), Some(1)),
        (json!("-1"), Some(-1)),
        (json!("-5m"), Some(-1)),
        (json!("90"), Some(90)),
        (json!(null), None),
    ] {
        let asked = read(Form::Chat, json!({"keep_alive": given.clone()})).unwrap();
        assert_eq!(asked.request.keep_alive.map(|keep| keep.0), seconds, "{given}");
    }
    for wrong in ["", "m", "5 m", "5x", "1h30", "nan", "inf", "--1", "µ"] {
        let error = read(Form::Chat, json!({"keep_alive": wrong})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("keep_alive"), "{wrong:?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let many: Vec<Value> = (0..11).map(|_| json!({"role": "user", "content": "x"})).collect();
    let stops: Vec<String> = (0..17).map(|i| i.to_string()).collect();
    for (form, extra, param) in [
        (Form::Chat, json!({"model": null}), "model"),
        (Form::Chat, json!({"model": 5}), "model"),
        (Form::Chat, json!({"messages": "hi"}), "messages"),
        (Form::Chat, json!({"messages": many}), "messages"),
        (Form::Chat, json!({"messages": [{"content": "x"}]}), "messages[0].role"),
        (Form::Chat, json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (Form::Chat, json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (Form::Chat, json!({"messages": [{"role": "user", "images": ["aGk="]}]}), "messages[0].images"),
        (
            Form::Chat,
            json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 1}}]}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (Form::Chat, json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (Form::Chat, json!({"format": "yaml"}), "format"),
        (Form::Chat, json!({"format": ["json"]}), "format"),
        (Form::Chat, json!({"stream": "no"}), "stream"),
        (Form::Chat, json!({"think": "a lot"}), "think"),
        (Form::Chat, json!({"think": 1}), "think"),
        (Form::Chat, json!({"keep_alive": true}), "keep_alive"),
        (Form::Chat, json!({"options": []}), "options"),
        (Form::Chat, json!({"options": {"temperature": "hot"}}), "options.temperature"),
        (Form::Chat, json!({"options": {"temperature": 2.1}}), "options.temperature"),
        (Form::Chat, json!({"options": {"num_predict": 1.5}}), "options.num_predict"),
        (Form::Chat, json!({"options": {"num_predict": -3}}), "options.num_predict"),
        (Form::Chat, json!({"options": {"num_ctx": -1}}), "options.num_ctx"),
        (Form::Chat, json!({"options": {"seed": "x"}}), "options.seed"),
        (Form::Chat, json!({"options": {"stop": 5}}), "options.stop"),
        (Form::Chat, json!({"options": {"stop": ["a", 5]}}), "options.stop[1]"),
        (Form::Chat, json!({"options": {"stop": stops}}), "options.stop"),
        (Form::Generate, json!({"prompt": ["Hi"]}), "prompt"),
        (Form::Generate, json!({"suffix": "}"}), "suffix"),
        (Form::Generate, json!({"template": "{{ .Prompt }}"}), "template"),
        (Form::Generate, json!({"images": ["aGk="]}), "images"),
        (Form::Generate, json!({"raw": true, "system": "x"}), "system"),
    ] {
        let error = read(form, extra.clone()).unwrap_err();
        assert_eq!((error.param.as_deref(), error.status.as_u16()), (Some(param), 400), "{extra}");
        assert!(error.message.contains(param) || param == "suffix", "{}", error.message);
    }
}

proptest::proptest! {
    /// Nothing a client sends makes the parser panic.
    #[test]
    fn arbitrary_values_are_answered(
        key in "(messages|options|think|keep_alive|images|tools|format|prompt|raw|stream)",
        text in "(-?[0-9]{1,25}(\\.[0-9]{1,3})?|\"[a-z]{0,5}\"|\\[(1|\"x\"|null|\\{\\})?\\]|\\{\"(seed|stop|num_predict|num_ctx)\":-?[0-9]{1,20}\\}|true)",
    ) {
        for form in [Form::Chat, Form::Generate] {
            let body = format!("{{\"model\":\"m\",\"{key}\":{text}}}");
            if let Err(error) = parse(form, body.as_bytes(), 10) {
                proptest::prop_assert_eq!(error.status, 400);
            }
        }
    }
}
