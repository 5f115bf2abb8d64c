//! The file a new card has.

use llm8850::config::Config;

use crate::system::System;

fn template() -> String {
    System::new().read("usr/share/llm8850/appliance.toml")
}

/// Every key switched on.
fn uncommented() -> String {
    let setting = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    template()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if setting(rest) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn it_sets_nothing_and_is_right_with_every_key_switched_on() {
    for text in [template(), uncommented(), uncommented().replace('\n', "\r\n")] {
        let system = System::new();
        system.put("usr/share/zoneinfo/Europe/Berlin", "zone");
        system.put("setup/appliance.toml", &text);
        system.provision("settings");
        assert_eq!(system.problems("settings"), [""; 0]);
    }
    assert!(template().lines().all(|line| line.is_empty() || line.starts_with('#')));
    assert!(uncommented().contains("\nsecret = ") && uncommented().contains("\n[lights]\n"));
}

#[test]
fn the_defaults_it_shows_are_the_services() {
    let shown: toml::Table = toml::from_str(&uncommented()).unwrap();
    let sections = ["limits", "lights", "log"].map(|name| (name.to_owned(), shown[name].clone()));
    let text = toml::to_string(&toml::Table::from_iter(sections)).unwrap();
    assert_eq!(Config::parse(&text, "shown".as_ref()), (Config::default(), vec![]));
}
