//! Whether a start was a good one: somebody on the local network gets an answer.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::client::ask;
use super::firmware::Firmware;
use super::keeper::Keeper;
use super::policy;
use super::record::Verdict;
use super::{TOLD, network};
use crate::config::Config;
use crate::fault::{Failure, Result};
use crate::sys::root::SysRoot;

/// The golden prompt, as people would put it.
const PROMPT: &str = "Say hello in one short sentence.";
/// A whole answer of the slowest model there is takes less.
const ANSWER: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_secs(10);
/// Between two tries; then, when it is overdue.
const PAUSE: Duration = Duration::from_secs(2);
const LONG_PAUSE: Duration = Duration::from_secs(30);
const TRIAL_LIMIT: Duration = Duration::from_secs(5 * 60);
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Judges this start, with the service's configuration in the file `config`. Ends when it is
/// good or the machine restarts: one that is overdue is still asked, for it may become good.
///
/// # Errors
/// Where the firmware knows of no slots.
pub async fn judge<F: Firmware>(
    keeper: &mut Keeper<F>,
    config: &Path,
    within: Option<Duration>,
) -> Result<()> {
    let limit = if keeper.on_trial()? { TRIAL_LIMIT } else { LIMIT };
    let left = || limit.saturating_sub(uptime(keeper.root()));
    let until = Instant::now() + within.unwrap_or_else(left);
    let mut overdue = false;
    loop {
        let why = match attempt(keeper, config).await {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        if !overdue && Instant::now() >= until {
            overdue = true;
            match keeper.decide(|record, facts| Ok(policy::overdue(record, facts, &why))) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(failure) => warn!(code = failure.fault.code(), "{failure}"),
            }
        }
        sleep(if overdue { LONG_PAUSE } else { PAUSE }).await;
    }
}

/// Since the kernel's start: a judge that was started anew has no more time than the first.
fn uptime(root: &SysRoot) -> Duration {
    let text = std::fs::read_to_string(root.path("proc/uptime")).unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|seconds| seconds.parse().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

async fn attempt<F: Firmware>(keeper: &mut Keeper<F>, config: &Path) -> std::result::Result<(), String> {
    let listen = Config::load(config).0.server.listen;
    let key = std::fs::read_to_string(keeper.root().path(TOLD).join("key")).ok();
    let target = network::target(&listen, network::address(keeper.root()));
    let (address, network) = target.ok_or("the service listens nowhere")?;
    let by = answers(address, key.as_deref().map(str::trim)).await?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let verdict = Verdict { address: address.to_string(), network, by, at };
    let told = |failure: Failure| failure.to_string();
    if let Some(why) =
        keeper.look(|record, facts| policy::objection(record, facts, &verdict)).map_err(told)?
    {
        return Err(why);
    }
    info!("{} answered at {}", verdict.by, verdict.address);
    keeper.decide(|record, facts| Ok(policy::judged_good(record, facts, verdict))).map_err(told)?;
    Ok(())
}

/// Has the service answer: what computed the answer.
///
/// # Errors
/// Why that was no answer.
pub async fn answers(address: SocketAddr, key: Option<&str>) -> std::result::Result<String, String> {
    ask(address, "/readyz", None, key, GLANCE).await?;
    let request = json!({
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 0, "max_tokens": 16,
    });
    let (headers, answer) = ask(address, "/v1/chat/completions", Some(&request), key, ANSWER).await?;
    if let Some(code) = headers.get("x-llm8850-fallback") {
        return Err(format!("a configured sentence stood in for an answer: {}", code.to_str().unwrap_or("")));
    }
    let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default();
    let end = answer.pointer("/choices/0/finish_reason").and_then(Value::as_str).unwrap_or_default();
    if text.trim().is_empty() || !matches!(end, "stop" | "length") {
        return Err(format!("the answer was {text:?}, its end {end:?}"));
    }
    let status = ask(address, "/v1/status", None, key, GLANCE).await?.1;
    let emulated = |runtime: &str| runtime.ends_with("_emulated");
    let runtime = status.pointer("/model/runtime").and_then(Value::as_str).unwrap_or_default();
    let cpu = headers.contains_key("x-llm8850-degraded") || emulated(runtime);
    let model = status.pointer("/model/name").and_then(Value::as_str).unwrap_or("a model");
    Ok(format!("{model} on {}", if cpu { "the CPU" } else { "the card" }))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
