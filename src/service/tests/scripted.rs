//! A worker's process for tests: this very test program, started again to run only
//! [`scripted_worker`]. Its "model" is a formula of seed and position.

use std::io::{Write as _, stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::chat::{
    Delta, Done, Event, Finish, Input, Request, RequestId, Started, Token, TokenChoice, TokenId,
    TokenLogprobs, Usage,
};
use crate::fault::{Failure, Fault};
use crate::link::frame::{Activity, Command, ModelInfo, Report};
use crate::link::pipe::{Reader, Writer};

/// The environment variable that says how a worker behaves.
pub const SCRIPT: &str = "SCRIPTED_WORKER";

fn token_id(seed: u64, index: u32) -> TokenId {
    crc32fast::hash(&[seed.to_le_bytes(), u64::from(index).to_le_bytes()].concat()) % 50_000
}

/// A token's text carries the seed in front, so that tests can read it back.
fn token_text(seed: u64, index: u32) -> String {
    if index == 0 { format!("{seed}: ") } else { format!("{} ", token_id(seed, index)) }
}

/// The whole answer.
pub fn text(seed: u64, tokens: u32) -> String {
    (0..tokens).map(|i| token_text(seed, i)).collect()
}

/// The seed an answer was made with.
pub fn seed(text: &str) -> Option<u64> {
    text.split_once(':')?.0.parse().ok()
}

/// A program that runs [`scripted_worker`] whatever its arguments.
pub fn program(dir: &Path) -> PathBuf {
    let path = dir.join("worker");
    let this = std::env::current_exe().unwrap();
    let test = "service::tests::scripted::scripted_worker";
    let script =
        format!("#!/bin/sh\nexec '{}' --exact {test} --ignored --quiet >/dev/null\n", this.display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

struct Stage {
    script: String,
    reports: Mutex<Writer<UnixStream, Report>>,
    raw: UnixStream,
    cancelled: AtomicU64,
}

impl Stage {
    fn send(&self, report: Report) {
        // A supervisor that is gone ends this process by closing its input.
        let _ = self.reports.lock().unwrap().send(&report);
    }

    fn answer(&self, id: RequestId, event: Event) {
        self.send(Report::Answer { id, event });
    }

    fn done(&self, id: RequestId, finish: Finish, prompt_tokens: u32, tokens: u32) {
        let usage = Usage { prompt_tokens, completion_tokens: tokens, ..Usage::default() };
        let (tail, timings) = Default::default();
        self.answer(id, Event::Done(Done { finish, tail, usage, timings, logprobs: None }));
    }

    /// Misbehaves at token `index` of a request this worker began itself.
    fn stumble(&self, id: RequestId, index: u32, fresh: bool) {
        if self.script == "die-every-10" && index % 10 == 9 {
            std::process::abort();
        }
        if index != 5 || !fresh {
            return;
        }
        let token = |id, index| Report::Answer { id, event: Event::Token(made(7, index, false)) };
        match self.script.as_str() {
            "gap-at-5" => self.send(token(id, 6)),
            "repeat-at-5" => self.send(token(id, 4)),
            "stranger-at-5" => self.send(token(RequestId(id.0 + 1), 5)),
            "noise-at-5" => (&self.raw).write_all(&[0; 64]).unwrap(),
            "card-fault-at-5" => {
                self.answer(id, Event::Failed(Failure::new(Fault::CardCall, "axclrtEngineExecute: 0x1")));
            }
            _ => {}
        }
    }

    /// Models load at once, but for those whose name says otherwise.
    fn load(&self, model: String) {
        match model.as_str() {
            "deadly" => std::process::abort(),
            "too large" => {
                let failure = Failure::new(Fault::CardMemory, "too large needs 9 MiB");
                self.send(Report::NotAdded { model, failure });
            }
            _ => self.send(Report::Added(ModelInfo { name: model, context: 512, ..ModelInfo::default() })),
        }
    }

    fn generate(&self, id: RequestId, request: &Request, resume: u32) {
        let prompt = match &request.input {
            Input::Nothing => panic!("nothing to answer"),
            Input::Raw(prompt) => prompt,
            Input::Chat(messages) => &messages.last().unwrap().content,
        };
        let (seed, tokens) = (request.sampling.seed.unwrap(), request.limits.max_tokens.unwrap());
        match prompt.as_str() {
            "die at once" => std::process::abort(),
            "refuse" => {
                return self.answer(id, Event::Failed(Failure::new(Fault::ContextLength, "too long")));
            }
            _ => self.answer(id, Event::Started(Started { prompt_tokens: 3, ..Started::default() })),
        }
        let size = match &request.input {
            Input::Chat(messages) if prompt == "count messages" => u32::try_from(messages.len()).unwrap(),
            _ => 3,
        };
        let waits = prompt == "wait for cancel";
        for index in resume..tokens {
            while waits && self.cancelled.load(Ordering::Acquire) != id.0 {
                thread::park();
            }
            if self.cancelled.load(Ordering::Acquire) == id.0 {
                return self.done(id, Finish::Cancelled, size, index);
            }
            self.answer(id, Event::Token(made(seed, index, request.logprobs.is_some())));
            self.stumble(id, index + 1, resume == 0);
        }
        self.done(id, Finish::Length, size, tokens);
    }
}

fn made(seed: u64, index: u32, logprobs: bool) -> Token {
    let (id, content) = (token_id(seed, index), token_text(seed, index));
    let logprobs = logprobs.then(|| {
        let chosen = TokenChoice { id, bytes: content.clone().into(), logprob: -0.5 };
        TokenLogprobs { top: vec![chosen.clone()], chosen }
    });
    Token { index, id, delta: Delta { content, ..Delta::default() }, logprobs }
}

/// Not a test: the worker's process.
#[test]
#[ignore = "the process other tests start"]
fn scripted_worker() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    let link = UnixStream::from(stdin().as_fd().try_clone_to_owned().unwrap());
    let mut commands = Reader::<_, Command>::new(link.try_clone().unwrap());
    let stage = Arc::new(Stage {
        script: script.clone(),
        reports: Mutex::new(Writer::new(link.try_clone().unwrap())),
        raw: link,
        cancelled: AtomicU64::new(0),
    });
    let version = if script == "other-version" { "0.0.0-other" } else { env!("CARGO_PKG_VERSION") };
    stage.send(Report::Hello { version: version.into(), pid: std::process::id() });
    stage.send(Report::Loading { done: 1, of: 2, what: "layer 0".into() });
    if script == "fatal" {
        stage.send(Report::Fatal(Failure::new(Fault::ModelMissing, "config.json")));
        std::process::exit(1);
    }
    if script != "never-ready" {
        stage.send(Report::Ready(ModelInfo {
            name: "formula".into(),
            context: 4096,
            ..ModelInfo::default()
        }));
    }
    let (jobs, todo) = mpsc::channel::<(RequestId, Arc<Request>, u32)>();
    let generator = thread::spawn({
        let stage = Arc::clone(&stage);
        move || todo.iter().for_each(|(id, request, resume)| stage.generate(id, &request, resume))
    });
    while let Ok(Some(command)) = commands.receive() {
        match command {
            Command::Generate { id, request, resume } => {
                let known = u32::try_from(resume.len()).unwrap();
                let seed = request.sampling.seed.unwrap();
                assert!(
                    resume.iter().copied().eq((0..known).map(|i| token_id(seed, i))),
                    "resume is altered"
                );
                jobs.send((id, request, known)).unwrap();
            }
            Command::Cancel { id } => {
                stage.cancelled.store(id.0, Ordering::Release);
                generator.thread().unpark();
            }
            Command::Test { model } => {
                let model = model.unwrap_or_else(|| "formula".into());
                stage.send(Report::Tested { model, tokens: vec![1, 2, 3] });
            }
            Command::Warm { .. } => {}
            Command::Load { model, .. } => stage.load(model),
            Command::Unload { model } => stage.send(Report::Unloaded { model }),
            Command::Ping { nonce } => stage.send(Report::Pong { nonce, activity: Activity::default() }),
            Command::Stop => break,
        }
    }
    std::process::exit(0);
}
