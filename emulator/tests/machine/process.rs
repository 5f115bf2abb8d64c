//! A process with the card's library beside a machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::Lines;

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

/// `attached.c` under control.
pub struct Process {
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
    pub fn start(dir: &Path, latency: &str) -> Self {
        let mut child = Command::new(&ATTACHED.1)
            .env("LD_LIBRARY_PATH", library_dir())
            .env("AXCL_EMU_DIR", dir)
            .env("AXCL_EMU_LATENCY", latency)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = Lines::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

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

    /// Calls that are to succeed.
    pub fn calls(&mut self, calls: &[&str]) {
        for call in calls {
            assert_eq!(self.call(call), "0x00000000", "{call}");
        }
    }

    /// Firmware version, temperature and free memory as the library tells them.
    pub fn properties(&mut self) -> (String, i32, u32) {
        self.begin("properties");
        let line = self.stdout.with("seen ");
        assert_eq!(self.answer("properties"), "0x00000000");
        let words: Vec<_> = line.split(' ').collect();
        (words[1].to_owned(), words[2].parse().unwrap(), words[3].parse().unwrap())
    }

    /// Loads an engine, its hidden state all 1.0.
    pub fn load(&mut self, engine: &Path) {
        writeln!(self.stdin, "load {}", engine.display()).unwrap();
        assert_eq!(self.answer("load"), "0x00000000");
    }

    /// Runs the engine: the values of `output` and of each other output.
    pub fn execute(&mut self) -> Vec<Vec<u8>> {
        self.begin("execute");
        let line = self.stdout.with("values ");
        assert_eq!(self.answer("execute"), "0x00000000");
        let byte = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
        line.split(' ').skip(1).map(|hex| hex.as_bytes().chunks(2).map(byte).collect()).collect()
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
