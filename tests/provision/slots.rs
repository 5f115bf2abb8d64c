//! Boot slots, with the real service to be judged.

use serde_json::json;

use crate::supervisor::{Supervisor, run};
use crate::system::System;

fn committed(system: &System) -> String {
    system.read("setup/autoboot.txt").lines().nth(2).unwrap_or_default().to_owned()
}

#[test]
fn an_update_goes_from_rauc_over_its_trial_to_its_verdict() {
    run(async {
        let supervisor = Supervisor::ready("").await;
        let config = supervisor.config.parent().unwrap().join("judged.toml");
        std::fs::write(&config, format!("[server]\nlisten = [\"{}\"]\n", supervisor.address)).unwrap();
        let config = config.to_str().unwrap();
        let system = System::new();
        system.started(2, 0);
        system.boot_slot(&["start"]).unwrap();
        assert_eq!(committed(&system), "boot_partition=2", "a lost sector is written again");
        system.boot_slot(&["judge", "--config", config]).unwrap();
        let told = system.json("slots.json");
        assert_eq!((&told["a"]["state"], &told["starts"]), (&json!("good"), &json!(0)));
        assert_eq!(told["a"]["verdict"]["by"], "demo on the CPU");

        // As RAUC calls its backend around an installation.
        assert_eq!(system.boot_slot(&["get-current"]).unwrap(), "a\n");
        system.boot_slot(&["set-state", "b", "bad"]).unwrap();
        system.boot_slot(&["set-primary", "b"]).unwrap();
        assert_eq!(system.boot_slot(&["get-primary"]).unwrap(), "b\n");
        assert_eq!(system.boot_slot(&["get-state", "b"]).unwrap(), "bad\n");
        system.boot_slot(&["start"]).unwrap();
        assert_eq!(system.log(), ["systemctl reboot --reboot-argument=0 tryboot"]);

        system.started(3, 1);
        system.boot_slot(&["start"]).unwrap();
        assert_eq!(committed(&system), "boot_partition=2");
        assert!(system.boot_slot(&["set-state", "a", "bad"]).unwrap_err().contains("E-SLOTS"));
        system.boot_slot(&["judge", "--config", config]).unwrap();
        assert_eq!(committed(&system), "boot_partition=3");
        assert_eq!(system.boot_slot(&["get-state", "b"]).unwrap(), "good\n");
    });
}

#[test]
fn a_trial_without_a_service_is_left_and_says_why() {
    let system = System::new();
    system.started(2, 0);
    system.boot_slot(&["start"]).unwrap();
    system.boot_slot(&["set-primary", "b"]).unwrap();
    system.started(3, 1);
    system.boot_slot(&["start"]).unwrap();
    system.put("config.toml", "[server]\nlisten = [\"127.0.0.1:1\"]\n");
    let config = system.path("config.toml");
    system.boot_slot(&["judge", "--within", "0", "--config", config.to_str().unwrap()]).unwrap();
    assert_eq!(system.log(), ["systemctl reboot"]);
    let told = system.json("slots.json");
    assert_eq!(told["b"]["state"], "bad");
    assert!(told["b"]["why"].as_str().unwrap().contains("refused"), "{told}");
    assert_eq!(committed(&system), "boot_partition=2");
}

#[test]
fn the_service_tells_what_the_images_programs_found() {
    run(async {
        let system = System::new();
        system.started(2, 0);
        system.put("setup/appliance.toml", "[host]\nname = \"-\"\n");
        system.boot_slot(&["start"]).unwrap();
        system.provision("settings");
        let dir = json!(system.path("run/llm8850-appliance"));
        let supervisor = Supervisor::start(&format!("[appliance]\ndir = {dir}\n")).await;
        let status = supervisor.status().await;
        assert_eq!(status["appliance"]["running"], "a");
        assert!(
            status["problems"][0].as_str().unwrap().starts_with("appliance.toml:2: host.name"),
            "{status}"
        );
    });
}

#[test]
fn a_machine_without_slots_is_told_so() {
    let system = System::new();
    assert!(system.boot_slot(&["start"]).unwrap_err().contains("E-BOOTLOADER"));
    system.started(2, 0);
    assert!(system.boot_slot(&["set-state", "c", "good"]).is_err());
    assert!(system.boot_slot(&["install", "/none.raucb"]).unwrap_err().contains("E-UPDATE"));
}
