//! Modules, nodes, processes and the card's restart.

use serde_json::json;

use super::host::{MODULES, Machine};
use super::wait::until;

#[test]
fn modules_go_in_and_out_in_their_order_and_say_why_not() {
    let host = Machine::start(&[]);
    assert_eq!(host.modules(), Vec::<String>::new());
    assert!(!host.has("dev/axcl_host") && host.has("lib/firmware/axcl/ax650_card.pac"));
    host.modules_in();
    assert_eq!(host.modules(), MODULES.iter().rev().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert!(["dev/axcl_host", "dev/msg_userdev", "dev/ax_mmb_dev"].iter().all(|node| host.has(node)));
    assert_eq!(host.read("sys/module/axcl_host/initstate"), "live");
    assert_eq!(host.state()["chip"], "running");

    let held = "rmmod: ERROR: Module ax_pcie_host_dev is in use by: ax_pcie_msg ax_pcie_mmb axcl_host ax_pcie_p2p_rc";
    assert_eq!(host.rmmod("ax_pcie_host_dev"), (Some(1), held.to_owned()));
    host.modules_out();
    assert!(!host.has("dev/axcl_host") && !host.has("sys/module/axcl_host"));
    assert_eq!(host.state()["chip"], "download", "unloading resets the chip");
    let gone = "rmmod: ERROR: Module axcl_host is not currently loaded";
    assert_eq!(host.rmmod("axcl_host"), (Some(1), gone.to_owned()));
    let (code, text) = host.modprobe("axcl_guest");
    assert_eq!(code, Some(1));
    assert!(
        text.starts_with("modprobe: FATAL: Module axcl_guest not found in directory /lib/modules/"),
        "{text}"
    );
    assert_eq!(host.modprobe("axcl_host").0, Some(0));
    assert_eq!(host.modules().len(), 4, "modprobe loads what the module needs");
}

#[test]
fn a_process_holds_the_driver_until_it_ends() {
    let host = Machine::start(&["--loaded"]);
    let mut user = host.user();
    let node = host.path("dev/axcl_host").canonicalize().unwrap();
    let open = std::fs::read_dir(host.path(&format!("proc/{}/fd", user.id()))).unwrap();
    let open: Vec<_> = open.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    assert!(open.contains(&node), "{open:?}");
    assert_eq!(host.rmmod("axcl_host"), (Some(1), "rmmod: ERROR: Module axcl_host is in use".into()));
    assert_eq!(host.state()["ports"]["used"], 4);

    user.kill();
    assert_eq!(host.rmmod("axcl_host").0, Some(0), "nobody holds it once the process is gone");
    until("the process is forgotten", || (!host.has(&format!("proc/{}", user.id()))).then_some(()));
    let mut late = host.process();
    assert_eq!(late.call("init"), "0x8030010b", "no node without the module");
    host.modules_in();
    assert_eq!(late.call("init"), "0x00000000");
}

#[test]
fn the_card_reboots_under_other_processes() {
    let host = Machine::start(&["--loaded"]);
    let mut log = host.kernel_log();
    log.with("alive!");
    let (mut user, mut helper) = (host.user(), host.process());
    assert_eq!(helper.call("init"), "0x00000000");
    assert_eq!(helper.call("reboot"), "0x00000000");
    log.with("device 1: alive!");
    assert_eq!(user.call("memset"), "0x8030040c", "its channel is gone");
    assert_eq!(user.call("set"), "0x00000000", "only counted");
    assert_eq!(user.call("memset"), "0x8030040c");
    user.calls(&["finalize", "init", "set", "malloc", "memset"]);
    host.break_it(json!({"kind": "reboot", "fails": 2}));
    assert_eq!(helper.call("reboot"), "0x80300187");
    assert_eq!(helper.call("reboot"), "0x80300187");
    assert_eq!(helper.call("reboot"), "0x00000000");
    assert_eq!(host.state()["pushes"], 3);
}

#[test]
fn two_processes_use_the_card_side_by_side() {
    let host = Machine::start(&["--loaded"]);
    let (mut first, mut second) = (host.user(), host.user());
    assert_eq!(host.state()["ports"]["used"], 8);
    assert_eq!((first.call("memset"), second.call("memset")), ("0x00000000".into(), "0x00000000".into()));
    // Its commands go to the first, which lives, and to the second once it does not.
    first.begin("memset");
    assert_eq!(first.answer("memset"), "0x00000000");
    assert_eq!(first.call("reset"), "0x00000000");
    assert_eq!(host.state()["ports"]["used"], 4, "its ports are back");
    assert_eq!(first.call("finalize"), "0x00000000");
    until("it is forgotten", || (!host.has(&format!("proc/{}", first.id()))).then_some(()));
    assert_eq!(host.state()["attached"][0]["pid"], second.id());
    assert_eq!(second.call("memset"), "0x00000000");
}

#[test]
fn a_failed_start_loses_ports_until_the_driver_is_loaded_anew() {
    let host = Machine::start(&["--loaded", "--set", r#"{"port_hold_ms":1}"#]);
    let mut log = host.kernel_log();
    host.break_it(json!({"kind": "ports", "starts": 26, "heals_at": "never"}));
    let mut process = host.process();
    assert_eq!(process.call("init"), "0x00000000");
    for _ in 0..26 {
        assert_eq!(process.call("set"), "0x80300186");
    }
    let line = log.with("Recv port ack timeout");
    assert!(line.ends_with("-;[axcl_pcie_port_create, 872]: Recv port ack timeout."), "{line}");
    assert!(host.state()["broken"].as_array().unwrap().is_empty(), "it has failed its 26 starts");
    assert_eq!(host.state()["ports"]["leaked"], 104);
    assert_eq!(process.call("set"), "0x80300186", "now there are none left");
    assert_eq!(process.call("reboot"), "0x00000000");
    assert_eq!(process.call("set"), "0x80300186", "a restart of the card does not bring them back");
    assert_eq!(process.call("finalize"), "0x00000000");
    host.modules_out();
    host.modules_in();
    host.user();
    assert_eq!(host.acted().len(), 26);
}

#[test]
fn a_request_for_ports_holds_everyone_up() {
    let host = Machine::start(&["--loaded"]);
    host.break_it(json!({"kind": "ports", "starts": 1, "hold_ms": 600_000}));
    let mut events = host.events();
    let (mut held, mut behind) = (host.process(), host.process());
    assert_eq!(held.call("init"), "0x00000000");
    held.begin("set");
    events.with("acted");
    behind.begin("init");
    host.inside("axclrtSetDevice");
    assert!(host.state()["attached"].as_array().unwrap().len() == 1, "the other waits at the driver's door");
}

#[test]
fn an_abandoned_machine_ends() {
    assert_eq!(Machine::start(&["--loaded"]).abandon(), Some(0));
}

#[test]
fn a_restarted_machine_starts_afresh() {
    let host = Machine::start(&["--loaded", "--break", r#"{"kind":"stuck"}"#]);
    let id = host.read("proc/sys/kernel/random/boot_id");
    assert_eq!(host.state()["broken"][0]["kind"], "stuck");
    let host = host.restart(&[]);
    assert_ne!(host.read("proc/sys/kernel/random/boot_id"), id);
    assert!(host.modules().is_empty() && host.state()["broken"].as_array().unwrap().is_empty());
}
