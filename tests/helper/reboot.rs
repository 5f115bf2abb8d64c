//! The card's restart, through the emulated card's library.

use std::fs;

use llm8850::fault::Fault;
use llm8850::recover::{Reply, Verb};

use crate::installed;
use crate::system::{System, assert_fault};

/// A system whose configuration names the emulated card, with a fault if one is given.
fn system(fault: Option<&str>) -> System {
    let system = System::new();
    let emulator = system.path("emulator");
    fs::create_dir_all(emulator.join("faults")).unwrap();
    if let Some(act) = fault {
        let rule = format!("{{\"call\":\"axclrtRebootDevice\",\"act\":{act}}}");
        fs::write(emulator.join("faults/one.json"), rule).unwrap();
    }
    system.configure(&format!(
        "runtime = {:?}\nenv = {{ AXCL_EMU_DIR = {:?} }}",
        installed::runtime(),
        emulator
    ));
    system
}

#[test]
fn the_card_is_restarted_through_its_runtime() {
    let (steps, last) = system(None).ask(Verb::CardReboot);
    assert_eq!(last, Reply::Done(None));
    assert_eq!(steps, ["axclrtRebootDevice"]);
}

#[test]
fn a_held_card_is_not_restarted() {
    let system = system(None);
    let holder = system.hold();
    assert_fault(&system.refused(Verb::CardReboot), Fault::CardHeld, &holder.pid().to_string());
}

#[test]
fn what_the_runtime_answers_is_told() {
    let failure = system(Some("{\"fail\":\"0x80300187\"}")).refused(Verb::CardReboot);
    assert_fault(&failure, Fault::CardCall, "axclrtRebootDevice(device 1) answered 0x80300187");
}

#[test]
fn a_restart_that_hangs_fails_at_the_deadline() {
    let failure = system(Some("{\"hang\":true}")).refused(Verb::CardReboot);
    assert_fault(&failure, Fault::CardStall, "not done within 5 s, at: axclrtRebootDevice");
}

#[test]
fn a_runtime_that_crashes_takes_only_the_child_with_it() {
    let failure = system(Some("{\"signal\":6}")).refused(Verb::CardReboot);
    assert_fault(&failure, Fault::Helper, "ended with signal: 6");
}

#[test]
fn a_missing_runtime_is_named() {
    let system = System::new();
    system.configure("runtime = \"/no/such/libaxcl_rt.so\"");
    assert_fault(&system.refused(Verb::CardReboot), Fault::RuntimeOpen, "/no/such/libaxcl_rt.so");
}
