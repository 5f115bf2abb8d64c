//! What breaks, how it shows and what mends it.

use rustix::process::Signal;
use serde_json::json;

use super::host::{DRIVER, FUNCTION, Machine, SLOT};
use super::wait::{ended, until};

/// Deaths are told soon, and repeated so seldom that a log nobody reads has room.
const QUICK: [&str; 3] = ["--loaded", "--set", r#"{"port_hold_ms":1,"heartbeat_ms":5}"#];

#[test]
fn a_dead_card_shows_in_the_log_and_in_calls_until_it_is_restarted() {
    let host = Machine::start(&QUICK);
    host.ask(json!({"set": {"dead_repeat_ms": 5}}));
    let (mut log, mut user) = (host.kernel_log(), host.user());
    host.break_it(json!({"kind": "dead"}));
    let line = log.with("master: ");
    assert!(line.contains("slave: ") && line.contains("runtime: ") && line.contains("timeout: 5"), "{line}");
    for _ in 0..3 {
        assert!(log.with("dead!").contains("[heartbeat_recv_thread, 591]: device 1: dead!"));
    }
    assert_eq!(user.call("memset"), "0x8030040c");
    assert_eq!(user.call("finalize"), "0x00000000");
    let mut next = host.process();
    assert_eq!(next.call("init"), "0x00000000");
    assert_eq!(next.call("set"), "0x80300186");
    assert_eq!(next.call("reboot"), "0x00000000");
    assert_eq!(next.call("set"), "0x00000000");
    assert_eq!(host.acted()[0]["acted"]["kind"], "dead");
}

#[test]
fn a_second_death_is_told_after_the_first_is_over() {
    let host = Machine::start(&QUICK);
    let mut log = host.kernel_log();
    log.with("device 1: alive!");
    let dies = || host.break_it(json!({"kind": "dead"}));
    dies();
    log.with("device 1: dead!");
    host.process().calls(&["init", "reboot", "finalize"]);
    log.with("device 1: alive!");
    dies();
    log.with("device 1: dead!");
    host.modules_out();
    host.modules_in();
    log.with("device 1: alive!");
    dies();
    log.with("device 1: dead!");
}

#[test]
fn calls_know_of_a_break_as_soon_as_it_is_made() {
    let host = Machine::start(&["--loaded"]);
    let (mut user, mut other) = (host.user(), host.user());
    for _ in 0..50 {
        host.break_it(json!({"kind": "versions", "firmware": "V3.6.4_20250822"}));
        assert_eq!(user.properties().0, "V3.6.4_20250822");
        assert_eq!(other.properties().0, "V3.6.4_20250822");
        host.heal();
        assert_eq!(other.properties().0, "V3.10.2_emulated");
        // It has taken the thread's device away.
        user.calls(&["set", "memset"]);
    }
    other.calls(&["set", "reboot"]);
    assert_eq!(user.call("memset"), "0x8030040c", "known before the restart was answered");
}

#[test]
fn a_stopped_process_holds_nobody_up_and_learns_later() {
    let host = Machine::start(&["--loaded"]);
    let mut user = host.user();
    user.signal(Signal::STOP);
    until("stopped", || (user.run_state() == 'T').then_some(()));
    host.break_it(json!({"kind": "heat", "from": 91_000, "to": 91_000}));
    let hears = || host.state()["attached"][0]["hears"].clone();
    assert_eq!(hears(), false, "waited for once");
    host.break_it(json!({"kind": "heat", "from": 92_000, "to": 92_000}));
    user.signal(Signal::CONT);
    until("it hears again", || (hears() == true).then_some(()));
    host.break_it(json!({"kind": "heat", "from": 93_000, "to": 93_000}));
    assert_eq!(user.properties().1, 93_000);
}

#[test]
fn a_call_blocked_by_a_death_stays_blocked() {
    let host = Machine::start(&["--loaded", "--set", r#"{"heartbeat_ms":1}"#]);
    let mut log = host.kernel_log();
    let mut user = host.user();
    host.break_it(json!({"kind": "stuck"}));
    user.begin("memset");
    host.inside("axclrtMemset");
    host.break_it(json!({"kind": "dead"}));
    log.with("dead!");
    host.heal();
    assert_eq!(host.state()["responsive"], true);
    host.inside("axclrtMemset");
    let mut other = host.user();
    assert_eq!(other.call("memset"), "0x00000000");
}

#[test]
fn calls_on_a_dead_card_can_hang_instead() {
    let host = Machine::start(&QUICK);
    let (mut log, mut user) = (host.kernel_log(), host.user());
    host.break_it(json!({"kind": "dead", "calls": "hang"}));
    log.with("dead!");
    user.begin("memset");
    host.inside("axclrtMemset");
    assert_eq!(host.state()["attached"][0]["gate"], "hang");
}

/// Climbs the ladder and says after which rung a new process can use the card.
fn heals_after(rung: &str) -> Option<&'static str> {
    let host = Machine::start(&QUICK);
    let mut events = host.events();
    let (mut log, mut user) = (host.kernel_log(), host.user());
    host.break_it(json!({"kind": "dead", "heals_at": rung}));
    log.with("dead!");
    let works = || {
        let mut process = host.process();
        process.call("init") == "0x00000000" && process.call("set") == "0x00000000"
    };
    user.kill();
    events.with("detached");
    if works() {
        return Some("R1");
    }
    let mut helper = host.process();
    assert_eq!(helper.call("init"), "0x00000000");
    let rebooted = helper.call("reboot") == "0x00000000";
    assert_eq!(rebooted, works());
    if rebooted {
        return Some("R2");
    }
    helper.kill();
    host.modules_out();
    host.modules_in();
    if works() {
        return Some("R3");
    }
    log.with("[step0]: Handshake timeout!");
    log.with("device 1: alive!");
    host.modules_out();
    host.turn(&format!("{DRIVER}/unbind"), SLOT);
    until("unbound", || (!host.has(FUNCTION)).then_some(()));
    host.turn(&format!("{DRIVER}/bind"), SLOT);
    until("back", || host.has(FUNCTION).then_some(()));
    host.modules_in();
    if works() {
        return Some("R4");
    }
    host.modules_out();
    host.systemctl(&["reboot"]);
    host.modules_in();
    works().then_some("R5")
}

#[test]
fn a_card_heals_only_at_its_rung() {
    for rung in ["R1", "R2", "R3", "R4", "R5"] {
        assert_eq!(heals_after(rung), Some(rung));
    }
    assert_eq!(heals_after("never"), None);
}

#[test]
fn killed_processes_leave_memory_behind_until_the_card_restarts() {
    let host = Machine::start(&["--loaded"]);
    let mut events = host.events();
    host.break_it(json!({"kind": "memory", "mib": 1000}));
    let mut user = host.user();
    user.kill();
    events.with(r#""acted""#);
    let mut next = host.process();
    assert_eq!(next.call("init"), "0x00000000");
    assert_eq!(next.properties().2, 7_190_528 - (1000 << 10));
    assert_eq!(next.call("reboot"), "0x00000000");
    assert_eq!(next.properties().2, 7_190_528);
}

#[test]
fn firmware_can_be_missing_or_refused() {
    let host =
        Machine::start(&["--set", r#"{"port_hold_ms":1}"#, "--break", r#"{"kind":"firmware_missing"}"#]);
    let mut log = host.kernel_log();
    assert!(!host.has("lib/firmware/axcl/ax650_card.pac"));
    assert_eq!(host.modprobe("axcl_host"), (Some(0), String::new()), "as the real module's start");
    log.with("Patch file not found axcl/ax650_card.pac.");
    let mut process = host.process();
    assert_eq!(process.call("init"), "0x00000000");
    assert_eq!(process.call("set"), "0x80300186");
    process.kill();
    host.heal();
    for (at, says) in [("chunk", "[STATUS]: FAILED[-1]"), ("handshake", "[step0]: Handshake timeout!")] {
        host.break_it(json!({"kind": "firmware_fails", "at": at}));
        assert_eq!(host.rmmod("axcl_host").0, Some(0));
        assert_eq!(host.modprobe("axcl_host").0, Some(0));
        log.with(says);
        assert_eq!(host.state()["chip"], "silent");
    }
    assert_eq!(host.rmmod("axcl_host").0, Some(0));
    assert_eq!(host.modprobe("axcl_host").0, Some(0));
    host.user();
}

#[test]
fn modprobe_can_hang_and_rmmod_can_refuse() {
    let host = Machine::start(&["--loaded"]);
    host.break_it(json!({"kind": "rmmod_in_use", "times": 2}));
    let refused = (Some(1), "rmmod: ERROR: Module axcl_host is in use".to_owned());
    assert_eq!((host.rmmod("axcl_host"), host.rmmod("axcl_host")), (refused.clone(), refused));
    assert_eq!(host.rmmod("axcl_host").0, Some(0));
    let mut events = host.events();
    host.break_it(json!({"kind": "modprobe_hangs"}));
    let mut hung = host.spawn("usr/sbin/modprobe", &["axcl_host"]);
    events.with("acted");
    assert_eq!(host.read("sys/module/axcl_host/initstate"), "coming");
    assert!(hung.try_wait().unwrap().is_none() && !host.has("dev/axcl_host"));
    hung.kill().unwrap();
    ended(&mut hung, "modprobe");
    assert!(host.modules()[0].contains("axcl_host"), "the kernel goes on with it");
    assert_eq!(host.systemctl(&["reboot", "--force"]).0, Some(0));
    host.modules_in();
    host.user();
}

#[test]
fn versions_heat_and_slowness_reach_attached_processes() {
    let host = Machine::start(&["--loaded"]);
    let mut user = host.user();
    host.break_it(json!({"kind": "versions", "firmware": "V3.6.4_20250822"}));
    host.break_it(json!({"kind": "heat", "from": 50_000, "to": 91_000}));
    assert_eq!(user.properties().1, 91_000);
    assert_eq!(user.properties().0, "V3.6.4_20250822");
    host.break_it(json!({"kind": "heat", "from": 91_000, "to": 66_000}));
    assert_eq!(user.properties().1, 66_000, "the newer one counts");
    let mut log = host.kernel_log();
    host.break_it(json!({"kind": "heat", "from": 66_000, "to": 125_000, "over_ms": 2, "reset_at": 120_000}));
    log.with("device 1: dead!");
    assert_eq!(host.state()["chip"], "download");
}

#[test]
fn a_process_can_stop_so_that_only_sigkill_ends_it() {
    let host = Machine::start(&["--loaded"]);
    let mut user = host.user();
    host.rule(&json!({"call": "axclrtMemset", "act": {"hang_hard": true}}));
    user.begin("memset");
    until("stopped", || (user.run_state() == 'T').then_some(()));
    user.signal(Signal::TERM);
    assert_eq!(user.run_state(), 'T');
    let acted = host.acted();
    assert_eq!(acted[0]["acted"]["act"], json!({"hang_hard": true}));
    assert_eq!(acted[0]["pid"], user.id());
    // A process that cannot read does not hold the machine up.
    for _ in 0..2000 {
        host.break_it(json!({"kind": "heat", "from": 1, "to": 2}));
    }
    user.kill();
}
