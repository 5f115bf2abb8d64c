//! Azure's paths, names of models, several answers.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::{Value, json};

use crate::config::{Installed, UnknownModel};
use crate::http::tests::client::{self, Events, Sent, get, json as body, post};
use crate::http::tests::on_stage;
use crate::service::Settings;
use crate::service::tests::scripted;

const CHAT: &str = "/v1/chat/completions";

fn ask(extra: Value) -> Value {
    let mut body = json!({
        "model": "m", "seed": 7, "max_tokens": 12, "messages": [{"role": "user", "content": "hello"}],
    });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn azures_paths_are_answered_with_and_without_a_model_in_the_body() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            for (path, model) in [
                ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-02-15-preview", json!(null)),
                ("//openai/deployments/gpt-4o/chat/completions", json!("other")),
                ("/openai/v1/chat/completions?api-version=preview", json!("gpt-4o")),
            ] {
                let text = ask(json!({"model": model, "stop": null})).to_string();
                let request = Request::post(path).header("host", "t").header("api-key", "secret");
                let request = request.body(Full::from(text)).unwrap();
                let answer = body(client::send(stage.address, request).await.unwrap()).await;
                assert_eq!(answer["choices"][0]["message"]["content"], scripted::text(7, 12), "{path}");
            }
            let completed = ask(json!({"prompt": "hello", "model": null}));
            let path = "/openai/deployments/m/completions?api-version=1";
            let answer = body(post(stage.address, path, &completed).await).await;
            assert_eq!(answer["choices"][0]["text"], scripted::text(7, 12));
            for path in ["/openai/deployments/m/nothing", "/openai/deployments/m/chat/completions"] {
                let refused = body(post(stage.address, path, &json!({"messages": 7})).await).await;
                assert!(refused["error"]["message"].is_string() && refused["error"]["code"].is_string());
            }
            let embeddings = "/openai/deployments/m/embeddings";
            assert_eq!(post(stage.address, embeddings, &json!({"input": "x"})).await.status(), 501);
        },
    );
}

#[test]
fn other_models_are_refused_where_configured() {
    let strict = |s: &mut Settings| {
        s.server.unknown_model = UnknownModel::Refuse;
        let aliases = vec!["gpt-4o".into()];
        s.models = vec![Installed { name: "coyote".into(), aliases, ..Installed::default() }];
    };
    on_stage("", strict, async |stage| {
        stage.service.wait_for(|s| s.ready).await;
        for name in ["formula", "formula:latest", "coyote", "gpt-4o", "gpt-4o:latest"] {
            assert_eq!(post(stage.address, CHAT, &ask(json!({"model": name}))).await.status(), 200, "{name}");
            assert_eq!(get(stage.address, &format!("/v1/models/{name}")).await.status(), 200, "{name}");
        }
        for path in [CHAT, "/v1/completions", "/v1/responses", "/openai/deployments/x/chat/completions"] {
            let key = if path == "/v1/responses" { "input" } else { "prompt" };
            let refused = post(stage.address, path, &ask(json!({key: "x"}))).await;
            assert_eq!(refused.status(), 404, "{path}");
            let error = body(refused).await["error"].take();
            assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
        }
        for path in ["/api/chat", "/api/generate", "/api/show", "/"] {
            let refused = post(stage.address, path, &ask(json!({"prompt": "x"}))).await;
            assert_eq!(refused.status(), 404, "{path}");
            let error = body(refused).await["error"].take();
            assert!(error.as_str().unwrap().contains("not found"), "{error}");
        }
        let deployment = ask(json!({"model": null}));
        let path = "/openai/deployments/gpt-4o/chat/completions";
        assert_eq!(post(stage.address, path, &deployment).await.status(), 200);
        let listed = body(get(stage.address, "/v1/models").await).await;
        let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
        assert_eq!(ids, ["formula", "gpt-4o"]);
        let tags = body(get(stage.address, "/api/tags").await).await;
        assert_eq!(
            (&tags["models"][0]["name"], &tags["models"][1]["name"]),
            (&json!("formula"), &json!("gpt-4o"))
        );
    });
}

#[test]
fn several_answers_differ_and_are_the_same_again() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let wanted = ask(json!({"n": 3}));
            let answer = body(post(stage.address, CHAT, &wanted).await).await;
            let texts: Vec<&str> = answer["choices"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c["message"]["content"].as_str().unwrap())
                .collect();
            assert_eq!((texts.len(), texts[0]), (3, scripted::text(7, 12).as_str()));
            assert!(texts[1] != texts[0] && texts[2] != texts[1]);
            for (index, text) in texts.iter().enumerate() {
                assert_eq!(answer["choices"][index]["index"], index);
                assert_eq!(*text, scripted::text(scripted::seed(text).unwrap(), 12));
            }
            let usage = &answer["usage"];
            assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(3), &json!(36)));
            assert_eq!(usage["total_tokens"], 39);

            let options = json!({"n": 3, "stream": true, "stream_options": {"include_usage": true}});
            let events = Events::new(post(stage.address, CHAT, &ask(options)).await).rest().await;
            assert_eq!(events.last(), Some(&Sent::Done));
            let mut streamed = vec![String::new(); 3];
            let mut ends = 0;
            for event in &events {
                let Sent::Data(chunk) = event else { continue };
                for choice in chunk["choices"].as_array().unwrap() {
                    let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
                    streamed[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
                    ends += u32::from(!choice["finish_reason"].is_null());
                }
            }
            assert_eq!((streamed, ends), (texts.iter().map(|t| (*t).to_owned()).collect(), 3));
            let Sent::Data(last) = &events[events.len() - 2] else { panic!("{events:?}") };
            assert_eq!(last["usage"]["completion_tokens"], 36);
        },
    );
}

#[test]
fn more_answers_than_have_a_place_are_refused() {
    on_stage(
        "",
        |s| s.limits.queue = 1,
        async |stage| {
            assert_eq!(post(stage.address, CHAT, &ask(json!({"n": 2}))).await.status(), 200);
            let refused = post(stage.address, CHAT, &ask(json!({"n": 3}))).await;
            assert_eq!(refused.status(), 400);
            let error = body(refused).await["error"].take();
            assert_eq!(error["param"], "n");
            assert!(error["message"].as_str().unwrap().contains("limits.queue"), "{error}");

            // A client that leaves takes all of its answers along.
            let silent = ask(
                json!({"n": 2, "stream": true, "messages": [{"role": "user", "content": "wait for cancel"}]}),
            );
            let mut response = post(stage.address, CHAT, &silent).await.into_body();
            response.frame().await.unwrap().unwrap();
            drop(response);
            stage.service.wait_for(|s| s.counters.abandoned == 2 && !s.running && s.queue == 0).await;
        },
    );
}

#[test]
fn what_is_nested_or_large_is_refused_before_it_reaches_a_worker_in_either_dialect() {
    on_stage(
        "never-ready",
        |_| {},
        async |stage| {
            let nested = |levels: usize| {
                let mut value = json!({"type": "object"});
                for _ in 0..levels {
                    value = json!({"items": value});
                }
                value
            };
            let wide = json!({"enum": (0..5000).collect::<Vec<_>>()});
            for (schema, openai, ollama) in [
                (nested(100), "nested_too_deeply", "nested too deeply: at most 64"),
                (nested(1000), "nested_too_deeply", "nested too deeply: at most 64"),
                (wide, "invalid_value", "'format' has 5002 values, at most 4096"),
                (json!({"description": "x".repeat(70_000)}), "invalid_value", "'format' has 70018 bytes"),
            ] {
                let format = json!({"type": "json_schema", "json_schema": {"schema": schema}});
                let refused = post(stage.address, CHAT, &ask(json!({"response_format": format}))).await;
                assert_eq!(refused.status(), 400);
                assert_eq!(body(refused).await["error"]["code"], openai);
                let refused = post(stage.address, "/api/chat", &ask(json!({"format": schema}))).await;
                assert_eq!(refused.status(), 400);
                let told = body(refused).await;
                assert!(told["error"].as_str().unwrap().contains(ollama), "{told}");
            }
        },
    );
}
