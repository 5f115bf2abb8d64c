//! Modules out and in: order, refusals, deadlines.

use std::fs;
use std::thread;

use llm8850::fault::Fault;
use llm8850::recover::{Reply, Verb};

use crate::system::{MODULES, PACE, System, assert_fault, block_on, drain, finish, reaches};

#[test]
fn a_probe_changes_nothing_and_tells_what_is_there() {
    let system = System::new();
    let holder = system.hold();
    let (steps, Reply::Done(Some(facts))) = system.ask(Verb::Probe) else { panic!() };
    assert!(steps.is_empty());
    assert_eq!(facts.pci.as_deref(), Some("0001:01:00.0"));
    assert_eq!(facts.modules, MODULES);
    assert!(facts.node && facts.firmware);
    assert_eq!(facts.holders, [(holder.pid(), "sleep".to_owned())]);
    assert!(system.log().is_empty());
    drop(holder);

    fs::remove_dir_all(system.path("sys/bus/pci/devices/0001:01:00.0")).unwrap();
    fs::remove_file(system.path("dev/axcl_host")).unwrap();
    system.put("lib/firmware/axcl/ax650_card.pac", "");
    system.load(&[]);
    let (_, Reply::Done(Some(facts))) = system.ask(Verb::Probe) else { panic!() };
    assert_eq!(facts, llm8850::recover::verb::Facts::default());
}

#[test]
fn modules_go_in_the_vendors_order_and_come_back_in_theirs() {
    let system = System::new();
    assert_eq!(system.ask(Verb::ModulesOut).1, Reply::Done(None));
    let out = ["ax_pcie_p2p_rc", "axcl_host", "ax_pcie_mmb", "ax_pcie_msg", "ax_pcie_host_dev"];
    assert_eq!(system.log(), out.map(|m| format!("rmmod {m}")));
    assert_eq!(system.read("proc/modules").lines().count(), 2, "others are left alone");

    fs::remove_file(system.path("log")).unwrap();
    assert_eq!(system.ask(Verb::ModulesIn).1, Reply::Done(None));
    assert_eq!(system.log(), MODULES.map(|m| format!("modprobe {m}")));
}

#[test]
fn only_what_is_loaded_is_unloaded_and_only_what_is_missing_is_loaded() {
    let system = System::new();
    system.load(&["ax_pcie_host_dev", "ax_pcie_msg"]);
    assert_eq!(system.ask(Verb::ModulesIn).1, Reply::Done(None));
    assert_eq!(system.log(), ["ax_pcie_mmb", "axcl_host", "ax_pcie_p2p_rc"].map(|m| format!("modprobe {m}")));

    fs::remove_file(system.path("log")).unwrap();
    system.load(&["ax_pcie_host_dev", "ax_pcie_net_rc"]);
    assert_eq!(system.ask(Verb::ModulesOut).1, Reply::Done(None));
    assert_eq!(system.log(), ["ax_pcie_net_rc", "ax_pcie_host_dev"].map(|m| format!("rmmod {m}")));
}

#[test]
fn a_holder_is_waited_for_then_named() {
    let system = System::new();
    let holder = system.hold();
    let failure = system.refused(Verb::ModulesOut);
    assert_fault(&failure, Fault::CardHeld, &format!("process {} (sleep)", holder.pid()));
    assert!(system.log().is_empty());

    // At a tenth of that pace there is time to go.
    block_on(async {
        let mut run = system.helper().start(Verb::ModulesOut, 1.0);
        reaches(&mut run, "waiting for process").await;
        drop(holder);
        assert_eq!(finish(&mut run).await.1, Reply::Done(None));
    });
}

#[test]
fn a_node_that_is_gone_is_still_held() {
    let system = System::new();
    let holder = system.hold();
    fs::remove_file(system.path("dev/axcl_host")).unwrap();
    assert_fault(&system.refused(Verb::ModulesOut), Fault::CardHeld, &holder.pid().to_string());
}

#[test]
fn a_module_in_use_is_tried_again() {
    let system = System::new();
    system.put("busy-axcl_host", "");
    assert_eq!(system.ask(Verb::ModulesOut).1, Reply::Done(None));
    assert_eq!(system.log().iter().filter(|line| *line == "rmmod axcl_host").count(), 2);
}

#[test]
fn a_module_that_stays_in_use_is_a_fault() {
    let system = System::new();
    system.put("fail-axcl_host", "rmmod: ERROR: Module axcl_host is in use by: ax_odd\n");
    assert_fault(&system.refused(Verb::ModulesOut), Fault::Modules, "axcl_host is in use by: ax_odd");
    assert!(system.log().iter().filter(|line| *line == "rmmod axcl_host").count() > 1);
    assert!(!system.log().contains(&"rmmod ax_pcie_mmb".to_owned()));
}

#[test]
fn without_firmware_nothing_is_loaded() {
    let system = System::new();
    system.load(&[]);
    fs::remove_file(system.path("lib/firmware/axcl/ax650_card.pac")).unwrap();
    assert_fault(&system.refused(Verb::ModulesIn), Fault::FirmwareMissing, "ax650_card.pac");
    assert!(system.log().is_empty());
}

#[test]
fn a_card_that_refuses_its_firmware_is_told_from_a_module_that_does_not_fit() {
    let system = System::new();
    system.load(&[]);
    system.put("fail-axcl_host", "modprobe: ERROR: could not insert 'axcl_host': Operation not permitted");
    assert_fault(&system.refused(Verb::ModulesIn), Fault::Firmware, "could not insert 'axcl_host'");
    system
        .put("fail-axcl_host", "modprobe: FATAL: Module axcl_host not found in directory /lib/modules/6.12");
    assert_fault(&system.refused(Verb::ModulesIn), Fault::Modules, "not found");
}

#[test]
fn the_last_module_is_optional_but_the_node_is_not() {
    let system = System::new();
    system.load(&[]);
    system.put("fail-ax_pcie_p2p_rc", "modprobe: ERROR: could not insert");
    assert_eq!(system.ask(Verb::ModulesIn).1, Reply::Done(None));
    fs::remove_file(system.path("dev/axcl_host")).unwrap();
    assert_fault(&system.refused(Verb::ModulesIn), Fault::Modules, "no ");
}

#[test]
fn a_modprobe_that_never_ends_fails_at_the_deadline_and_is_ended() {
    let system = System::new();
    system.load(&[]);
    system.fifo("gate-axcl_host");
    let alive = system.fifo("alive");
    // The end of this FIFO is the end of the program that hangs.
    let ended = thread::spawn(move || drain(&alive));
    let failure = system.refused(Verb::ModulesIn);
    assert_fault(&failure, Fault::Modules, "not done within 5 s, at: modprobe axcl_host");
    ended.join().unwrap();
}

#[test]
fn an_order_waits_for_an_earlier_one_whose_client_left() {
    let system = System::new();
    system.load(&[]);
    let gate = system.fifo("gate-axcl_host");
    let alive = system.fifo("alive");
    let ended = thread::spawn(move || drain(&alive));
    block_on(async {
        let mut first = system.helper().start(Verb::ModulesIn, 1.0);
        reaches(&mut first, "modprobe axcl_host").await;
        drop(first);
        let mut second = system.helper().start(Verb::ModulesOut, 1.0);
        reaches(&mut second, "waiting for an earlier order").await;
        // Looking is allowed meanwhile.
        assert!(matches!(
            finish(&mut system.helper().start(Verb::Probe, PACE)).await.1,
            Reply::Done(Some(_))
        ));
        fs::write(gate, "go\n").unwrap();
        assert_eq!(finish(&mut second).await.1, Reply::Done(None));
    });
    ended.join().unwrap();
    assert_eq!(system.log().len(), 10, "{:?}", system.log());
}
