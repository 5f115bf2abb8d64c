//! What is counted and measured while it happens, and how it is told: OpenMetrics text.
//!
//! | to change | open |
//! |---|---|
//! | what is recorded at its source | this file |
//! | what is told of this process | [`process`] |
//! | what is told of the status | `http::metrics` |
//!
//! Recording adds to a number in memory. The locks within are only ever taken on the event
//! loop's one thread, and never over a wait: nobody who records waits for somebody who reads.

pub mod process;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::fault::Fault;
use crate::machine::{Rung, State};

/// What all names but those of the process begin with.
pub const PREFIX: &str = "llm8850";
/// The content type of [`Metrics::text`].
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a hit in a warm cache to the longest a request may take.
const WAITS: [f64; 14] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0];
/// Around a reading pace: from 500 tokens a second to one in two seconds.
const TOKENS: [f64; 13] = [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0];
/// From a replaced worker to the last rest of the ladder.
const RECOVERIES: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 180.0, 600.0, 3600.0, 21600.0];

/// In whose words a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Ollama,
}

impl Dialect {
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Ollama => "ollama",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By itself.
    Answered,
    /// Turned away: too many, or nothing ready. Trying again later is worth it.
    Refused,
    /// With an error that is not the client's.
    Failed,
    /// The client left before the end.
    Abandoned,
    /// The request was wrong.
    ClientError,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::ClientError => "client_error",
        }
    }
}

/// Why somebody was turned away at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No key came along, or none that can be read.
    NoKey,
    /// A key that nobody knows.
    WrongKey,
    /// A key that may not do this.
    NotAdmin,
    /// The key has as many requests under way as it may.
    KeyLimit,
    /// The configuration has a mistake: nobody gets in.
    Closed,
}

impl Denial {
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::WrongKey => "wrong_key",
            Self::NotAdmin => "not_admin",
            Self::KeyLimit => "key_limit",
            Self::Closed => "closed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DenialLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    dialect: &'static str,
    model: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RungLabels {
    rung: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// What is recorded. Clones record in the same place.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    denials: Family<DenialLabel, Counter>,
    queue_wait: Histogram,
    first_token: Histogram,
    token: Histogram,
    prompt_tokens: Counter,
    prefix_hits: Counter,
    prefix_tokens: Counter,
    rungs: Family<RungLabels, Counter>,
    recoveries: Family<RungLabels, Counter>,
    recovery: Histogram,
    host_restarts: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let time = |registry: &mut Registry, name: &str, help: &str, buckets: &[f64]| {
            let histogram = Histogram::new(buckets.iter().copied());
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        let r = &mut registry;
        let requests = Family::default();
        r.register("requests", "Requests for an answer, by how they ended", requests.clone());
        let denials = Family::default();
        r.register("denials", "Requests turned away by what is asked of keys", denials.clone());
        let rungs = Family::default();
        r.register("rungs", "Rungs of the recovery ladder used", rungs.clone());
        let recoveries = Family::default();
        r.register("recoveries", "Incidents that ended with a card that answers", recoveries.clone());
        Self {
            requests,
            denials,
            queue_wait: time(r, "queue_wait", "From a request's arrival until a worker has it", &WAITS),
            first_token: time(r, "first_token", "From a request's arrival to its first token", &WAITS),
            token: time(r, "token", "From one token of an answer to the next", &TOKENS),
            prompt_tokens: counter(r, "prompt_tokens", "Tokens of prompts"),
            prefix_hits: counter(
                r,
                "prefix_hits",
                "Prompts whose beginning was on the card already, or brought back there",
            ),
            prefix_tokens: counter(
                r,
                "prefix_tokens",
                "Tokens of prompts that were on the card already, or brought back there",
            ),
            rungs,
            recoveries,
            recovery: time(r, "recovery", "From an incident's begin to its end", &RECOVERIES),
            host_restarts: counter(r, "host_restarts", "Restarts of the host, as far as the ledger reaches"),
            registry: Arc::new(registry),
        }
    }
}

impl Metrics {
    /// A request ended. `model` is one of ours, never a client's word.
    pub fn request(&self, dialect: Dialect, model: &str, outcome: Outcome) {
        let labels =
            RequestLabels { dialect: dialect.name(), model: model.to_owned(), outcome: outcome.name() };
        self.requests.get_or_create(&labels).inc();
    }

    /// Somebody was turned away at the door.
    pub fn denied(&self, why: Denial) {
        self.denials.get_or_create(&DenialLabel { reason: why.name() }).inc();
    }

    /// A worker was given a request that had waited for `wait`.
    pub fn dispatched(&self, wait: Duration) {
        self.queue_wait.observe(wait.as_secs_f64());
    }

    /// A prompt was read; `cached` of its tokens were on the card already, or brought back there.
    pub fn prompt(&self, tokens: u32, cached: u32) {
        self.prompt_tokens.inc_by(tokens.into());
        self.prefix_tokens.inc_by(cached.into());
        self.prefix_hits.inc_by((cached > 0).into());
    }

    /// An answer's first token came `time` after its request.
    pub fn first_token(&self, time: Duration) {
        self.first_token.observe(time.as_secs_f64());
    }

    /// A token came `time` after the one before.
    pub fn token(&self, time: Duration) {
        self.token.observe(time.as_secs_f64());
    }

    /// A rung is used.
    pub fn rung(&self, rung: Rung, fault: Fault) {
        self.rungs.get_or_create(&rung_labels(Some(rung), fault)).inc();
        self.host_restarted((rung == Rung::R5).into());
    }

    /// The host was restarted so many times.
    pub fn host_restarted(&self, times: u64) {
        self.host_restarts.inc_by(times);
    }

    /// An incident ended after `took`; `rung` is the last one used.
    pub fn recovered(&self, rung: Option<Rung>, fault: Fault, took: Duration) {
        self.recoveries.get_or_create(&rung_labels(rung, fault)).inc();
        self.recovery.observe(took.as_secs_f64());
    }

    /// All of it, and what `more` holds, as OpenMetrics text.
    pub fn text(&self, more: &[Registry]) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        for registry in std::iter::once(self.registry.as_ref()).chain(more) {
            let _ = text::encode_registry(&mut text, registry);
        }
        let _ = text::encode_eof(&mut text);
        text
    }
}

fn rung_labels(rung: Option<Rung>, fault: Fault) -> RungLabels {
    RungLabels { rung: rung.map_or("none", Rung::name), code: fault.code() }
}

/// One series for each state: 1 for `current`, else 0.
pub fn states(registry: &mut Registry, current: State) {
    let states = Family::<StateLabel, Gauge>::default();
    for state in State::ALL {
        let value = i64::from(state.name() == current.name());
        states.get_or_create(&StateLabel { state: state.name() }).set(value);
    }
    registry.register("state", "1 for the state the service is in", states);
}

/// One of every kind of record.
#[cfg(test)]
pub fn used() -> Metrics {
    let metrics = Metrics::default();
    metrics.request(Dialect::OpenAi, "a", Outcome::Answered);
    metrics.denied(Denial::NoKey);
    metrics.rung(Rung::R1, Fault::CardDead);
    metrics.recovered(None, Fault::CardDead, Duration::ZERO);
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_told() {
        let metrics = Metrics::default();
        metrics.request(Dialect::OpenAi, "a \"model\"", Outcome::Answered);
        metrics.clone().request(Dialect::OpenAi, "a \"model\"", Outcome::Answered);
        metrics.request(Dialect::Ollama, "", Outcome::ClientError);
        metrics.denied(Denial::WrongKey);
        metrics.dispatched(Duration::from_millis(300));
        metrics.prompt(20, 0);
        metrics.prompt(30, 12);
        metrics.first_token(Duration::from_secs(3));
        metrics.token(Duration::from_millis(40));
        metrics.rung(Rung::R5, Fault::CardDead);
        metrics.recovered(None, Fault::WorkerExit, Duration::from_secs(4));
        let mut more = Registry::with_prefix(PREFIX);
        states(&mut more, State::Recovering(Rung::R2));
        let text = metrics.text(&[more]);
        for line in [
            "llm8850_requests_total{dialect=\"openai\",model=\"a \\\"model\\\"\",outcome=\"answered\"} 2",
            "llm8850_requests_total{dialect=\"ollama\",model=\"\",outcome=\"client_error\"} 1",
            "llm8850_denials_total{reason=\"wrong_key\"} 1",
            "# UNIT llm8850_queue_wait_seconds seconds",
            "llm8850_queue_wait_seconds_bucket{le=\"0.25\"} 0",
            "llm8850_queue_wait_seconds_bucket{le=\"0.5\"} 1",
            "llm8850_first_token_seconds_sum 3.0",
            "llm8850_token_seconds_count 1",
            "llm8850_prompt_tokens_total 50",
            "llm8850_prefix_hits_total 1",
            "llm8850_prefix_tokens_total 12",
            "llm8850_rungs_total{rung=\"R5\",code=\"E-CARD-DEAD\"} 1",
            "llm8850_host_restarts_total 1",
            "llm8850_recoveries_total{rung=\"none\",code=\"E-WORKER-EXIT\"} 1",
            "llm8850_recovery_seconds_bucket{le=\"5.0\"} 1",
            "llm8850_state{state=\"recovering\"} 1",
            "llm8850_state{state=\"ready\"} 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let states = text.lines().filter(|line| line.starts_with("llm8850_state{")).count();
        assert_eq!(states, 12, "rungs are no states of their own");
    }
}
