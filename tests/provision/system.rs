//! A made-up `/`.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Writes its name and arguments, and ends as `exit-NAME` says.
const PROGRAM: &str = r#"#!/bin/sh
root=$(dirname "$0")/../..
name=$(basename "$0")
echo "$name $*" >> "$root/log"
code=$(sed -n '$p' "$root/exit-$name" 2>/dev/null)
[ -e "$root/exit-$name" ] && sed -i '$d' "$root/exit-$name"
[ -n "$code" ] && [ "$code" != 0 ] && echo "$name: trouble $code" >&2
exit "${code:-0}"
"#;

pub struct System(TempDir);

pub struct Running(Child);

impl Running {
    pub fn ended(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl System {
    pub fn new() -> Self {
        let system = Self(tempfile::tempdir().unwrap());
        for directory in
            ["setup", "proc/sys/kernel", "proc/net", "usr/lib/llm8850", "usr/share/llm8850", "var/lib"]
        {
            fs::create_dir_all(system.path(directory)).unwrap();
        }
        system.put("proc/sys/kernel/hostname", "localhost\n");
        system.put(
            "usr/lib/llm8850/config.toml",
            "[server]\nlisten = [\"0.0.0.0:8000\"]\n[model]\ndir = \"/models/default\"\n",
        );
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let template = fs::read_to_string(top.join("overlay/usr/share/llm8850/appliance.toml")).unwrap();
        system.put("usr/share/llm8850/appliance.toml", &template);
        for program in [
            "sbin/fsck.ext4",
            "sbin/mkfs.ext4",
            "sbin/fsck.vfat",
            "sbin/mkfs.vfat",
            "bin/mount",
            "bin/systemctl",
        ] {
            system.program(&format!("usr/{program}"), PROGRAM);
        }
        system
    }

    pub fn program(&self, path: &str, script: &str) {
        self.put(path, script);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(below)
    }

    pub fn put(&self, below: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_default()
    }

    pub fn mode(&self, below: &str) -> u32 {
        fs::metadata(self.path(below)).unwrap().permissions().mode() & 0o777
    }

    /// What the system's programs were called with.
    pub fn log(&self) -> Vec<String> {
        let root = self.path("").display().to_string();
        self.read("log").lines().map(|line| line.replace(&root, "/")).collect()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(&format!("run/llm8850-appliance/{name}"))).unwrap()
    }

    /// What one program reported.
    pub fn problems(&self, program: &str) -> Vec<String> {
        serde_json::from_value(self.json("problems.json")[program].clone()).unwrap()
    }

    /// One that has a partition `models`.
    pub fn with_models() -> Self {
        let system = Self::new();
        for directory in ["models", "run/llm8850-appliance"] {
            fs::create_dir_all(system.path(directory)).unwrap();
        }
        system
    }

    /// Starts `llm8850-provision` as systemd does with a connection.
    pub fn start(&self, verb: &str, connection: UnixStream) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm8850-provision"));
        command.arg("--system-root").arg(self.path("")).arg(verb).env_remove("JOURNAL_STREAM");
        Running(command.stdin(OwnedFd::from(connection)).spawn().unwrap())
    }

    /// A stick is put in.
    pub fn stick(&self) {
        let stick = self.path("stick");
        let arguments = ["--stick-dir", stick.to_str().unwrap(), "stick", "/dev/sda1"];
        assert!(self.run(env!("CARGO_BIN_EXE_llm8850-provision"), true, &arguments).status.success());
    }

    fn run(&self, program: &str, given: bool, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.arg("--system-root").arg(self.path(""));
        if given {
            command.arg("--setup-dir").arg(self.path("setup"));
        }
        let output = command.args(arguments).env_remove("JOURNAL_STREAM").output().unwrap();
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs `llm8850-provision`, which always succeeds.
    pub fn provision(&self, verb: &str) {
        assert!(self.run(env!("CARGO_BIN_EXE_llm8850-provision"), true, &[verb]).status.success());
    }

    /// As [`Self::provision`], with the partition itself, which cannot be mounted.
    pub fn provision_without_setup(&self, verb: &str) {
        assert!(self.run(env!("CARGO_BIN_EXE_llm8850-provision"), false, &[verb]).status.success());
    }

    /// Runs `llm8850-boot-slot`: what it printed, or its log where it failed.
    pub fn boot_slot(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.run(env!("CARGO_BIN_EXE_llm8850-boot-slot"), true, arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// The firmware started this partition.
    pub fn started(&self, partition: u32, tryboot: u32) {
        let told = "proc/device-tree/chosen/bootloader";
        for (name, number) in
            [("partition", partition), ("tryboot", tryboot), ("build-timestamp", 1_800_000_000)]
        {
            self.put(&format!("{told}/{name}"), number.to_be_bytes());
        }
    }
}
