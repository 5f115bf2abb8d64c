//! The program's options.

use std::process::{Command, Output};

fn supervisor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llm8850-supervisor")).args(arguments).output().unwrap()
}

#[test]
fn a_configuration_can_be_checked_without_starting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    let name = path.to_str().unwrap();
    std::fs::write(&path, "[limits]\nqueue = 3\n").unwrap();
    let good = supervisor(&["--check-config", "--config", name]);
    assert!(good.status.success());
    assert!(String::from_utf8(good.stdout).unwrap().ends_with("c.toml: OK\n"));

    std::fs::write(&path, "[limits]\nqueue = 3000\nquack = 1\n").unwrap();
    let bad = supervisor(&["--check-config", "--config", name]);
    assert!(!bad.status.success());
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(said.contains("c.toml:2: limits.queue: is 3000: write 0 to 1000"), "{said}");
    assert!(said.contains("c.toml:3: limits.quack: unknown field"), "{said}");
}

#[test]
fn the_installed_configuration_is_right() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/overlay/usr/lib/llm8850/config.toml");
    assert!(supervisor(&["--check-config", "--config", path]).status.success());
}

#[test]
fn the_version_is_told() {
    let version = supervisor(&["--version"]);
    assert_eq!(version.stdout, format!("llm8850-supervisor {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&path, format!("[server]\nlisten = [\"{address}\"]\n")).unwrap();
    let output = supervisor(&["--config", path.to_str().unwrap()]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("E-CONFIG") && said.contains(&address), "{said}");
}
