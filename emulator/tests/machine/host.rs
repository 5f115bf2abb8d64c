//! A machine to test, and processes beside it. Everything is real: programs, sockets, FIFOs.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

pub const FUNCTION: &str = "sys/bus/pci/devices/0001:01:00.0";
pub const DRIVER: &str = "sys/bus/platform/drivers/brcm-pcie";
pub const SLOT: &str = "1000110000.pcie";
/// In the order they load.
pub const MODULES: [&str; 5] =
    ["ax_pcie_host_dev", "ax_pcie_msg", "ax_pcie_mmb", "axcl_host", "ax_pcie_p2p_rc"];
/// Everything that may take long here is over by then.
const PATIENCE: Duration = Duration::from_secs(20);

fn library_dir() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

static ATTACHED: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("attached");
    let compiled = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/attached.c"))
        .arg("-L")
        .arg(library_dir())
        .args(["-laxcl_rt"])
        .output()
        .expect("a C compiler is needed");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    (dir, program)
});

/// Asks again and again until the answer is there.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

pub struct Machine {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kernel's log or the machine's events, line by line.
pub struct Lines<R>(BufReader<R>);

impl<R: std::io::Read> Lines<R> {
    pub fn next(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "it ended");
        line.trim_end().to_owned()
    }

    /// The next line with `text` in it.
    pub fn with(&mut self, text: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Machine {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_in(dir: tempfile::TempDir, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_axcl-machine"))
            .arg(dir.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = Lines(BufReader::new(child.stdout.take().unwrap())).next();
        assert_eq!(ready, format!("ready {}", dir.path().display()));
        Self { dir, child }
    }

    /// Ends it as systemd would and starts it again in its directory.
    pub fn restart(mut self, arguments: &[&str]) -> Self {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(!self.dir.path().join("machine.sock").exists());
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::start_in(dir, arguments)
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap().trim().to_owned()
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("machine.sock")).unwrap()
    }

    pub fn ask(&self, command: Value) -> Value {
        let mut socket = self.connect();
        writeln!(socket, "{command}").unwrap();
        serde_json::from_str(&Lines(BufReader::new(socket)).next()).unwrap()
    }

    pub fn state(&self) -> Value {
        self.ask(json!({"state": {}}))
    }

    pub fn break_it(&self, breakage: Value) -> u64 {
        let answer = self.ask(json!({ "break": breakage }));
        answer["break"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    pub fn heal(&self) {
        self.ask(json!({"heal": {}}));
    }

    pub fn events(&self) -> Lines<UnixStream> {
        let mut socket = self.connect();
        writeln!(socket, "{}", json!({"subscribe": {}})).unwrap();
        let mut lines = Lines(BufReader::new(socket));
        assert_eq!(lines.next(), r#"{"ok":true}"#);
        lines
    }

    pub fn kernel_log(&self) -> Lines<File> {
        Lines(BufReader::new(File::open(self.path("dev/kmsg")).unwrap()))
    }

    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Child {
        Command::new(self.path(program)).args(arguments).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = self.spawn(program, arguments).wait_with_output().unwrap();
        (status.code(), String::from_utf8_lossy(&stderr).trim().to_owned())
    }

    pub fn modprobe(&self, name: &str) -> (Option<i32>, String) {
        self.run("usr/sbin/modprobe", &[name])
    }

    pub fn rmmod(&self, name: &str) -> (Option<i32>, String) {
        self.run("usr/sbin/rmmod", &[name])
    }

    pub fn modules_out(&self) {
        for name in MODULES.iter().rev() {
            assert_eq!(self.rmmod(name), (Some(0), String::new()));
        }
    }

    pub fn modules_in(&self) {
        for name in MODULES {
            assert_eq!(self.modprobe(name), (Some(0), String::new()));
        }
    }

    pub fn systemctl(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.run("usr/bin/systemctl", arguments)
    }

    /// Writes to one of the kernel's files, as recovery does.
    pub fn turn(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    /// Loaded modules, last first, as the kernel lists them.
    pub fn modules(&self) -> Vec<String> {
        let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        self.read("proc/modules").lines().map(name).collect()
    }

    /// What acted, from the file beside the socket.
    pub fn acted(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("acted.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Puts a rule for calls where processes find it.
    pub fn rule(&self, rule: &Value) {
        let folder = self.dir.path().join("faults");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("rule.json"), rule.to_string()).unwrap();
    }

    pub fn process(&self) -> Process {
        let mut child = Command::new(&ATTACHED.1)
            .env("LD_LIBRARY_PATH", library_dir())
            .env("AXCL_EMU_DIR", self.dir.path())
            .env_remove("AXCL_EMU_LATENCY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = Lines(BufReader::new(child.stdout.take().unwrap()));
        Process { asked: 0, child, stdin, stdout }
    }

    /// A process that has the device.
    pub fn user(&self) -> Process {
        let mut process = self.process();
        assert_eq!(process.call("init"), "0x00000000");
        assert_eq!(process.call("set"), "0x00000000");
        assert_eq!(process.call("malloc"), "0x00000000");
        process
    }

    /// Has a process fill memory until a call does not return: it learns of a break a moment later.
    pub fn hang(&self, process: &mut Process) {
        until("a hanging call", || {
            if process.asked < 1000 {
                process.asked += 1;
                process.begin("memset");
            }
            self.is_inside("axclrtMemset").then_some(())
        });
    }

    /// Waits until a thread of the process that listens here is inside a call.
    pub fn inside(&self, call: &str) {
        until(call, || self.is_inside(call).then_some(()));
    }

    /// A call that is merely under way does not count.
    fn is_inside(&self, call: &str) -> bool {
        let Ok(mut socket) = UnixStream::connect(self.dir.path().join("control.sock")) else { return false };
        writeln!(socket, "{}", json!({"trace": {}})).unwrap();
        let trace: Value = serde_json::from_str(&Lines(BufReader::new(socket)).next()).unwrap();
        let inside = &trace["trace"]["inside"][0];
        inside["call"] == call && inside["since_ns"].as_u64() > Some(50_000_000)
    }
}

/// `attached.c` under control.
pub struct Process {
    asked: u32,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<ChildStdout>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn begin(&mut self, call: &str) {
        writeln!(self.stdin, "{call}").unwrap();
    }

    pub fn answer(&mut self, call: &str) -> String {
        let line = self.stdout.with(&format!("{call} 0x"));
        line.rsplit(' ').next().unwrap().to_owned()
    }

    pub fn call(&mut self, call: &str) -> String {
        self.begin(call);
        self.answer(call)
    }

    /// Firmware version, temperature and free memory as the library tells them.
    pub fn properties(&mut self) -> (String, i32, u32) {
        self.begin("properties");
        let line = self.stdout.with("seen ");
        assert_eq!(self.answer("properties"), "0x00000000");
        let words: Vec<_> = line.split(' ').collect();
        (words[1].to_owned(), words[2].parse().unwrap(), words[3].parse().unwrap())
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The state letter in `/proc/PID/stat`.
    pub fn run_state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}
