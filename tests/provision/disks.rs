//! Data partitions and factory reset.

use crate::system::System;

const STATE: &str = "/dev/disk/by-partlabel/state";
const MODELS: &str = "/dev/disk/by-partlabel/models";

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
    assert_eq!(system.log(), [format!("fsck.ext4 -p {STATE}"), format!("fsck.ext4 -p {MODELS}")]);
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
    system.provision("disks");
    assert!(system.log().is_empty());
    assert!(system.problems("disks").iter().all(|problem| problem.contains("is not checked")));
    let bare = System::new();
    bare.provision("disks");
    assert_eq!(bare.problems("disks")[0], "the card has no partition `state`: write the image again");
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
        assert!(system.log()[before..].iter().all(|line| line.starts_with("fsck")));
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
