//! PCI and the host's reboot.

use serde_json::json;

use super::host::{DRIVER, FUNCTION, Machine, SLOT};
use super::wait::{ended, until};

#[test]
fn the_card_is_removed_found_again_and_reset_in_its_slot() {
    let host = Machine::start(&["--loaded"]);
    host.modules_out();
    assert_eq!(host.read(&format!("{FUNCTION}/vendor")), "0x1f4b");
    assert_eq!(host.read(&format!("{FUNCTION}/current_link_speed")), "5.0 GT/s PCIe");
    host.turn(&format!("{FUNCTION}/remove"), "1");
    until("removed", || (!host.has(FUNCTION)).then_some(()));
    host.turn("sys/bus/pci/rescan", "1");
    until("found again", || host.has(FUNCTION).then_some(()));

    host.turn(&format!("{FUNCTION}/remove"), "1");
    until("removed again", || (!host.has(FUNCTION)).then_some(()));
    host.turn(&format!("{DRIVER}/unbind"), SLOT);
    until("unbound", || (!host.has(&format!("{DRIVER}/{SLOT}"))).then_some(()));
    host.turn("sys/bus/pci/rescan", "1");
    host.turn(&format!("{DRIVER}/bind"), SLOT);
    until("back", || host.has(FUNCTION).then_some(()));
    assert!(host.has(&format!("{DRIVER}/{SLOT}")));
    host.modules_in();
    host.user();
    assert_eq!(host.state()["oops"], json!([]));
}

#[test]
fn taking_the_slot_away_under_the_driver_crashes_the_kernel() {
    let host = Machine::start(&["--loaded"]);
    let (mut log, mut events) = (host.kernel_log(), host.events());
    host.turn(&format!("{DRIVER}/unbind"), SLOT);
    events.with(r#""event":"oops""#);
    log.with("Internal error: Oops");
    assert_eq!(host.state()["oops"][0], "a card's slot was unbound under axcl_host");
    // The kernel's own work stands still until the next boot.
    let mut rmmod = host.spawn("usr/sbin/rmmod", &["ax_pcie_p2p_rc"]);
    assert_eq!(host.systemctl(&["reboot", "--force"]), (Some(0), String::new()));
    events.with(r#""event":"reboot""#);
    assert_eq!(ended(&mut rmmod, "rmmod").code(), Some(1), "it is not loaded any more");
    assert_eq!(host.state()["oops"], json!([]));
}

#[test]
fn removing_the_card_under_the_driver_crashes_the_kernel() {
    let host = Machine::start(&["--loaded"]);
    let mut events = host.events();
    host.turn(&format!("{FUNCTION}/remove"), "1");
    assert!(events.with("oops").contains("a card was removed under axcl_host"));
}

#[test]
fn the_host_reboots_without_modules_under_a_new_id() {
    let host = Machine::start(&["--loaded"]);
    let mut events = host.events();
    let id = host.read("proc/sys/kernel/random/boot_id");
    let mut user = host.user();
    assert_eq!(host.systemctl(&["reboot"]).0, Some(0));
    events.with(r#""event":"reboot""#);
    assert_ne!(host.read("proc/sys/kernel/random/boot_id"), id);
    assert!(host.modules().is_empty() && host.has(FUNCTION) && !host.has("dev/axcl_host"));
    assert_eq!(user.call("memset"), "0x8030040c");
    host.break_it(json!({"kind": "shutdown_hangs"}));
    assert_eq!(host.systemctl(&["reboot"]).0, Some(0));
    assert_eq!(host.state()["reboots"], 1, "it hangs");
    assert_eq!(host.systemctl(&["reboot"]).0, Some(0));
    assert_eq!(host.state()["reboots"], 2);
    assert_eq!(host.systemctl(&["poweroff"]).0, Some(1));
}

#[test]
fn a_card_that_is_not_reset_at_boot_takes_no_firmware() {
    let host = Machine::start(&["--loaded", "--set", r#"{"reboot_resets_card":false,"port_hold_ms":1}"#]);
    let mut log = host.kernel_log();
    host.systemctl(&["reboot"]);
    log.with("Booting Linux");
    host.modules_in();
    log.with("[STATUS]: FAILED[-1]");
    let mut process = host.process();
    assert_eq!(process.call("init"), "0x00000000");
    assert_eq!(process.call("set"), "0x80300186");
    process.kill();
    host.modules_out();
    host.modules_in();
    host.user();
}

#[test]
fn a_lost_link_reads_as_ones_until_the_slot_is_reset() {
    let host = Machine::start(&["--loaded", "--set", r#"{"port_hold_ms":1}"#]);
    let config = || std::fs::read(host.path(&format!("{FUNCTION}/config"))).unwrap();
    assert_eq!((config().len(), &config()[..4]), (256, &[0x4b, 0x1f, 0x50, 0x06][..]));
    let (mut log, mut user) = (host.kernel_log(), host.user());
    host.break_it(json!({"kind": "link_lost"}));
    assert_eq!(config(), [0xff; 256]);
    log.with("device 1: dead!");
    assert_eq!(user.call("memset"), "0x8030040c");
    assert_eq!(user.call("finalize"), "0x00000000");
    assert_eq!(user.call("init"), "0x00000000");
    assert_eq!(user.call("reboot"), "0x00000000", "all ones look like success");
    log.with("device 1: alive!");
    assert_eq!(user.call("set"), "0x80300186", "which proves nothing");
    log.with("device 1: dead!");
    user.kill();
    host.modules_out();
    host.turn(&format!("{DRIVER}/unbind"), SLOT);
    until("unbound", || (!host.has(FUNCTION)).then_some(()));
    host.turn(&format!("{DRIVER}/bind"), SLOT);
    until("back", || host.has(&format!("{FUNCTION}/config")).then_some(()));
    assert_eq!(config()[..2], [0x4b, 0x1f]);
    host.modules_in();
    host.user();
}

#[test]
fn a_slower_link_shows_and_a_card_comes_and_goes() {
    let host = Machine::start(&["--break", r#"{"kind":"absent"}"#]);
    assert!(!host.has(FUNCTION));
    host.modules_in();
    let mut process = host.process();
    assert_eq!(process.call("init"), "0x80300181", "the driver is there, the card is not");
    host.modules_out();
    host.heal();
    assert!(host.has(FUNCTION));
    host.break_it(json!({"kind": "link_drop", "speed": "2.5 GT/s PCIe"}));
    assert_eq!(host.read(&format!("{FUNCTION}/current_link_speed")), "2.5 GT/s PCIe");
    assert_eq!(host.read(&format!("{FUNCTION}/current_link_width")), "1");
    host.heal();
    assert_eq!(host.read(&format!("{FUNCTION}/current_link_speed")), "5.0 GT/s PCIe");
    host.break_it(json!({"kind": "absent", "appears_ms": 5}));
    until("it appears by itself", || host.has(FUNCTION).then_some(()));
}
