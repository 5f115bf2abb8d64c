//! A supervisor process with a configuration, a card and a port of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::client;
use crate::installed::{demo_model, runtime};

/// Longer than anything a test waits for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
pub const CHAT: &str = "/v1/chat/completions";

/// A running supervisor. Ended when dropped.
pub struct Supervisor {
    child: Child,
    log: UnboundedReceiver<String>,
    pub address: SocketAddr,
    pub config: PathBuf,
    directory: tempfile::TempDir,
}

impl Supervisor {
    /// Starts one and waits for its port. `sections` is added to its configuration and begins
    /// within `[model]`.
    pub async fn start(sections: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        std::fs::create_dir(directory.path().join("card")).unwrap();
        write_config(&config, directory.path(), sections);
        let mut child = Command::new(env!("CARGO_BIN_EXE_llm8850-supervisor"))
            .arg("--config")
            .arg(&config)
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = unbounded_channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                // Shown by the test runner where a test fails.
                eprintln!("{line}");
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut supervisor = Self { child, log, address: ([0; 4], 0).into(), config, directory };
        let line = supervisor.wait_log("listening on http://").await;
        supervisor.address = line.rsplit_once("http://").unwrap().1.trim().parse().unwrap();
        supervisor
    }

    /// Starts one and waits until its model answers.
    pub async fn ready(sections: &str) -> Self {
        let mut supervisor = Self::start(sections).await;
        supervisor.wait_log("-> ready").await;
        supervisor
    }

    /// Makes a call of the card's library fail in every process from now on. Removing the file
    /// ends it.
    pub fn break_call(&self, call: &str, code: &str) -> PathBuf {
        let faults = self.directory.path().join("card/faults");
        std::fs::create_dir_all(&faults).unwrap();
        let (waiting, rule) = (faults.join("rule.tmp"), faults.join("rule.json"));
        std::fs::write(&waiting, json!({"call": call, "times": 0, "act": {"fail": code}}).to_string())
            .unwrap();
        std::fs::rename(waiting, &rule).unwrap();
        rule
    }

    /// Waits for a state.
    pub async fn wait_state(&self, state: &str) -> Value {
        let wanted = async {
            loop {
                let status = self.status().await;
                if status["state"] == state {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("never {state}"))
    }

    /// Rewrites the configuration's added sections.
    pub fn configure(&self, sections: &str) {
        write_config(&self.config, self.directory.path(), sections);
    }

    /// Waits for a line of the log.
    pub async fn wait_log(&mut self, part: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.log.recv()).await.ok().flatten();
            let line = line.unwrap_or_else(|| panic!("no {part:?} in the log"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub async fn status(&self) -> Value {
        client::json(client::get(self.address, "/v1/status").await).await
    }

    /// Kills the present worker, if one lives.
    pub async fn kill_worker(&self) -> bool {
        let pid = self.status().await["worker_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn write_config(path: &Path, card: &Path, sections: &str) {
    let (runtime, card, model) = (json!(runtime()), json!(card.join("card")), json!(demo_model()));
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n\
         [worker]\nruntime = {runtime}\nverify = false\nenv = {{ AXCL_EMU_DIR = {card} }}\n\
         [recovery]\nsystem_root = {card}\npace = 100\n\
         [model]\ndir = {model}\nname = \"demo\"\n{sections}\n"
    );
    std::fs::write(path, text).unwrap();
}

/// A request body.
pub fn ask(text: &str, extra: Value) -> Value {
    let mut body = json!({
        "model": "demo", "seed": 5, "max_tokens": 24, "messages": [{"role": "user", "content": text}],
    });
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(3 * PATIENCE, future).await.expect("took too long") })
}
