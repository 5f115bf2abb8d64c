//! A worker process with a supervisor's socket and an emulated card of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use llm8850::chat::{
    Done, Event, Input, Limits, Message, Request, RequestId, Role, Sampling, Started, Token, TokenId,
};
use llm8850::fault::Failure;
use llm8850::link::frame::{Activity, Command, ModelInfo, Report};
use llm8850::link::pipe::{Reader, Writer};
use serde_json::Value;

use crate::installed::{demo_model, runtime};

/// Longer than anything a test waits for may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A copy of the demo model by links, whose files can be replaced one by one.
pub fn linked_model() -> tempfile::TempDir {
    fn link(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let (source, target) = (fs::canonicalize(entry.path()).unwrap(), to.join(entry.file_name()));
            if source.is_dir() {
                fs::create_dir(&target).unwrap();
                link(&source, &target);
            } else {
                std::os::unix::fs::symlink(source, target).unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    link(&demo_model(), directory.path());
    directory
}

/// A running worker. Killed when dropped.
pub struct Worker {
    child: Child,
    commands: Writer<UnixStream, Command>,
    reports: Receiver<Report>,
    socket: UnixStream,
    card: tempfile::TempDir,
}

impl Worker {
    /// Starts a worker for the demo model, with more arguments.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(&demo_model(), arguments)
    }

    pub fn start_with(model: &Path, arguments: &[&str]) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), model, arguments)
    }

    /// Starts a worker whose card answers every call of `call` with `code`.
    pub fn start_refusing(call: &str, code: &str, arguments: &[&str]) -> Self {
        let rule = serde_json::json!({ "call": call, "times": 0, "act": { "fail": code } });
        Self::start_under(&rule, arguments)
    }

    /// Starts a worker whose card has this fault from the first call on.
    pub fn start_under(rule: &Value, arguments: &[&str]) -> Self {
        let card = tempfile::tempdir().unwrap();
        fs::create_dir(card.path().join("faults")).unwrap();
        fs::write(card.path().join("faults/rule.json"), rule.to_string()).unwrap();
        Self::start_on(card, &demo_model(), arguments)
    }

    fn start_on(card: tempfile::TempDir, model: &Path, arguments: &[&str]) -> Self {
        let mut all = vec!["--model-dir", model.to_str().unwrap()];
        let runtime = runtime();
        if !arguments.contains(&"--runtime") {
            all.extend(["--runtime", runtime.to_str().unwrap()]);
        }
        all.extend(arguments);
        Self::start_so(card, &all)
    }

    /// Starts a worker with just these arguments.
    pub fn start_as(arguments: &[&str]) -> Self {
        Self::start_so(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_so(card: tempfile::TempDir, arguments: &[&str]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Process::new(env!("CARGO_BIN_EXE_llm8850-worker"))
            .args(arguments)
            .env("AXCL_EMU_DIR", card.path())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, reports) = channel();
        let mut reader = Reader::<_, Report>::new(ours.try_clone().unwrap());
        thread::spawn(move || {
            while let Ok(Some(report)) = reader.receive() {
                if sender.send(report).is_err() {
                    break;
                }
            }
        });
        let socket = ours.try_clone().unwrap();
        let worker = Self { child, commands: Writer::new(ours), reports, socket, card };
        let Report::Hello { pid, .. } = worker.report() else { panic!("no Hello first") };
        assert_eq!(pid, worker.child.id());
        worker
    }

    /// Starts a worker and waits until the model answers.
    pub fn ready(arguments: &[&str]) -> (Self, ModelInfo) {
        let worker = Self::start(arguments);
        let info = worker.wait_ready();
        (worker, info)
    }

    pub fn wait_ready(&self) -> ModelInfo {
        let mut last = 0;
        loop {
            match self.report() {
                Report::Loading { done, of, .. } => {
                    assert!(done >= last && done <= of, "progress goes back: {done} of {of}");
                    last = done;
                }
                Report::Ready(info) => return info,
                other => panic!("unexpected while loading: {other:?}"),
            }
        }
    }

    /// The next report; how the card is comes whenever it likes, and is left out.
    pub fn report(&self) -> Report {
        loop {
            match self.reports.recv_timeout(PATIENCE).expect("the worker says nothing more") {
                Report::Health(_) => {}
                report => return report,
            }
        }
    }

    pub fn send(&mut self, command: &Command) {
        self.commands.send(command).unwrap();
    }

    pub fn generate(&mut self, id: u64, request: &Request, resume: &[TokenId]) {
        let request = Arc::new(request.clone());
        self.send(&Command::Generate { id: RequestId(id), request, resume: resume.to_vec() });
    }

    /// The next event of request `id`.
    pub fn event(&self, id: u64) -> Event {
        match self.report() {
            Report::Answer { id: RequestId(of), event } if of == id => event,
            other => panic!("unexpected: {other:?}"),
        }
    }

    /// The whole answer to a request.
    pub fn answer(&mut self, id: u64, request: &Request, resume: &[TokenId]) -> Answer {
        self.generate(id, request, resume);
        self.rest(id)
    }

    /// What is still to come of an answer.
    pub fn rest(&self, id: u64) -> Answer {
        let mut answer = Answer::default();
        loop {
            match self.event(id) {
                Event::Started(started) => answer.started = Some(started),
                Event::Token(token) => answer.tokens.push(token),
                Event::Restart => panic!("a worker restarted an answer"),
                Event::Done(done) => {
                    answer.done = Some(done);
                    return answer;
                }
                Event::Failed(failure) => {
                    answer.failed = Some(failure);
                    return answer;
                }
            }
        }
    }

    /// Pings, skipping what else comes until the answer.
    pub fn ping(&mut self, nonce: u64) -> Activity {
        self.send(&Command::Ping { nonce });
        loop {
            if let Report::Pong { nonce: answered, activity } = self.report() {
                assert_eq!(answered, nonce);
                return activity;
            }
        }
    }

    /// Pings until the activity is as wanted.
    pub fn ping_until(&mut self, wanted: impl Fn(&Activity) -> bool) -> Activity {
        let began = Instant::now();
        for nonce in 0.. {
            let activity = self.ping(nonce);
            if wanted(&activity) {
                return activity;
            }
            assert!(began.elapsed() < PATIENCE, "it never came; last: {activity:?}");
            thread::yield_now();
        }
        unreachable!("numbers do not run out")
    }

    /// Arms a fault of the emulated card.
    pub fn arm(&self, call: &str, nth: u64, act: &Value) {
        let rule = serde_json::json!({ "fault": { "call": call, "nth": nth, "act": act } });
        assert_eq!(self.control(&rule)["ok"], true);
    }

    /// Asks the emulated card.
    pub fn control(&self, command: &Value) -> Value {
        let mut socket = UnixStream::connect(self.card.path().join("control.sock")).unwrap();
        writeln!(socket, "{command}").unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Closes the supervisor's end.
    pub fn hang_up(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for the end; what was still said comes with it.
    pub fn end(mut self) -> (ExitStatus, Vec<Report>) {
        let mut said = Vec::new();
        while let Ok(report) = self.reports.recv_timeout(PATIENCE) {
            said.push(report);
        }
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, collected.
#[derive(Debug, Default)]
pub struct Answer {
    pub started: Option<Started>,
    pub tokens: Vec<Token>,
    pub done: Option<Done>,
    pub failed: Option<Failure>,
}

impl Answer {
    pub fn ids(&self) -> Vec<TokenId> {
        self.tokens.iter().map(|t| t.id).collect()
    }

    pub fn text(&self) -> String {
        let tail = self.done.iter().map(|d| d.tail.content.as_str());
        self.tokens.iter().map(|t| t.delta.content.as_str()).chain(tail).collect()
    }
}

/// A chat request with a seed, of at most `tokens` tokens.
pub fn ask(text: &str, tokens: u32) -> Request {
    Request {
        sampling: Sampling {
            temperature: Some(0.8),
            top_p: Some(0.95),
            seed: Some(7),
            ..Sampling::default()
        },
        limits: Limits { max_tokens: Some(tokens), ..Limits::default() },
        logprobs: Some(2),
        ..Request::new(Input::Chat(vec![Message::text(Role::User, text)]))
    }
}
