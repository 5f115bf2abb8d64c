//! `GET /v1/diagnostics`: one archive with what a person needs who was not there.
//!
//! What is at hand is copied on the event loop; files, programs and compression come after,
//! off it. One archive is made at a time, and each of its parts has a bound.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::body::{Body, response};
use super::error::ApiError;
use super::{Context, health, metrics, redact};
use crate::sys::calendar;
use crate::sys::recent::Recent;

/// Files of the host that say what it is and how it fares.
const FACTS: [&str; 8] = [
    "/etc/os-release",
    "/proc/version",
    "/proc/cmdline",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/device-tree/model",
];
/// No more of a file is read.
const FILE: u64 = 256 << 10;
/// The journal's newest lines, this boot's and before: the kernel's, our programs' and the service's.
const JOURNAL: [&str; 24] = [
    "--no-pager",
    "--output=short-iso",
    "--lines=4000",
    "_TRANSPORT=kernel",
    "+",
    "SYSLOG_IDENTIFIER=llm8850-boot-slot",
    "SYSLOG_IDENTIFIER=llm8850-card-helper",
    "SYSLOG_IDENTIFIER=llm8850-disks",
    "SYSLOG_IDENTIFIER=llm8850-models",
    "SYSLOG_IDENTIFIER=llm8850-orders",
    "SYSLOG_IDENTIFIER=llm8850-provision",
    "SYSLOG_IDENTIFIER=llm8850-stick",
    "SYSLOG_IDENTIFIER=llm8850-supervisor",
    "SYSLOG_IDENTIFIER=llm8850-take-in",
    "SYSLOG_IDENTIFIER=llm8850-triple",
    "SYSLOG_IDENTIFIER=llm8850-worker",
    "SYSLOG_IDENTIFIER=rauc",
    "SYSLOG_IDENTIFIER=systemd-shutdown",
    "+",
    "UNIT=llm8850.service",
    "UNIT=llm8850-judge.service",
    "UNIT=llm8850-slots.service",
    "+",
    "_SYSTEMD_UNIT=llm8850.service",
];
const JOURNAL_BYTES: u64 = 2 << 20;
const COMPLAINT_BYTES: u64 = 4 << 10;
const JOURNAL_TIME: Duration = Duration::from_secs(5);

/// What is not the service's to know.
#[derive(Debug)]
pub struct Sources {
    /// The configuration file.
    config: PathBuf,
    log: Recent,
    /// Archives made at a time.
    places: Semaphore,
}

impl Sources {
    pub fn new(config: &Path, log: Recent) -> Self {
        Self { config: config.into(), log, places: Semaphore::new(1) }
    }
}

/// `/v1/logs`: the last lines of the supervisor's log.
pub fn logs(context: &Context) -> Response<Body> {
    response(StatusCode::OK, "text/plain; charset=utf-8", context.sources.log.text())
}

/// The archive.
///
/// # Errors
/// 500 where it cannot be made.
pub async fn diagnostics(context: &Context) -> Result<Response<Body>, ApiError> {
    // Given back when this is dropped: a client that left makes room.
    let _place = context.sources.places.acquire().await;
    let mut parts = at_hand(context);
    parts.push(("journal.txt", journal("journalctl").await));
    let config = context.sources.config.clone();
    let made = tokio::task::spawn_blocking(move || {
        parts.push(("config.toml", redact::file(&config)));
        parts.push(("host.txt", host()));
        archive(&parts)
    });
    let failed = |e: &dyn std::fmt::Display| ApiError::internal(format!("the archive: {e}"));
    let bytes = made.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    let mut response = response(StatusCode::OK, "application/gzip", bytes);
    let name = format!("llm8850-{}", calendar::format(SystemTime::now(), "%Y%m%d-%H%M%S"));
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{name}.tar.gz\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

type Part = (&'static str, String);

/// What is in memory, bounded where it is kept.
fn at_hand(context: &Context) -> Vec<Part> {
    let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let service = &context.service;
    let records = service.records();
    let lines = records.iter().filter_map(|record| serde_json::to_string(record).ok());
    let versions = serde_json::json!({
        "llm8850": env!("CARGO_PKG_VERSION"),
        "arch": std::env::consts::ARCH,
        "model": service.status().model,
    });
    vec![
        ("status.json", pretty(&health::status_value(context))),
        ("incidents.json", pretty(&serde_json::json!(service.incidents()))),
        ("ledger.jsonl", lines.map(|line| line + "\n").collect()),
        ("versions.json", pretty(&versions)),
        ("metrics.txt", metrics::text(context)),
        ("log.txt", context.sources.log.text()),
    ]
}

/// What `program` says, or why it does not.
async fn journal(program: &str) -> String {
    let mut command = Command::new(program);
    command
        .args(JOURNAL)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let read = async {
        let mut child = command.spawn()?;
        let mut said = Vec::new();
        if let Some(out) = child.stdout.take() {
            out.take(JOURNAL_BYTES).read_to_end(&mut said).await?;
        }
        if let Some(out) = child.stderr.take().filter(|_| said.is_empty()) {
            out.take(COMPLAINT_BYTES).read_to_end(&mut said).await?;
        }
        io::Result::Ok(String::from_utf8_lossy(&said).into_owned())
    };
    match timeout(JOURNAL_TIME, read).await {
        Ok(Ok(said)) => said,
        Ok(Err(e)) => format!("{program}: {e}\n"),
        Err(_) => format!("{program}: did not answer within {} s\n", JOURNAL_TIME.as_secs()),
    }
}

/// What the host is and how it fares.
fn host() -> String {
    let uname = rustix::system::uname();
    let words = [uname.sysname(), uname.release(), uname.version(), uname.machine()];
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let mut text = format!("{}\n", words.join(" "));
    for path in FACTS {
        let told = read(Path::new(path)).unwrap_or_else(|e| format!("{e}\n"));
        text += &format!("\n== {path}\n{}", told.replace('\0', "\n"));
    }
    text
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, FILE), &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn archive(parts: &[Part]) -> io::Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, text) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("llm8850/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use http_body_util::BodyExt;

    use super::*;
    use crate::http::tests::client::{get, text};
    use crate::http::tests::on_stage;

    #[test]
    fn the_archive_holds_what_there_is_to_know_and_no_secret() {
        on_stage(
            "",
            |_| {},
            async |stage| {
                stage.service.wait_for(|s| s.ready).await;
                let config = "[worker]\nenv = { MY_TOKEN = \"hush\" }\n[model]\nname = \"shown\"\n";
                std::fs::write(stage.dir.path().join("config.toml"), config).unwrap();
                let response = get(stage.address, "/v1/diagnostics").await;
                assert_eq!(response.headers()["content-type"], "application/gzip");
                let name = response.headers()["content-disposition"].to_str().unwrap().to_owned();
                assert!(name.starts_with("attachment; filename=\"llm8850-2"), "{name}");
                let bytes = response.into_body().collect().await.unwrap().to_bytes();
                let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
                let mut parts = BTreeMap::new();
                for entry in archive.entries().unwrap() {
                    let mut entry = entry.unwrap();
                    let name = entry.path().unwrap().display().to_string();
                    let mut text = String::new();
                    entry.read_to_string(&mut text).unwrap();
                    parts.insert(name.strip_prefix("llm8850/").unwrap().to_owned(), text);
                }
                let names: Vec<_> = parts.keys().map(String::as_str).collect();
                let expected = [
                    "config.toml",
                    "host.txt",
                    "incidents.json",
                    "journal.txt",
                    "ledger.jsonl",
                    "log.txt",
                    "metrics.txt",
                    "status.json",
                    "versions.json",
                ];
                assert_eq!(names, expected);
                assert!(parts["status.json"].contains("\"state\": \"ready\""));
                assert!(parts["ledger.jsonl"].contains("\"what\":\"boot\""));
                assert!(parts["metrics.txt"].contains("llm8850_ready 1\n"));
                assert!(parts["host.txt"].contains("== /proc/meminfo\nMemTotal:"));
                assert!(parts["config.toml"].contains("name = \"shown\""), "{}", parts["config.toml"]);
                assert!(parts.values().all(|text| !text.contains("hush")));
                assert_eq!(text(get(stage.address, "/v1/logs").await).await, "");
            },
        );
    }

    #[tokio::test]
    async fn a_journal_that_is_not_there_is_named() {
        assert!(journal("/no/such/program").await.starts_with("/no/such/program: No such file"));
        // A program that knows none of these options says so.
        let complaint = journal("ls").await;
        assert!(complaint.starts_with("ls: unrecognized option '--no-pager'"), "{complaint}");
    }
}
