//! From the file to the system.

use std::fs;

use llm8850::config::Config;

use crate::system::System;

const FILE: &str = "# The wall's.\r\n[host]\r\nname = \"wall\"\r\ntimezone = \"Europe/Vienna\"\r\n\
    [network]\r\naddress = \"10.0.0.5/8\"\r\n\
    [wifi]\r\ncountry = \"AT\"\r\nssid = \"Gallery\"\r\npassword = \"correct horse\" # not for you\r\n\
    [ssh]\r\nauthorized_keys = [\"ssh-ed25519 AAAAx me\"]\r\n\
    [[access.key]]\r\nname = \"wall\"\r\nsecret = \"sk-secret\"\r\n\
    [defaults]\r\nmax_tokens = 42\r\n";

fn provisioned(file: &str) -> System {
    let system = System::new();
    system.put("usr/share/zoneinfo/Europe/Vienna", "zone");
    system.put("setup/appliance.toml", file);
    system.provision("settings");
    system
}

#[test]
fn everything_is_applied_and_secrets_leave_the_file() {
    let system = provisioned(FILE);
    assert_eq!(system.problems("settings"), [""; 0]);
    assert_eq!(system.read("proc/sys/kernel/hostname"), "wall");
    let zone = fs::read_link(system.path("run/llm8850-config/localtime")).unwrap();
    assert_eq!(zone.to_str(), Some("/usr/share/zoneinfo/Europe/Vienna"));
    let network = system.read("run/systemd/network/10-appliance.network");
    assert!(network.contains("Address=10.0.0.5/8") && network.contains("DHCP=yes"), "{network}");
    assert!(system.read("var/lib/iwd/Gallery.psk").contains("Passphrase=correct horse\n"));
    assert_eq!(system.mode("var/lib/iwd/Gallery.psk"), 0o600);
    assert!(system.read("run/llm8850-config/iwd.conf").contains("Country=AT"));
    assert_eq!(system.read("run/llm8850-config/authorized_keys"), "ssh-ed25519 AAAAx me\n");
    let config = system.read("run/llm8850-config/config.toml");
    assert!(config.contains("max_tokens = 42") && config.contains("/models/default"), "{config}");
    assert!(config.contains("the appliance itself") && !config.contains("sk-"), "{config}");
    assert_eq!(system.mode("run/llm8850-appliance/key"), 0o600);
    assert_eq!(system.mode("var/lib/llm8850-settings/appliance.toml"), 0o600);
    assert_eq!(system.mode("var/lib/llm8850-settings"), 0o700);

    let kept = "\"kept in the appliance\"";
    let expected = FILE.replace("\"correct horse\"", kept).replace("\"sk-secret\"", kept);
    assert_eq!(system.read("setup/appliance.toml"), expected);
    let status = system.read("setup/status.txt");
    assert!(
        status.contains("http://wall.local:8000\r\n") && status.ends_with("No mistakes.\r\n"),
        "{status}"
    );
    assert!(!status.contains("horse") && !status.contains("sk-secret"));
}

#[test]
fn the_vendors_runtime_is_used_only_where_the_image_has_it() {
    let system = System::new();
    let base = "[worker]\nruntime = \"/usr/lib/axcl/libaxcl_rt.so\"\n[recovery]\nhelper = \"/run/llm8850/card.sock\"\n";
    system.put("usr/lib/llm8850/config.toml", base);
    let configured = || {
        system.provision("settings");
        system.read("run/llm8850-config/config.toml")
    };
    let without = configured();
    assert!(
        without.contains("/usr/lib/llm8850/libaxcl_rt.so") && !without.contains("card.sock"),
        "{without}"
    );
    system.put("usr/lib/axcl/libaxcl_rt.so", "");
    let with = configured();
    assert!(with.contains("/usr/lib/axcl/libaxcl_rt.so") && with.contains("card.sock"), "{with}");
}

#[test]
fn a_small_model_stands_in_for_the_card_where_there_is_one() {
    let system = System::new();
    system.put("usr/lib/axcl/libaxcl_rt.so", "");
    let base = "[worker]\nruntime = \"/usr/lib/axcl/libaxcl_rt.so\"\n[recovery]\nstate_dir = \"/x\"\n";
    system.put("usr/lib/llm8850/config.toml", base);
    let fallback = |settings: &str| {
        system.put("setup/appliance.toml", settings);
        system.provision("settings");
        let (config, problems) = Config::load(&system.path("run/llm8850-config/config.toml"));
        assert_eq!(problems, []);
        config.fallback.configured().then_some((config.fallback.model_dir, config.fallback.runtime))
    };
    let ours = |dir: &str| Some((dir.into(), "/usr/lib/llm8850/libaxcl_rt.so".into()));
    assert_eq!(fallback("[host]\n"), None);
    assert_eq!(fallback("[fallback]\nmodel_dir = \"/models/tiny\"\n"), ours("/models/tiny"));
    system.put("models/fallback/config.json", "");
    assert_eq!(fallback("[host]\n"), ours("/models/fallback"));
    assert_eq!(fallback("[fallback]\nmodel_dir = \"\"\n"), None);
    assert_eq!(fallback("[fallback]\nmodel_dir = \"tiny\"\n"), ours("/models/fallback"));
    assert_eq!(
        system.problems("settings"),
        ["appliance.toml:2: fallback.model_dir: is no whole path: write one such as \"/models/fallback\""]
    );
}

#[test]
fn the_next_start_changes_nothing_and_a_new_password_is_taken() {
    let system = provisioned(FILE);
    let written = |name: &str| fs::metadata(system.path(name)).unwrap().modified().unwrap();
    let files = ["setup/appliance.toml", "setup/status.txt", "var/lib/llm8850-settings/appliance.toml"];
    let before = files.map(written);
    system.provision("settings");
    assert_eq!(files.map(written), before, "the card is written only where something changed");
    assert!(system.read("var/lib/iwd/Gallery.psk").contains("correct horse"));

    let text =
        system.read("setup/appliance.toml").replacen("\"kept in the appliance\"", "\"another one\"", 1);
    system.put("setup/appliance.toml", text.replace("Gallery", "Bar"));
    system.provision("settings");
    assert!(system.read("var/lib/iwd/Bar.psk").contains("another one"));
    assert!(!system.path("var/lib/iwd/Gallery.psk").exists());
    assert!(!system.read("setup/appliance.toml").contains("another one"));
}

#[test]
fn mistakes_are_told_beside_the_file_and_to_the_service() {
    let system = provisioned("[host]\nname = \"-\"\n[limits]\nqueue = 9999\nhold_s = 5\n[what]\n");
    let problems = system.problems("settings");
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(problems[1], "appliance.toml:4: limits.queue: is 9999: write 0 to 1000");
    let status = system.read("setup/status.txt");
    problems.iter().for_each(|problem| assert!(status.contains(problem), "{status}"));
    assert_eq!(system.read("proc/sys/kernel/hostname"), "llm8850");
    assert!(system.read("run/llm8850-config/config.toml").contains("hold_s = 5"));
    assert!(!system.path("run/systemd/network/10-appliance.network").exists(), "the image's own stays: DHCP");
}

#[test]
fn a_hopeless_file_leaves_the_settings_of_the_last_start() {
    let system = provisioned(FILE);
    for hopeless in [&b"\xff\xfe[\0h\0"[..], &[b'#'; 300_000], b"[[[[", b"\0\0\0\0"] {
        system.put("setup/appliance.toml", hopeless);
        system.provision("settings");
        assert!(!system.problems("settings").is_empty());
        assert_eq!(system.read("proc/sys/kernel/hostname"), "wall");
        assert!(system.read("var/lib/iwd/Gallery.psk").contains("correct horse"));
        assert_eq!(
            system.read("setup/appliance.toml").len(),
            if hopeless[0] == 0xff { 0 } else { hopeless.len() }
        );
    }
}

#[test]
fn a_file_that_vanished_is_written_again() {
    let system = provisioned(FILE);
    let before = system.read("setup/appliance.toml");
    fs::remove_file(system.path("setup/appliance.toml")).unwrap();
    system.provision("settings");
    assert_eq!(system.read("setup/appliance.toml"), before);
    assert_eq!(system.read("proc/sys/kernel/hostname"), "wall");
    let fresh = System::new();
    fresh.provision("settings");
    assert_eq!(fresh.read("setup/appliance.toml"), fresh.read("usr/share/llm8850/appliance.toml"));
    assert_eq!(fresh.problems("settings"), [""; 0]);
}

#[test]
fn without_the_partition_the_settings_of_the_last_start_apply_and_it_is_made_again() {
    let system = provisioned(FILE);
    system.put("proc/sys/kernel/hostname", "localhost");
    system.provision_without_setup("settings");
    assert_eq!(system.read("proc/sys/kernel/hostname"), "wall");
    assert!(system.problems("settings")[0].contains("E-SETUP"), "{:?}", system.problems("settings"));
    assert!(system.log().is_empty(), "what is not there is not made");
    // A file is no device: it cannot be mounted, whatever is done with it.
    system.put("dev/disk/by-partlabel/setup", "");
    system.provision_without_setup("settings");
    let device = "/dev/disk/by-partlabel/setup";
    let expected = [format!("fsck.vfat -a -w {device}"), format!("mkfs.vfat -F 32 -n SETUP {device}")];
    assert_eq!(system.log(), expected);
    assert_eq!(system.read("proc/sys/kernel/hostname"), "wall");
}

/// Files that are kept, in the order they are written.
const KEPT: [&str; 4] = [
    "var/lib/llm8850-settings/appliance.toml",
    "var/lib/llm8850-settings/setup.toml",
    "setup/appliance.toml",
    "setup/status.txt",
];

#[test]
fn nothing_is_lost_whichever_write_is_the_last() {
    for stops in KEPT {
        let system = System::new();
        system.put("usr/share/zoneinfo/Europe/Vienna", "zone");
        system.put("setup/appliance.toml", FILE);
        // It is first written under another name; here that is taken.
        let taken = system.path(stops).with_extension("new");
        fs::create_dir_all(&taken).unwrap();
        system.provision("settings");
        assert!(!system.problems("settings").is_empty(), "{stops} was written all the same");
        let somewhere = ["setup/appliance.toml", KEPT[0]].map(|file| system.read(file));
        for secret in ["correct horse", "Gallery"] {
            assert!(somewhere.iter().any(|text| text.contains(secret)), "{secret} is lost: {stops}");
        }
        assert!(system.read("var/lib/iwd/Gallery.psk").contains("correct horse"), "{stops}");
        // Half of it is what a power cut may leave; the next start finds and finishes it.
        fs::remove_dir(&taken).unwrap();
        fs::write(&taken, "[wifi]\npassw").unwrap();
        system.provision("settings");
        assert_eq!(system.problems("settings"), [""; 0], "{stops}");
        assert!(system.read("var/lib/iwd/Gallery.psk").contains("correct horse"), "{stops}");
        assert!(system.read("run/llm8850-config/config.toml").contains("name = \"wall\""), "{stops}");
        let file = system.read("setup/appliance.toml");
        assert!(!file.contains("horse") && !file.contains("sk-secret"), "{stops}: {file}");
        assert!(system.read("setup/status.txt").ends_with("No mistakes.\r\n"), "{stops}");
    }
}

#[test]
fn secrets_stay_in_the_file_where_nothing_outlives_a_restart() {
    let var = |kind: &str| {
        let system = System::new();
        system
            .put("proc/self/mounts", format!("/dev/dm-0 / erofs ro 0 0\n/dev/sda6 /var ext4 rw 0 0\n{kind}"));
        system.put("setup/appliance.toml", FILE);
        system.provision("settings");
        system.read("setup/appliance.toml").contains("correct horse")
    };
    assert!(var("tmpfs /var tmpfs rw 0 0\n"));
    assert!(!var("tmpfs /run tmpfs rw 0 0\n"));
}

#[test]
fn secrets_stay_in_the_file_where_the_appliance_cannot_keep_them() {
    let system = System::new();
    system.put("var/lib/llm8850-settings", "no directory");
    system.put("setup/appliance.toml", FILE);
    system.provision("settings");
    assert_eq!(system.read("setup/appliance.toml"), FILE);
    assert!(system.problems("settings").iter().any(|problem| problem.contains("llm8850-settings")));
    assert!(system.read("var/lib/iwd/Gallery.psk").contains("correct horse"), "applied all the same");
}

#[test]
fn access_that_was_meant_and_cannot_be_read_stays_closed() {
    let system = provisioned("[[access.key]]\nname = \"wall\"\nsecret = 5\n");
    let config = system.read("run/llm8850-config/config.toml");
    assert!(config.contains("the appliance itself") && config.contains("public_status = false"), "{config}");
}
