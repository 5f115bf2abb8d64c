//! The real helper on the emulated machine: each verb's effect on card, driver and host, and
//! each refusal. A kernel crash (`oops`) must never follow.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use llm8850::fault::{Failure, Fault};
use llm8850::recover::verb::Facts;
use llm8850::recover::{Helper, Reply, Verb};
use serde_json::{Value, json};

use crate::installed;
use crate::system::{MODULES, PACE, assert_fault, block_on, finish, reaches};

struct Machine {
    directory: tempfile::TempDir,
    process: Child,
}

impl Machine {
    /// A machine with the driver loaded and the card running, unless told otherwise.
    fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_llm8850-worker")).with_file_name("axcl-machine");
        assert!(program.exists(), "no {}: run `cargo build --release --workspace`", program.display());
        let mut process = Command::new(program)
            .arg(directory.path().join("machine"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready"), "{ready}");
        let machine = Self { directory, process };
        let at = machine.dir();
        let config = format!(
            "[recovery]\nsystem_root = {:?}\n[worker]\nruntime = {:?}\nenv = {{ AXCL_EMU_DIR = {at:?} }}\n",
            at.join("root"),
            installed::runtime(),
        );
        fs::write(machine.config(), config).unwrap();
        machine
    }

    fn dir(&self) -> PathBuf {
        self.directory.path().join("machine")
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    fn root(&self, below: &str) -> PathBuf {
        self.dir().join("root").join(below)
    }

    fn command(&self, command: &Value) -> Value {
        let mut stream = UnixStream::connect(self.dir().join("machine.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        writeln!(stream, "{command}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer
    }

    /// The machine's state; the kernel must not have crashed.
    fn state(&self) -> Value {
        let state = self.command(&json!({"state": {}}));
        assert_eq!(state["oops"], json!([]));
        state
    }

    fn break_it(&self, breakage: Value) {
        self.command(&json!({ "break": breakage }));
    }

    fn helper(&self) -> Helper {
        Helper::new(env!("CARGO_BIN_EXE_llm8850-card-helper"), self.config())
    }

    fn does(&self, verb: Verb) -> Option<Facts> {
        match block_on(async { finish(&mut self.helper().start(verb, 30.0)).await }) {
            (_, Reply::Done(facts)) => facts,
            (steps, last) => panic!("{last:?} after {steps:?}"),
        }
    }

    fn refuses(&self, verb: Verb) -> Failure {
        match block_on(async { finish(&mut self.helper().start(verb, PACE)).await }) {
            (_, Reply::Failed(failure)) => failure,
            (steps, last) => panic!("{last:?} after {steps:?}"),
        }
    }

    /// A process that has the driver's node open, as this machine shows it.
    fn hold(&self) -> Child {
        let node = fs::File::open(self.root("dev/axcl_host")).unwrap();
        let process = Command::new("sleep").arg("1000").stdin(Stdio::from(node)).spawn().unwrap();
        let pid = process.id();
        symlink(format!("/proc/{pid}"), self.root(&format!("proc/{pid}"))).unwrap();
        process
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn end(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_probe_finds_card_driver_and_firmware() {
    let machine = Machine::start(&["--loaded"]);
    let mut facts = machine.does(Verb::Probe).unwrap();
    facts.modules.sort();
    let mut modules = MODULES.map(str::to_owned);
    modules.sort();
    assert_eq!(facts.modules, modules);
    assert_eq!(facts.pci.as_deref(), Some("0001:01:00.0"));
    assert!(facts.node && facts.firmware && facts.holders.is_empty());
}

#[test]
fn a_card_reboot_brings_a_dead_card_back() {
    let machine = Machine::start(&["--loaded"]);
    machine.break_it(json!({"kind": "dead"}));
    machine.does(Verb::CardReboot);
    let state = machine.state();
    assert_eq!((&state["chip"], &state["heartbeat"]), (&json!("running"), &json!("alive")));
    assert_eq!(state["broken"], json!([]));
    // The machine hears of the helper's end when it comes to it.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while machine.state()["attached"] != json!([]) {
        assert!(std::time::Instant::now() < end, "the helper has not let go of the card");
    }
}

#[test]
fn a_card_reboot_that_fails_is_told() {
    let machine = Machine::start(&["--loaded"]);
    machine.break_it(json!({"kind": "reboot", "fails": 1}));
    assert_fault(&machine.refuses(Verb::CardReboot), Fault::CardCall, "axclrtRebootDevice(device 1)");
}

#[test]
fn a_card_reboot_without_driver_is_a_fault_of_the_driver() {
    let machine = Machine::start(&[]);
    assert_fault(&machine.refuses(Verb::CardReboot), Fault::CardDriver, "axclInit");
}

#[test]
fn modules_out_and_in_reset_the_chip_and_push_the_firmware() {
    let machine = Machine::start(&["--loaded"]);
    machine.does(Verb::ModulesOut);
    let state = machine.state();
    assert_eq!((&state["modules"], &state["chip"]), (&json!([]), &json!("download")));
    machine.does(Verb::ModulesIn);
    let state = machine.state();
    assert_eq!((&state["chip"], &state["heartbeat"]), (&json!("running"), &json!("alive")));
    assert_eq!(state["pushes"], 2);
    // Once more changes nothing.
    machine.does(Verb::ModulesIn);
    assert_eq!(machine.state()["pushes"], 2);
}

#[test]
fn a_module_in_use_for_a_while_is_waited_for() {
    let machine = Machine::start(&["--loaded"]);
    machine.break_it(json!({"kind": "rmmod_in_use", "times": 2}));
    machine.does(Verb::ModulesOut);
    machine.does(Verb::ModulesIn);
    machine.break_it(json!({"kind": "rmmod_in_use", "times": 0}));
    assert_fault(&machine.refuses(Verb::ModulesOut), Fault::Modules, "Module axcl_host is in use");
}

#[test]
fn modules_in_without_firmware_or_end_are_faults() {
    let machine = Machine::start(&[]);
    machine.break_it(json!({"kind": "firmware_missing"}));
    assert_fault(&machine.refuses(Verb::ModulesIn), Fault::FirmwareMissing, "ax650_card.pac");
    machine.command(&json!({"heal": {}}));
    machine.break_it(json!({"kind": "modprobe_hangs"}));
    let late = "not done within 5 s, at: modprobe axcl_host";
    assert_fault(&machine.refuses(Verb::ModulesIn), Fault::Modules, late);
    machine.state();
}

#[test]
fn a_slot_reset_brings_a_lost_link_back() {
    let machine = Machine::start(&["--loaded"]);
    machine.break_it(json!({"kind": "link_lost"}));
    machine.does(Verb::ModulesOut);
    machine.does(Verb::BusReset);
    let state = machine.state();
    assert_eq!((&state["on_bus"], &state["chip"]), (&json!(true), &json!("download")));
    assert_eq!((&state["bridge_bound"], &state["broken"]), (&json!(true), &json!([])));
    machine.does(Verb::ModulesIn);
    assert_eq!(machine.state()["heartbeat"], "alive");
}

#[test]
fn a_card_that_does_not_come_back_is_a_fault_and_a_later_reset_finds_it() {
    let machine = Machine::start(&[]);
    machine.break_it(json!({"kind": "absent"}));
    assert_fault(&machine.refuses(Verb::BusReset), Fault::Bus, "did not come back");
    machine.command(&json!({"heal": {}}));
    machine.does(Verb::BusReset);
    assert_eq!(machine.state()["on_bus"], true);
}

#[test]
fn nothing_is_done_to_a_card_that_is_held_or_a_slot_whose_driver_is_loaded() {
    let machine = Machine::start(&["--loaded"]);
    let before = machine.state();
    let holder = machine.hold();
    for verb in [Verb::CardReboot, Verb::ModulesOut] {
        assert_fault(&machine.refuses(verb), Fault::CardHeld, &holder.id().to_string());
    }
    end(holder);
    assert_fault(&machine.refuses(Verb::BusReset), Fault::Bus, "modules are loaded");
    assert_eq!(machine.state(), before);
}

#[test]
fn a_worker_that_lets_go_in_time_does_not_fail_the_order() {
    let machine = Machine::start(&["--loaded"]);
    let holder = machine.hold();
    block_on(async {
        let mut run = machine.helper().start(Verb::ModulesOut, 1.0);
        reaches(&mut run, "waiting for process").await;
        end(holder);
        assert_eq!(finish(&mut run).await.1, Reply::Done(None));
    });
}

/// The machine's events from now on.
fn subscribe(machine: &Machine) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(machine.dir().join("machine.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    writeln!(stream, "{}", json!({"subscribe": {}})).unwrap();
    let mut events = BufReader::new(stream);
    let mut answer = String::new();
    events.read_line(&mut answer).unwrap();
    events
}

fn wait_for_reboot(events: &mut BufReader<UnixStream>) {
    let mut line = String::new();
    while !line.contains("\"reboot\"") {
        line.clear();
        assert!(events.read_line(&mut line).unwrap() > 0, "no reboot came");
    }
}

#[test]
fn a_host_reboot_unloads_the_driver_and_happens_once() {
    let machine = Machine::start(&["--loaded"]);
    let mut events = subscribe(&machine);
    let helper = Command::new(env!("CARGO_BIN_EXE_llm8850-card-helper"))
        .args(["--do", "host-reboot", "--pace", "30", "--config"])
        .arg(machine.config())
        .output()
        .unwrap();
    assert!(helper.status.success());
    wait_for_reboot(&mut events);
    let state = machine.state();
    assert_eq!((&state["reboots"], &state["modules"]), (&json!(1), &json!([])));
}

#[test]
fn a_host_that_hangs_while_shutting_down_is_forced() {
    let machine = Machine::start(&["--loaded"]);
    machine.break_it(json!({"kind": "shutdown_hangs"}));
    let mut events = subscribe(&machine);
    machine.does(Verb::HostReboot);
    wait_for_reboot(&mut events);
    assert_eq!(machine.state()["reboots"], 1);
}

#[test]
fn a_host_reboot_is_not_held_up_by_a_module_that_does_not_go() {
    let machine = Machine::start(&["--loaded"]);
    machine.break_it(json!({"kind": "rmmod_in_use", "times": 0}));
    let mut events = subscribe(&machine);
    machine.does(Verb::HostReboot);
    wait_for_reboot(&mut events);
}
