//! The host's restart.

use std::fs;
use std::io::{BufRead, BufReader};

use llm8850::fault::Fault;
use llm8850::recover::{Reply, Verb};

use crate::system::{System, assert_fault, drain};

#[test]
fn the_chip_is_reset_by_its_driver_then_the_host_is_restarted_and_at_last_forced() {
    let system = System::new();
    let asked = system.fifo("asked");
    let (steps, last) = system.ask(Verb::HostReboot);
    assert_eq!(last, Reply::Done(None));
    assert_eq!(steps[..2], ["sync", "rmmod ax_pcie_p2p_rc"]);
    // Each of these writers waits until it is read.
    assert_eq!(drain(&asked), "reboot\n");
    assert_eq!(drain(&asked), "reboot --force\n");
    assert_eq!(system.log()[4..6], ["rmmod ax_pcie_host_dev", "systemctl reboot"]);
}

#[test]
fn a_restart_that_took_place_is_not_forced() {
    let system = System::new();
    system.put("reboots", "");
    // The end of this process's output is its end.
    let mut helper = std::process::Command::new(env!("CARGO_BIN_EXE_llm8850-card-helper"))
        .args(["--do", "host-reboot", "--pace", "30", "--config"])
        .arg(system.config())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<_> = BufReader::new(helper.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert_eq!(lines.last().unwrap(), "{\"done\":null}");
    assert!(helper.wait().unwrap().success());
    assert_eq!(system.log().last().unwrap(), "systemctl reboot");
}

#[test]
fn a_held_card_does_not_hold_up_the_restart() {
    let system = System::new();
    let _holder = system.hold();
    system.put("reboots", "");
    let (steps, last) = system.ask(Verb::HostReboot);
    assert_eq!(last, Reply::Done(None));
    assert!(steps.last().unwrap().starts_with("the restart goes on: E-CARD-HELD"), "{steps:?}");
}

#[test]
fn a_host_that_cannot_be_restarted_says_so_before_anything_is_done() {
    let system = System::new();
    fs::remove_file(system.path("usr/bin/systemctl")).unwrap();
    assert_fault(&system.refused(Verb::HostReboot), Fault::HostReboot, "systemctl");
    assert!(system.log().is_empty());
}
