//! A machine to test. Everything is real: programs, sockets, FIFOs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::process::Process;
use super::wait::{Lines, ended, until};

pub const FUNCTION: &str = "sys/bus/pci/devices/0001:01:00.0";
pub const DRIVER: &str = "sys/bus/platform/drivers/brcm-pcie";
pub const SLOT: &str = "1000110000.pcie";
/// In the order they load.
pub const MODULES: [&str; 5] =
    ["ax_pcie_host_dev", "ax_pcie_msg", "ax_pcie_mmb", "axcl_host", "ax_pcie_p2p_rc"];
pub struct Machine {
    dir: tempfile::TempDir,
    child: Child,
}

/// Opens a FIFO without waiting for its other side.
fn fifo(path: &Path, options: &mut OpenOptions) -> File {
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).unwrap()
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Machine {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_in(dir: tempfile::TempDir, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_axcl-machine"))
            .arg(dir.path())
            .arg("--end-with-stdin")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = Lines::new(child.stdout.take().unwrap()).next("the machine");
        assert_eq!(ready, format!("ready {}", dir.path().display()));
        Self { dir, child }
    }

    /// Ends it as systemd would and starts it again in its directory.
    pub fn restart(mut self, arguments: &[&str]) -> Self {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).unwrap();
        assert_eq!(ended(&mut self.child, "the machine").code(), Some(0));
        assert!(!self.dir.path().join("machine.sock").exists());
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::start_in(dir, arguments)
    }

    /// Lets go of it, as a test does that is killed: how it ends.
    pub fn abandon(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        ended(&mut self.child, "the abandoned machine").code()
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
        let answer = Lines::new(socket).next(&format!("the answer to {command}"));
        serde_json::from_str(&answer).unwrap()
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
        let mut lines = Lines::new(socket);
        assert_eq!(lines.next("the subscription"), r#"{"ok":true}"#);
        lines
    }

    pub fn kernel_log(&self) -> Lines<File> {
        Lines::new(fifo(&self.path("dev/kmsg"), OpenOptions::new().read(true)))
    }

    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Child {
        Command::new(self.path(program)).args(arguments).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let mut child = self.spawn(program, arguments);
        let status = ended(&mut child, &format!("{program} {arguments:?}"));
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said.trim().to_owned())
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
        fifo(&self.path(file), OpenOptions::new().write(true)).write_all(text.as_bytes()).unwrap();
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
        Process::start(self.dir.path(), "off")
    }

    /// A process that has the device.
    pub fn user(&self) -> Process {
        let mut process = self.process();
        assert_eq!(process.call("init"), "0x00000000");
        assert_eq!(process.call("set"), "0x00000000");
        assert_eq!(process.call("malloc"), "0x00000000");
        process
    }

    /// Waits until a thread of the process that listens here is inside a call and, it seems, stays.
    pub fn inside(&self, call: &str) {
        until(&format!("a process inside {call}"), || {
            let trace = self.ask_card(json!({"trace": {}}))?;
            let inside = &trace["trace"]["inside"][0];
            (inside["call"] == call && inside["since_ns"].as_u64() > Some(50_000_000)).then_some(())
        });
    }

    /// Asks the card's library in the process that listens here, if any does.
    pub fn ask_card(&self, command: Value) -> Option<Value> {
        let mut socket = UnixStream::connect(self.dir.path().join("control.sock")).ok()?;
        writeln!(socket, "{command}").unwrap();
        Some(serde_json::from_str(&Lines::new(socket).next("the library's answer")).unwrap())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
