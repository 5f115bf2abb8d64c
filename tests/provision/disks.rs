//! Data partitions and factory reset.

use crate::system::System;

const STATE: &str = "/dev/disk/by-partlabel/state";
const MODELS: &str = "/dev/disk/by-partlabel/models";
const FORGETFUL: &str =
    "nothing is remembered over a restart, for /var is in memory: write the image again, to another card";

fn mounted() -> String {
    format!("mount -t ext4 -o noatime,errors=remount-ro {STATE} /var")
}

fn card() -> System {
    let system = System::new();
    system.put("dev/disk/by-partlabel/state", "");
    system.put("dev/disk/by-partlabel/models", "");
    system
}

#[test]
fn sound_and_repaired_partitions_stay() {
    let system = card();
    // Of state and models, the last line first.
    system.put("exit-fsck.ext4", "1\n0\n");
    system.provision("disks");
    let expected = [format!("fsck.ext4 -p {STATE}"), mounted(), format!("fsck.ext4 -p {MODELS}")];
    assert_eq!(system.log(), expected);
    assert_eq!(system.problems("disks"), [""; 0]);
}

#[test]
fn what_cannot_be_repaired_is_made_again_and_told() {
    let system = card();
    system.put("exit-fsck.ext4", "1\n4\n8\n8\n");
    system.provision("disks");
    let expected = [
        format!("fsck.ext4 -p {STATE}"),
        format!("fsck.ext4 -y {STATE}"),
        format!("mkfs.ext4 -q -F -m 0 -L state {STATE}"),
        mounted(),
        format!("fsck.ext4 -p {MODELS}"),
        format!("fsck.ext4 -y {MODELS}"),
    ];
    assert_eq!(system.log(), expected);
    let problems = system.problems("disks");
    assert_eq!(problems, ["state could not be repaired, and is made again, empty: fsck.ext4: trouble 8"]);
}

#[test]
fn a_check_that_does_not_run_erases_nothing() {
    let system = card();
    std::fs::remove_file(system.path("usr/sbin/fsck.ext4")).unwrap();
    // Unchecked, it may be sound, whatever mount says.
    system.put("exit-mount", "32\n");
    system.provision("disks");
    assert_eq!(system.log(), [mounted()]);
    let problems = system.problems("disks");
    assert_eq!(problems[1..3], ["state cannot be mounted: mount: trouble 32", FORGETFUL]);
    assert!(problems[0].contains("state is not checked") && problems[3].contains("models is not checked"));
}

#[test]
fn what_is_mounted_already_is_left_alone() {
    let system = card();
    let script = "#!/bin/sh\necho \"$2 is mounted.\" >&2\nexit 8\n";
    system.program("usr/sbin/fsck.ext4", script);
    system.provision("disks");
    assert!(system.log().is_empty(), "{:?}", system.log());
}

#[test]
fn without_a_partition_to_mount_everything_is_in_memory_and_told() {
    let bare = System::new();
    bare.provision("disks");
    assert_eq!(bare.log(), [""; 0]);
    let missing = |label| format!("the card has no partition `{label}`: write the image again");
    assert_eq!(bare.problems("disks"), [missing("state"), FORGETFUL.into(), missing("models")]);
}

#[test]
fn what_cannot_be_mounted_is_made_again_and_otherwise_in_memory() {
    let make = format!("mkfs.ext4 -q -F -m 0 -L state {STATE}");
    let check = |label: &str| format!("fsck.ext4 -p {label}");
    let again = "state cannot be mounted, and is made again, empty: mount: trouble 32";
    // What mount ends with, the last line first; whether state is made; what it comes to.
    for (codes, made, memory) in [("0\n32\n", true, false), ("32\n32\n", true, true), ("1\n", false, true)] {
        let system = card();
        system.put("exit-mount", codes);
        system.provision("disks");
        let mut expected = vec![check(STATE), mounted()];
        expected.extend(made.then(|| [make.clone(), mounted()]).into_iter().flatten());
        expected.push(check(MODELS));
        assert_eq!(system.log(), expected, "{codes:?}");
        let problems = system.problems("disks");
        assert_eq!(problems.iter().any(|problem| problem == again), made, "{problems:?}");
        assert_eq!(problems.iter().any(|problem| problem == FORGETFUL), memory, "{problems:?}");
    }
}

#[test]
fn a_factory_reset_makes_state_again_once_and_models_only_when_asked() {
    for (name, models) in
        [("factory-reset", false), ("factory-reset.txt", false), ("factory-reset-models", true)]
    {
        let system = card();
        system.put(&format!("setup/{name}"), "");
        system.provision("disks");
        let made = |label: &str| {
            system.log().iter().any(|line| line.starts_with("mkfs.ext4") && line.ends_with(label))
        };
        assert_eq!((made("state"), made("models")), (true, models), "{name}");
        assert!(!system.path(format!("setup/{name}")).exists());
        let before = system.log().len();
        system.provision("disks");
        assert!(!system.log()[before..].iter().any(|line| line.starts_with("mkfs")));
    }
}

#[test]
fn the_service_can_order_a_reset_and_nothing_else_of_root() {
    let system = card();
    system.started(2, 0);
    system.put("var/lib/llm8850/orders/factory-reset", "");
    system.put("var/lib/llm8850/orders/format-the-world", "");
    system.put("var/lib/llm8850/orders/install-bundle", "/etc/passwd");
    system.provision("orders");
    assert!(system.path("setup/factory-reset").exists());
    assert_eq!(system.log(), ["systemctl reboot"]);
    let problems = system.problems("orders");
    assert!(problems[0].contains("there is no order \"format-the-world\""), "{problems:?}");
    assert!(problems[1].contains("is not in /var/lib/llm8850"), "{problems:?}");
}
