//! The slot's reset: what it does, and above all what it refuses.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;

use llm8850::fault::Fault;
use llm8850::recover::{Reply, Verb};

use crate::system::{System, assert_fault, drain};

const DRIVER: &str = "sys/bus/platform/drivers/brcm-pcie";
const CARD: &str = "sys/bus/pci/devices/0001:01:00.0";
const SLOT: &str = "1000110000.pcie";

/// A system without modules whose slot can be reset.
fn system() -> System {
    let system = System::new();
    system.load(&[]);
    for bridge in [SLOT, "1000120000.pcie"] {
        fs::create_dir_all(system.path(DRIVER).join(bridge)).unwrap();
    }
    for control in ["bind", "unbind"] {
        system.fifo(&format!("{DRIVER}/{control}"));
    }
    system.fifo("sys/bus/pci/rescan");
    system.fifo(&format!("{CARD}/remove"));
    system
}

/// The kernel's part: on each write to `below`, does `deed` with what was written.
fn on_write(
    system: &System,
    below: &str,
    deed: impl FnOnce(String) + Send + 'static,
) -> thread::JoinHandle<()> {
    let path = system.path(below);
    thread::spawn(move || deed(drain(&path)))
}

/// Removing and unbinding as the kernel does them.
fn obey_until_bound(system: &System) -> [thread::JoinHandle<()>; 2] {
    let (card, bound): (PathBuf, PathBuf) = (system.path(CARD), system.path(DRIVER).join(SLOT));
    [
        on_write(system, &format!("{CARD}/remove"), move |text| {
            assert_eq!(text, "1");
            fs::remove_dir_all(card).unwrap();
        }),
        on_write(system, &format!("{DRIVER}/unbind"), move |text| {
            assert_eq!(text, SLOT);
            fs::remove_dir(bound).unwrap();
        }),
    ]
}

#[test]
fn the_card_is_removed_the_slots_bridge_bound_anew_and_the_card_is_back() {
    let system = system();
    let kernel = obey_until_bound(&system);
    let (staged, card) = (system.path("staged"), system.path(CARD));
    system.add_function("staged");
    let bind = on_write(&system, &format!("{DRIVER}/bind"), move |text| {
        assert_eq!(text, SLOT);
        fs::rename(staged, card).unwrap();
    });
    let (steps, last) = system.ask(Verb::BusReset);
    assert_eq!(last, Reply::Done(None), "{steps:?}");
    assert_eq!(steps.len(), 3, "{steps:?}");
    kernel.into_iter().chain([bind]).for_each(|thread| thread.join().unwrap());
    assert!(system.path(DRIVER).join("1000120000.pcie").exists());
}

#[test]
fn a_card_that_is_back_without_its_identity_gets_one_rescan_then_it_is_a_fault() {
    let system = system();
    let kernel = obey_until_bound(&system);
    let (staged, card) = (system.path("staged"), system.path(CARD));
    system.add_function("staged");
    fs::write(staged.join("config"), [0xff; 256]).unwrap();
    let bind = on_write(&system, &format!("{DRIVER}/bind"), move |_| fs::rename(staged, card).unwrap());
    let rescan = on_write(&system, "sys/bus/pci/rescan", |text| assert_eq!(text, "1"));
    assert_fault(&system.refused(Verb::BusReset), Fault::Bus, "did not come back");
    kernel.into_iter().chain([bind, rescan]).for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_rescan_may_find_the_card_where_it_was_missing_before() {
    let system = system();
    fs::remove_dir_all(system.path(CARD)).unwrap();
    fs::remove_dir(system.path(DRIVER).join(SLOT)).unwrap();
    let bind = on_write(&system, &format!("{DRIVER}/bind"), |text| assert_eq!(text, SLOT));
    let (staged, card) = (system.path("staged"), system.path(CARD));
    system.add_function("staged");
    let rescan = on_write(&system, "sys/bus/pci/rescan", move |_| fs::rename(staged, card).unwrap());
    assert_eq!(system.ask(Verb::BusReset).1, Reply::Done(None));
    [bind, rescan].into_iter().for_each(|thread| thread.join().unwrap());
}

// In what follows nobody reads the FIFOs: a write would hang and fail at the deadline
// with another text.

#[test]
fn with_any_module_loaded_the_slot_is_left_alone() {
    for module in ["ax_pcie_host_dev", "axcl_host", "ax_pcie_net_rc"] {
        let system = system();
        system.load(&[module]);
        assert_fault(&system.refused(Verb::BusReset), Fault::Bus, &format!("modules are loaded: {module}"));
    }
}

#[test]
fn without_the_list_of_modules_the_slot_is_left_alone() {
    let system = system();
    fs::remove_file(system.path("proc/modules")).unwrap();
    assert_fault(&system.refused(Verb::BusReset), Fault::Modules, "proc/modules");
}

/// Puts a function into a tree of links, as sysfs has them.
fn place(system: &System, below: &str, name: &str) {
    let real = format!("sys/devices/{below}/{name}");
    system.add_function(&real);
    let link = system.path("sys/bus/pci/devices").join(name);
    let _ = fs::remove_dir_all(&link);
    symlink(format!("../../../devices/{below}/{name}"), link).unwrap();
}

#[test]
fn a_card_behind_any_other_bridge_is_left_alone() {
    for bridge in ["platform/axi/1000120000.pcie/pci0002:00/0002:00:00.0", "pci0000:00/0000:00:01.0"] {
        let system = system();
        place(&system, bridge, "0001:01:00.0");
        assert_fault(&system.refused(Verb::BusReset), Fault::Bus, "the card is behind ");
    }
}

#[test]
fn a_card_that_shares_its_slot_is_left_alone() {
    let system = system();
    let below = "platform/axi/1000110000.pcie/pci0001:00/0001:00:00.0";
    place(&system, below, "0001:01:00.0");
    place(&system, below, "0001:02:00.0");
    system.put(&format!("sys/devices/{below}/0001:02:00.0/vendor"), "0x144d\n");
    assert_fault(&system.refused(Verb::BusReset), Fault::Bus, "0001:02:00.0 is in the same slot");
}
