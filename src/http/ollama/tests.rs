//! Over real connections; workers are processes that say what a formula gives.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};

use crate::config::Seconds;
use crate::http::tests::client::{get, json as body, post, send};
use crate::http::tests::on_stage;
use crate::service::Settings;
use crate::service::tests::scripted;

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";

fn ask(text: &str, extra: Value) -> Value {
    let mut body = json!({
        "model": "llama3.2", "options": {"seed": 7, "num_predict": 12},
        "prompt": text, "messages": [{"role": "user", "content": text}],
    });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// A stream's lines as they come.
struct Lines {
    body: Incoming,
    text: String,
}

impl Lines {
    fn new(response: Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Self { body: response.into_body(), text: String::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let value = serde_json::from_str(line).unwrap();
                self.text = rest.to_owned();
                return Some(value);
            }
            let Some(frame) = self.body.frame().await else {
                assert_eq!(self.text, "", "the stream ended within a line");
                return None;
            };
            self.text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }

    async fn rest(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(line) = self.next().await {
            all.push(line);
        }
        all
    }
}

fn text(line: &Value) -> &str {
    line["message"]["content"].as_str().or(line["response"].as_str()).unwrap()
}

/// Takes out the times, after looking whether they can be right.
fn timeless(mut answer: Value) -> Value {
    let fields = answer.as_object_mut().unwrap();
    assert!(fields.remove("created_at").unwrap().as_str().unwrap().ends_with('Z'));
    if fields["done"] == true {
        let mut time = |name| fields.remove(name).unwrap().as_u64().unwrap();
        assert!(time("total_duration") >= time("load_duration"));
    }
    answer
}

#[test]
fn a_whole_answer_has_every_field() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let whole = json!({"stream": false});
            let numbers = json!({
                "model": "formula", "done": true, "done_reason": "length", "prompt_eval_count": 3,
                "prompt_eval_duration": 0, "eval_count": 12, "eval_duration": 0,
            });
            let mut chat = numbers.clone();
            chat["message"] = json!({"role": "assistant", "content": scripted::text(7, 12)});
            for path in [CHAT, "/", "//api//chat/"] {
                let answer = body(post(stage.address, path, &ask("hello", whole.clone())).await).await;
                assert_eq!(timeless(answer), chat, "{path}");
            }
            let mut generate = numbers;
            generate["response"] = scripted::text(7, 12).into();
            let answer = body(post(stage.address, GENERATE, &ask("hello", whole)).await).await;
            assert_eq!(timeless(answer), generate);
        },
    );
}

#[test]
fn a_stream_is_lines_of_which_only_the_last_is_done() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            for path in [CHAT, GENERATE] {
                let lines =
                    Lines::new(post(stage.address, path, &ask("hello", json!({}))).await).rest().await;
                assert_eq!(lines.iter().map(text).collect::<String>(), scripted::text(7, 12));
                let (last, others) = lines.split_last().unwrap();
                assert_eq!((text(last), &last["done"], &last["eval_count"]), ("", &json!(true), &json!(12)));
                assert_eq!(last["done_reason"], "length");
                timeless(last.clone());
                for other in others {
                    assert_eq!((&other["done"], &other["model"]), (&json!(false), &json!("formula")));
                    assert!(other.get("done_reason").is_none() && other.get("eval_count").is_none());
                }
            }
        },
    );
}

#[test]
fn logprobs_are_told_where_asked_for() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let first = json!({
                "token": "7: ", "logprob": -0.5, "bytes": [55, 58, 32],
                "top_logprobs": [{"token": "7: ", "logprob": -0.5, "bytes": [55, 58, 32]}],
            });
            let wanted = json!({"logprobs": true, "top_logprobs": 1});
            let mut lines = Lines::new(post(stage.address, CHAT, &ask("hello", wanted.clone())).await);
            assert_eq!(lines.next().await.unwrap()["logprobs"], json!([first]));
            let mut whole = wanted;
            whole["stream"] = false.into();
            let answer = body(post(stage.address, GENERATE, &ask("hello", whole)).await).await;
            assert_eq!((&answer["logprobs"][0], answer["logprobs"].as_array().unwrap().len()), (&first, 12));
        },
    );
}

#[test]
fn an_answer_is_whole_although_its_workers_die() {
    on_stage(
        "die-every-10",
        |_| {},
        async |stage| {
            let long = json!({"options": {"seed": 7, "num_predict": 50}});
            let lines = Lines::new(post(stage.address, CHAT, &ask("hello", long)).await).rest().await;
            assert_eq!(lines.iter().map(text).collect::<String>(), scripted::text(7, 50));
            assert_eq!(stage.service.status().counters.resumes, 5);
        },
    );
}

#[test]
fn a_silent_stream_carries_empty_pieces_and_its_end_frees_the_card() {
    let quick = |s: &mut Settings| s.limits.keepalive_comment_s = Seconds(Duration::from_millis(50));
    on_stage("", quick, async |stage| {
        for (number, path) in [(1, CHAT), (2, GENERATE)] {
            let silent = ask("wait for cancel", json!({}));
            let mut lines = Lines::new(post(stage.address, path, &silent).await);
            let piece = lines.next().await.unwrap();
            assert_eq!((text(&piece), &piece["done"]), ("", &json!(false)));
            drop(lines);
            stage.service.wait_for(|s| s.counters.abandoned == number && !s.running).await;
        }
    });
}

#[test]
fn a_failure_within_a_stream_is_an_error_line_and_never_done() {
    let hasty = |s: &mut Settings| s.limits.request_timeout_s = Seconds(Duration::from_millis(500));
    on_stage("", hasty, async |stage| {
        stage.service.wait_for(|s| s.ready).await;
        for path in [CHAT, GENERATE] {
            let stuck = ask("wait for cancel", json!({}));
            let lines = Lines::new(post(stage.address, path, &stuck).await).rest().await;
            let error = lines.last().unwrap()["error"].as_str().unwrap();
            assert!(error.starts_with("E-TIMEOUT"), "{error}");
            assert!(lines.iter().all(|line| line["done"] != true));
        }
        let whole = post(stage.address, CHAT, &ask("wait for cancel", json!({"stream": false}))).await;
        assert_eq!(whole.status(), 504);
        assert!(body(whole).await["error"].is_string());
    });
}

#[test]
fn errors_are_told_in_ollamas_form() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let request = |method: &str, path: &str, text: &str| {
                let body = Full::from(text.to_owned());
                Request::builder().method(method).uri(path).header("host", "test").body(body).unwrap()
            };
            let refused = ask("refuse", json!({})).to_string();
            for (method, path, text, status) in [
                ("POST", CHAT, "{", 400),
                ("POST", "/", "", 400),
                ("POST", CHAT, refused.as_str(), 400),
                ("POST", GENERATE, "{\"model\":\"m\",\"prompt\":7}", 400),
                ("POST", "/api/show", "{}", 400),
                ("GET", CHAT, "", 405),
                ("DELETE", "/", "", 405),
                ("POST", "/api/tags", "", 405),
                ("POST", "/api/embed", "{}", 501),
                ("POST", "/api/embeddings", "", 501),
                ("POST", "/api/pull", "{}", 400),
                ("POST", "/api/copy", "{}", 501),
                ("POST", "/api/create", "{}", 501),
                ("POST", "/api/push", "{}", 501),
                ("DELETE", "/api/delete", "{}", 501),
                ("POST", "/api/delete", "{}", 405),
                ("POST", "/api/blobs/sha256:00", "x", 501),
                ("POST", "/api/nothing", "{}", 404),
            ] {
                let response = send(stage.address, request(method, path, text)).await.unwrap();
                assert_eq!(response.status(), status, "{method} {path}");
                assert_eq!(response.headers().contains_key("allow"), status == 405);
                let error = body(response).await;
                assert!(error["error"].is_string(), "{method} {path}: {error}");
            }
        },
    );
}

#[test]
fn an_empty_request_is_answered_once_the_model_is_loaded() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            let empty = json!({"model": "m", "messages": [], "keep_alive": -1});
            let answer = body(post(stage.address, CHAT, &empty).await).await;
            let mut expected = json!({"model": "formula", "done": true, "done_reason": "load"});
            expected["message"] = json!({"role": "assistant", "content": ""});
            expected["created_at"] = answer["created_at"].clone();
            assert_eq!(answer, expected);
            let answer = body(post(stage.address, GENERATE, &json!({"model": "m"})).await).await;
            assert_eq!((&answer["response"], &answer["done_reason"]), (&json!(""), &json!("load")));
        },
    );
    let hasty = |s: &mut Settings| s.limits.hold_s = Seconds(Duration::from_millis(100));
    on_stage("never-ready", hasty, async |stage| {
        let refused = post(stage.address, CHAT, &json!({"model": "m"})).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        assert!(body(refused).await["error"].as_str().unwrap().starts_with("E-NOT-READY"));
        assert_eq!(post(stage.address, "/api/show", &json!({"model": "m"})).await.status(), 503);
        assert_eq!(body(get(stage.address, "/api/tags").await).await, json!({"models": []}));
        assert_eq!(body(get(stage.address, "/api/ps").await).await, json!({"models": []}));
    });
}

#[test]
fn what_clients_ask_around_answers_is_told() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            stage.service.wait_for(|s| s.ready).await;
            let tags = body(get(stage.address, "/api/tags").await).await["models"].take();
            let loaded = body(get(stage.address, "/api/ps").await).await["models"].take();
            for model in [&tags[0], &loaded[0]] {
                assert_eq!((&model["name"], &model["model"]), (&json!("formula"), &json!("formula")));
                assert_eq!(model["digest"].as_str().unwrap().len(), 64);
                assert_eq!(model["details"]["families"], json!(["axmodel"]));
            }
            assert!(tags[0]["modified_at"].is_string());
            assert_eq!(loaded[0]["context_length"], 4096);
            let shown = body(post(stage.address, "/api/show", &json!({"name": "any"})).await).await;
            let architecture = shown["model_info"]["general.architecture"].as_str().unwrap();
            assert_eq!(shown["model_info"][format!("{architecture}.context_length")], 4096);
            assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
            assert!(body(get(stage.address, "/api/version").await).await["version"].is_string());

            let root = get(stage.address, "/").await;
            assert_eq!(root.status(), 200);
            let said = root.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(said, "Ollama is running");
            let head = Request::head("/").header("host", "test").body(Full::default()).unwrap();
            assert_eq!(send(stage.address, head).await.unwrap().status(), 200);
        },
    );
}

#[test]
fn pulling_the_model_that_is_there_succeeds_and_any_other_does_not() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            stage.service.wait_for(|s| s.ready).await;
            let lines =
                Lines::new(post(stage.address, "/api/pull", &json!({"model": "formula:latest"})).await)
                    .rest()
                    .await;
            assert_eq!(lines.first(), Some(&json!({"status": "pulling manifest"})));
            assert_eq!(lines.last(), Some(&json!({"status": "success"})));
            assert!(lines[1]["digest"].as_str().unwrap().starts_with("sha256:"));
            let whole = json!({"name": "formula", "stream": false});
            let answer = body(post(stage.address, "/api/pull", &whole).await).await;
            assert_eq!(answer, json!({"status": "success"}));
            let other = post(stage.address, "/api/pull", &json!({"model": "llama3.2"})).await;
            assert_eq!(other.status(), 404);
            assert!(body(other).await["error"].as_str().unwrap().contains("model.dir"));
        },
    );
}

#[test]
fn head_tells_what_get_would_without_its_body() {
    on_stage(
        "",
        |_| {},
        async |stage| {
            for path in ["/", "/api/tags", "/api/version"] {
                let head = Request::head(path).header("host", "test").body(Full::default()).unwrap();
                let head = send(stage.address, head).await.unwrap();
                let shown = get(stage.address, path).await;
                assert_eq!(
                    (head.status(), head.headers().get("content-type")),
                    (shown.status(), shown.headers().get("content-type"))
                );
                let length = shown.into_body().collect().await.unwrap().to_bytes().len();
                assert!(
                    length > 0 && head.into_body().collect().await.unwrap().to_bytes().is_empty(),
                    "{path}"
                );
            }
            let blob =
                Request::head("/api/blobs/sha256:00").header("host", "test").body(Full::default()).unwrap();
            assert_eq!(send(stage.address, blob).await.unwrap().status(), 404);
        },
    );
}
