//! `GET /metrics`: what was recorded, what the status says, and this process.

use hyper::{Response, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::Context;
use super::body::{Body, response};
use crate::metrics::{self, KIND, PREFIX, process};
use crate::service::Status;

pub fn metrics(context: &Context) -> Response<Body> {
    response(StatusCode::OK, KIND, text(context))
}

/// All numbers, as OpenMetrics text.
pub fn text(context: &Context) -> String {
    let status = context.service.status();
    context.service.metrics().text(&[snapshot(&status), process::registry(context.started)])
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IncidentLabels {
    code: &'static str,
    rung: &'static str,
}

/// What the status says. Counts that it has are not recorded a second time.
fn snapshot(status: &Status) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    metrics::states(&mut registry, status.state);
    for (name, help, yes) in [
        ("ready", "1 while a request would be answered now", status.ready),
        ("degraded", "1 while the small model on the CPU answers instead of the card", status.degraded),
        ("slow", "1 while the card computes much slower than usual", status.slow),
        ("running", "1 while a request is being answered", status.running),
    ] {
        registry.register(name, help, ConstGauge::new(i64::from(yes)));
    }
    registry.register("queue_depth", "Requests that wait", ConstGauge::new(status.queue));
    let help = "Workers that failed in a row";
    registry.register("worker_failures", help, ConstGauge::new(status.failures));
    if let Some(celsius) = status.temperature_c {
        let help = "The card's temperature";
        registry.register_with_unit("card_temperature", help, Unit::Celsius, ConstGauge::new(celsius));
    }
    if let Some(bytes) = status.card_free_memory_bytes {
        let help = "Free memory of the card";
        registry.register_with_unit("card_free_memory", help, Unit::Bytes, ConstGauge::new(bytes));
    }
    count(&mut registry, status);
    let incidents = Family::<IncidentLabels, Gauge>::default();
    if let Some(incident) = status.incident {
        let rung = incident.rung.map_or("none", |rung| rung.name());
        incidents.get_or_create(&IncidentLabels { code: incident.code, rung }).set(1);
    }
    registry.register("incident_active", "1 for the incident under way, with its last rung", incidents);
    describe(&mut registry, status);
    registry
}

fn count(registry: &mut Registry, status: &Status) {
    let counters = &status.counters;
    for (name, help, count) in [
        ("generated_tokens", "Tokens generated", counters.tokens),
        ("worker_restarts", "Workers started after the first", counters.restarts),
        ("resumes", "Answers continued by another worker", counters.resumes),
        (
            "restarted_answers",
            "Answers begun anew on another model before their client had seen anything",
            counters.restarted_answers,
        ),
        ("held_requests", "Requests that came while no worker was ready and were held", counters.held),
        ("degraded_answers", "Requests answered by the small model on the CPU", counters.degraded),
        ("incidents", "Incidents begun", counters.incidents),
    ] {
        registry.register(name, help, ConstCounter::new(count));
    }
}

/// What runs here.
fn describe(registry: &mut Registry, status: &Status) {
    let build = [("version", env!("CARGO_PKG_VERSION")), ("arch", std::env::consts::ARCH)];
    registry.register("build", "This program", Info::new(build.to_vec()));
    if let Some(model) = &status.model {
        let labels = [
            ("name", &model.name),
            ("runtime", &model.runtime),
            ("device", &model.device),
            ("firmware", &model.firmware),
        ];
        let labels: Vec<(&str, String)> = labels.map(|(key, value)| (key, value.clone())).into();
        registry.register("model", "The loaded model, or the one loaded last", Info::new(labels));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use hyper::header::CONTENT_TYPE;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Seconds;
    use crate::http::tests::client::{Events, get, post, text as body};
    use crate::http::tests::on_stage;
    use crate::service::Incident;

    /// Every family there can be.
    fn everything() -> String {
        let status = Status {
            temperature_c: Some(50.5),
            card_free_memory_bytes: Some(1 << 30),
            model: Some(Default::default()),
            incident: Some(Incident { code: "E-CARD-DEAD", first: "E-CARD-DEAD", rung: None, seconds: 3 }),
            ..Status::default()
        };
        metrics::used().text(&[snapshot(&status), process::registry(1)])
    }

    #[test]
    fn every_family_is_documented_as_it_is_told() {
        let told = everything();
        let mut table = String::from("| family | type | what it says |\n|---|---|---|\n");
        for help in told.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
            let (name, help) = help.split_once(' ').unwrap();
            let kind = format!("# TYPE {name} ");
            let kind = told.lines().find_map(|line| line.strip_prefix(&kind)).unwrap();
            table += &format!("| `{name}` | {kind} | {} |\n", help.trim_end_matches('.'));
        }
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let documented = std::fs::read_to_string(&path).unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let (before, rest) = documented.split_once("| family |").unwrap();
            let (_, after) = rest.split_once("\n\n").unwrap();
            return std::fs::write(path, format!("{before}{table}\n{after}")).unwrap();
        }
        assert!(documented.contains(&table), "docs/metrics.md should hold this:\n\n{table}");
    }

    #[test]
    fn a_status_is_told_in_numbers() {
        let told = everything();
        for line in [
            "llm8850_card_temperature_celsius 50.5",
            "llm8850_card_free_memory_bytes 1073741824",
            "llm8850_incident_active{code=\"E-CARD-DEAD\",rung=\"none\"} 1",
            "llm8850_state{state=\"booting\"} 1",
            "llm8850_ready 0",
        ] {
            assert!(told.lines().any(|told| told == line), "{line} is not in\n{told}");
        }
    }

    const CHAT: &str = "/v1/chat/completions";

    /// One conversation in either dialect.
    fn ask(text: &str, stream: bool) -> Value {
        let messages = json!([{"role": "user", "content": text}]);
        let ollamas = json!({"num_predict": 4});
        json!({"model": "theirs", "max_tokens": 4, "options": ollamas, "messages": messages, "stream": stream})
    }

    #[test]
    fn each_request_is_counted_once_by_how_it_ended() {
        let strict = |s: &mut crate::service::Settings| {
            s.limits.queue = 0;
            s.limits.request_timeout_s = Seconds(std::time::Duration::from_secs(2));
        };
        on_stage("", strict, async |stage| {
            stage.service.wait_for(|s| s.ready).await;
            // Failed in the middle of its stream; meanwhile others are turned away.
            let mut slow = Events::new(post(stage.address, CHAT, &ask("wait for cancel", true)).await);
            assert_eq!(post(stage.address, CHAT, &ask("hello", false)).await.status(), 429);
            assert_eq!(post(stage.address, "/api/chat", &ask("hello", true)).await.status(), 429);
            slow.rest().await;
            stage.service.wait_for(|s| !s.running).await;
            assert_eq!(post(stage.address, CHAT, &ask("hello", false)).await.status(), 200);
            Events::new(post(stage.address, CHAT, &ask("hello", true)).await).rest().await;
            body(post(stage.address, "/", &ask("hello", true)).await).await;
            assert_eq!(post(stage.address, CHAT, &json!({"model": 7})).await.status(), 400);
            assert_eq!(post(stage.address, CHAT, &ask("refuse", false)).await.status(), 400);
            let left = Events::new(post(stage.address, CHAT, &ask("wait for cancel", true)).await);
            drop(left);
            stage.service.wait_for(|s| s.counters.abandoned == 1).await;

            let response = get(stage.address, "/metrics").await;
            assert_eq!(response.headers()[CONTENT_TYPE], KIND);
            let told = body(response).await;
            let mut requests: Vec<_> =
                told.lines().filter_map(|line| line.strip_prefix("llm8850_requests_total")).collect();
            requests.sort_unstable();
            let count = |dialect: &str, outcome: &str, count: u32| {
                format!("{{dialect=\"{dialect}\",model=\"formula\",outcome=\"{outcome}\"}} {count}")
            };
            let expected = [
                count("ollama", "answered", 1),
                count("ollama", "refused", 1),
                count("openai", "abandoned", 1),
                count("openai", "answered", 2),
                count("openai", "client_error", 2),
                count("openai", "failed", 1),
                count("openai", "refused", 1),
            ];
            assert_eq!(requests, expected);
            for line in ["llm8850_first_token_seconds_count 3", "llm8850_token_seconds_count 9"] {
                assert!(told.lines().any(|told| told == line), "{line} is not in\n{told}");
            }
        });
    }
}
