//! A made-up `/` with files, FIFOs and shell scripts for the system's programs, and the
//! real helper working on it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use llm8850::fault::{Failure, Fault};
use llm8850::recover::{Helper, Reply, Run, Verb};
use tempfile::TempDir;

pub const MODULES: [&str; 5] =
    ["ax_pcie_host_dev", "ax_pcie_msg", "ax_pcie_mmb", "axcl_host", "ax_pcie_p2p_rc"];
/// Deadlines become 5 s.
pub const PACE: f64 = 1000.0;
/// Beside the programs' scripts: what each module's test wants of them.
const MODPROBE: &str = r#"
root=$(dirname "$0")/../..
echo "modprobe $1" >> "$root/log"
[ -p "$root/gate-$1" ] && exec 3> "$root/alive" && read -r _ < "$root/gate-$1"
[ -e "$root/fail-$1" ] && { cat "$root/fail-$1" >&2; exit 1; }
echo "$1 16384 0 - Live 0x0000000000000000" >> "$root/proc/modules"
[ "$1" = axcl_host ] && : > "$root/dev/axcl_host"
exit 0
"#;
const RMMOD: &str = r#"
root=$(dirname "$0")/../..
echo "rmmod $1" >> "$root/log"
[ -e "$root/busy-$1" ] && { mv "$root/busy-$1" "$root/was-busy"; echo "rmmod: ERROR: Module $1 is in use" >&2; exit 1; }
[ -e "$root/fail-$1" ] && { cat "$root/fail-$1" >&2; exit 1; }
grep -v "^$1 " "$root/proc/modules" > "$root/left"
mv "$root/left" "$root/proc/modules"
[ "$1" = axcl_host ] && rm -f "$root/dev/axcl_host"
exit 0
"#;
const SYSTEMCTL: &str = r#"
root=$(dirname "$0")/../..
echo "systemctl $*" >> "$root/log"
if [ -p "$root/asked" ]; then echo "$*" > "$root/asked"; fi
[ -e "$root/reboots" ] && echo another > "$root/proc/sys/kernel/random/boot_id"
exit 0
"#;

/// The made-up system.
pub struct System {
    directory: TempDir,
    config: PathBuf,
}

impl System {
    /// A system with the driver loaded and the card on the bus.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let system = Self { directory, config };
        system.configure("");
        for below in ["dev", "proc/sys/kernel/random", "lib/firmware/axcl", "usr/sbin", "usr/bin"] {
            fs::create_dir_all(system.path(below)).unwrap();
        }
        for (program, script) in
            [("sbin/modprobe", MODPROBE), ("sbin/rmmod", RMMOD), ("bin/systemctl", SYSTEMCTL)]
        {
            let path = system.path("usr").join(program);
            fs::write(&path, format!("#!/bin/sh{script}")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        system.put("lib/firmware/axcl/ax650_card.pac", "firmware");
        system.put("proc/sys/kernel/random/boot_id", "one\n");
        system.put("dev/axcl_host", "");
        system.load(&MODULES);
        system.add_function("sys/bus/pci/devices/0001:01:00.0");
        system
    }

    /// Rewrites the configuration with further lines in `[worker]`.
    pub fn configure(&self, worker: &str) {
        let root = self.path("").display().to_string();
        fs::create_dir_all(&root).unwrap();
        fs::write(&self.config, format!("[recovery]\nsystem_root = \"{root}\"\n\n[worker]\n{worker}\n"))
            .unwrap();
    }

    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join("root").join(below)
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn put(&self, below: &str, text: &str) {
        fs::write(self.path(below), text).unwrap();
    }

    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_default()
    }

    pub fn fifo(&self, below: &str) -> PathBuf {
        let path = self.path(below);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// `proc/modules` with these, and unrelated ones.
    pub fn load(&self, modules: &[&str]) {
        let names = ["nvme"].iter().chain(modules).chain(&["tun"]);
        let lines: String = names.map(|name| format!("{name} 16384 0 - Live 0x0000000000000000\n")).collect();
        self.put("proc/modules", &lines);
    }

    /// A PCI function that is the card.
    pub fn add_function(&self, below: &str) {
        fs::create_dir_all(self.path(below)).unwrap();
        for (file, text) in [("vendor", "0x1f4b\n"), ("device", "0x0650\n"), ("class", "0x040000\n")] {
            fs::write(self.path(below).join(file), text).unwrap();
        }
        fs::write(self.path(below).join("config"), [0x4b, 0x1f, 0x50, 0x06, 0, 0]).unwrap();
    }

    /// A real process that holds the driver's node and is seen in this system's /proc.
    pub fn hold(&self) -> Holder {
        let node = fs::File::open(self.path("dev/axcl_host")).unwrap();
        let process = Command::new("sleep").arg("1000").stdin(Stdio::from(node)).spawn().unwrap();
        let link = self.path(format!("proc/{}", process.id()));
        symlink(format!("/proc/{}", process.id()), link).unwrap();
        Holder(process)
    }

    pub fn helper(&self) -> Helper {
        Helper::new(env!("CARGO_BIN_EXE_llm8850-card-helper"), &self.config)
    }

    /// Has `verb` carried out: the steps told and the final reply.
    pub fn ask(&self, verb: Verb) -> (Vec<String>, Reply) {
        block_on(async { finish(&mut self.helper().start(verb, PACE)).await })
    }

    /// As [`Self::ask`], for what must fail.
    pub fn refused(&self, verb: Verb) -> Failure {
        match self.ask(verb) {
            (_, Reply::Failed(failure)) => failure,
            done => panic!("{done:?}"),
        }
    }

    /// What the system's programs were asked for.
    pub fn log(&self) -> Vec<String> {
        self.read("log").lines().map(str::to_owned).collect()
    }
}

/// Ends with its test.
pub struct Holder(Child);

impl Holder {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The steps and the final reply of an order.
pub async fn finish(run: &mut Run) -> (Vec<String>, Reply) {
    let mut steps = Vec::new();
    loop {
        match run.next().await {
            Reply::Step(step) => steps.push(step),
            last => return (steps, last),
        }
    }
}

/// Waits for a step that begins so.
pub async fn reaches(run: &mut Run, beginning: &str) {
    loop {
        match run.next().await {
            Reply::Step(step) if step.starts_with(beginning) => return,
            Reply::Step(_) => {}
            last => panic!("{last:?} before {beginning:?}"),
        }
    }
}

/// Reads a FIFO until its last writer is gone.
pub fn drain(fifo: &Path) -> String {
    let mut text = String::new();
    fs::File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
    text
}

pub fn assert_fault(failure: &Failure, fault: Fault, detail: &str) {
    assert_eq!(failure.fault, fault, "{failure}");
    assert!(failure.detail.contains(detail), "{failure}");
}
