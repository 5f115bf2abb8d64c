//! The card's driver, library and firmware, compared.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::system::System;

const LIBRARY: &str = "usr/lib/axcl/libaxcl_rt.so";
const FIRMWARE: &str = "lib/firmware/axcl/ax650_card.pac";
const MODULE: &str = "usr/lib/modules/6.12.1/extra/axcl_host.ko";

fn sum(bytes: &str) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn image() -> System {
    let system = System::new();
    let part = |file: &str, bytes| {
        system.put(file, bytes);
        json!({"file": format!("/{file}"), "sha256": sum(bytes)})
    };
    let triple = json!({
        "version": "3.6.5", "modules": ["axcl_host"],
        "library": part(LIBRARY, "library"), "firmware": [part(FIRMWARE, "firmware")],
    });
    system.put("usr/lib/axcl/triple.json", triple.to_string());
    system.put("proc/sys/kernel/osrelease", "6.12.1\n");
    system.put(
        "usr/lib/modules/6.12.1/modules.dep",
        "extra/ax_pcie_msg.ko:\nextra/axcl_host.ko: extra/ax_pcie_msg.ko\n",
    );
    system.put(MODULE, b"\x7fELF\xff\0license=GPL\0srcversion=ABC\0vermagic=6.12.1 SMP\0");
    system.put("sys/module/axcl_host/srcversion", "ABC\n");
    system
}

#[test]
fn what_belongs_together_is_no_problem() {
    let system = image();
    system.provision("triple");
    assert_eq!(system.problems("triple"), [""; 0]);
    // Not loaded yet, or it does not tell.
    std::fs::remove_dir_all(system.path("sys/module")).unwrap();
    system.provision("triple");
    assert_eq!(system.problems("triple"), [""; 0]);
    let without = System::new();
    without.provision("triple");
    assert_eq!(without.problems("triple"), [""; 0]);
}

#[test]
fn what_does_not_is_told_with_what_it_is_and_what_to_do() {
    type Change = fn(&System);
    let cases: [(Change, &str); 7] = [
        (
            |system| system.put(LIBRARY, "another"),
            "/usr/lib/axcl/libaxcl_rt.so is not the one of version 3.6.5",
        ),
        (
            |system| system.put(FIRMWARE, ""),
            "/lib/firmware/axcl/ax650_card.pac is not the one of version 3.6.5",
        ),
        (|system| std::fs::remove_file(system.path(FIRMWARE)).unwrap(), "ax650_card.pac: No such file"),
        (|system| system.put("usr/lib/axcl/triple.json", "{"), "triple.json: EOF"),
        (|system| system.put("proc/sys/kernel/osrelease", "7.0\n"), "no module axcl_host for the kernel 7.0"),
        (|system| std::fs::remove_file(system.path(MODULE)).unwrap(), "axcl_host.ko: No such file"),
        (
            |system| system.put("sys/module/axcl_host/srcversion", "DEF\n"),
            "the loaded module axcl_host is not the image's",
        ),
    ];
    for (change, words) in cases {
        let system = image();
        change(&system);
        system.provision("triple");
        let problems = system.problems("triple");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("E-TRIPLE: ") && problems[0].contains(words), "{problems:?}");
        assert!(problems[0].ends_with("Install an update, or write the image again."), "{problems:?}");
    }
}
