//! The shared library as a C program sees it: `abi.c` is compiled against it and run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail so.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod small_engine;

/// Where cargo put the shared library: beside this test.
fn library_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let dir = test.parent().unwrap().to_owned();
    assert!(dir.join("libaxcl_rt.so").exists(), "no libaxcl_rt.so in {}", dir.display());
    dir
}

static PROGRAM: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("abi");
    let library = library_dir();
    let compiled = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abi.c"))
        .arg("-L")
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .args(["-laxcl_rt", "-lpthread", "-ldl"])
        .output()
        .expect("a C compiler is needed");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    (dir, program)
});

fn program() -> Command {
    let mut command = Command::new(&PROGRAM.1);
    // Cargo's own value may name an older build first.
    command.env("LD_LIBRARY_PATH", library_dir());
    for name in ["AXCL_EMU_DIR", "AXCL_EMU_LATENCY", "AXCL_EMU_DEVICE"] {
        command.env_remove(name);
    }
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_c_program_walks_the_whole_life_cycle() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("logs/axcl.txt");
    let config = dir.path().join("axcl.json");
    std::fs::write(&config, json!({"log": {"host": {"path": log, "level": 0}}}).to_string()).unwrap();
    let engine = small_engine::write(dir.path());
    let output = program().arg("walk").arg(&config).arg(&engine).output().unwrap();
    let text = text(&output);
    let log = std::fs::read_to_string(log).unwrap();
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert!(output.status.success() && lines("not ok") == 0, "{text}{log}");
    let checks = lines("ok ");
    assert!(checks > 150 && text.ends_with(&format!("1..{checks}\n")), "{text}");
    assert!(text.contains("json file"), "{text}");

    assert!(log.contains("][I][abi.c][walk][42]: seven 7 7.50 1099511627776 args x -9\n"), "{log}");
    assert!(!log.contains("too quiet"), "{log}");
    assert!(log.contains("][C][device][print][20]: [0x149200000] : 0xc00 bytes\n"), "{log}");
    for message in ["device 0 is not connected", "hasn't binded any context yet", "default stream cannot be"]
    {
        assert!(log.contains(message), "{message}: {log}");
    }
}

#[test]
fn the_library_carries_the_vendors_soname() {
    let library = library_dir().join("libaxcl_rt.so");
    let output = Command::new("readelf").arg("-d").arg(library).output().unwrap();
    assert!(text(&output).contains("soname: [libaxcl_rt.so]"), "{}", text(&output));
}

#[test]
fn leaving_without_finalising_is_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    let engine = small_engine::write(dir.path());
    let output = program().arg("leave").arg(engine).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn an_unknown_latency_profile_is_refused_in_words() {
    let output = program().args(["loop", "1"]).env("AXCL_EMU_LATENCY", "fast").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("AXCL_EMU_LATENCY=fast: no such profile"), "{}", text(&output));
}

/// `abi loop` under control.
struct Looping {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Looping {
    fn start(dir: &Path, count: usize, latency: &str) -> Self {
        let mut child = program()
            .args(["loop", &count.to_string()])
            .env("AXCL_EMU_DIR", dir)
            .env("AXCL_EMU_LATENCY", latency)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    /// Lets the next round begin.
    fn go(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b".").unwrap();
    }

    /// Lets the next round begin and returns what its malloc answered.
    fn round(&mut self) -> String {
        self.go();
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            if let Some((_, answer)) = line.strip_prefix("malloc ").and_then(|rest| rest.split_once(": ")) {
                return answer.trim().to_owned();
            }
            line.clear();
        }
        panic!("the program ended");
    }

    /// Lets it run to its end.
    fn finish(mut self) -> Option<i32> {
        drop(self.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap().code()
    }
}

fn ask(dir: &Path, command: &Value) -> Value {
    let mut socket = UnixStream::connect(dir.join("control.sock")).unwrap();
    writeln!(socket, "{command}").unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// Asks for the trace until it satisfies `wanted`.
fn trace_when(dir: &Path, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let trace = ask(dir, &json!({"trace": {}}))["trace"].take();
        if wanted(&trace) {
            return trace;
        }
        assert!(Instant::now() < deadline, "{trace}");
        std::thread::yield_now();
    }
}

#[test]
fn requests_are_counted_between_their_announcements() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Looping::start(dir.path(), 3, "llm8850");
    for _ in 0..3 {
        assert_eq!(run.round(), "0");
    }
    let trace = trace_when(dir.path(), |trace| trace["requests"][2]["ended"] == true);
    let requests = trace["requests"].as_array().unwrap();
    assert_eq!(requests.iter().map(|r| r["id"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    for request in requests {
        assert_eq!(
            (&request["rpc"], &request["dma"], &request["blocking"]),
            (&json!(2), &json!(1), &json!(3))
        );
        assert_eq!(request["h2d_bytes"], 100);
        assert_eq!(request["functions"]["axclrtFree"]["rpc"], 1);
        let wall = Duration::from_nanos(request["wall_ns"].as_u64().unwrap());
        assert!(wall >= Duration::from_micros(600), "two messages and a transfer took {wall:?}");
    }
    assert_eq!(trace["total"]["h2d_bytes"], 300);
    assert_eq!(run.finish(), Some(0));
}

#[test]
fn a_hanging_call_shows_in_the_trace() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("faults")).unwrap();
    let rule = json!({"call": "axclrtMalloc", "nth": 2, "act": {"hang": true}});
    let file = dir.path().join("faults/hang.json");
    std::fs::write(&file, rule.to_string()).unwrap();
    let mut run = Looping::start(dir.path(), 3, "off");
    assert_eq!(run.round(), "0");
    run.go();
    // A call is inside before it meets its rule, which takes the file away.
    let trace =
        trace_when(dir.path(), |trace| trace["inside"][0]["call"] == "axclrtMalloc" && !file.exists());
    assert_eq!(trace["requests"][1]["ended"], false);
    run.child.kill().unwrap();
    run.child.wait().unwrap();
}

#[test]
fn a_fatal_rule_is_met_once_by_the_processes_that_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("faults")).unwrap();
    let rule = json!({"call": "axclrtMalloc", "nth": 2, "act": {"exit": 42}});
    std::fs::write(dir.path().join("faults/die.json"), rule.to_string()).unwrap();
    assert_eq!(Looping::start(dir.path(), 3, "off").finish(), Some(42));
    assert_eq!(Looping::start(dir.path(), 3, "off").finish(), Some(0));
}

#[test]
fn rules_can_be_added_while_the_program_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Looping::start(dir.path(), 3, "off");
    assert_eq!(run.round(), "0");
    let rule = json!({"fault": {"call": "axclrtMalloc", "act": {"fail": "0x8030050c"}}});
    assert_eq!(ask(dir.path(), &rule), json!({"ok": true}));
    assert_eq!(run.round(), "0x8030050c");
    assert_eq!(run.round(), "0");
    assert_eq!(run.finish(), Some(0));
}
