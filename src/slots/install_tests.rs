use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::keeper::tests::{Obedient, keeper};
use super::super::policy::Restart;
use super::super::record::{Slot, Verdict};
use super::*;

/// RAUC as it behaves towards its caller and its backend: the record is what it would leave.
const SCRIPT: &str = r#"#!/bin/sh
root=$(dirname "$0")/../..
if [ "$1" = info ]; then
    [ -e "$root/unsigned" ] && { echo "signature verification failed" >&2; exit 1; }
    cat "$root/info"
    exit 0
fi
echo "installing"
echo "  0% Installing"
echo " 40% Copying image to rootfs.1"
[ -e "$root/breaks" ] && { echo "LastError: no space left" >&2; exit 1; }
echo "100% Installing done."
cp "$root/after" "$root/var/lib/llm8850-slots/slots.json"
"#;

fn machine() -> (tempfile::TempDir, Keeper<Obedient>) {
    let (directory, mut keeper) = keeper();
    keeper.start().unwrap();
    keeper.decide(|r, f| Ok(policy::judged_good(r, f, Verdict::default()))).unwrap();
    let program = directory.path().join(RAUC);
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, SCRIPT).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    info(&directory, "2.0");
    let after =
        keeper.look(|record, facts| policy::set_primary(record, facts, Slot::B).unwrap().record).unwrap();
    fs::write(directory.path().join("after"), serde_json::to_vec(&after).unwrap()).unwrap();
    (directory, keeper)
}

fn info(directory: &tempfile::TempDir, version: &str) {
    let told = format!(r#"{{"compatible": "llm8850", "version": "{version}"}}"#);
    fs::write(directory.path().join("info"), told).unwrap();
}

fn told(directory: &tempfile::TempDir) -> Value {
    let text = fs::read(directory.path().join("run/llm8850-appliance/slots.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["update"].clone()
}

#[test]
fn a_bundle_is_written_told_and_tried() {
    let (directory, mut keeper) = machine();
    install(&mut keeper, Path::new("/x/new.raucb")).unwrap();
    assert_eq!(keeper.firmware().restarts, [Restart::Trial]);
    assert_eq!(keeper.look(|record, _| record.trial.clone().unwrap().attempts).unwrap(), 1);
    let told = told(&directory);
    assert_eq!((&told["percent"], &told["version"]), (&100.into(), &"2.0".into()));
    assert_eq!((&told["bundle"], &told["failed"]), (&"new.raucb".into(), &false.into()));
}

#[test]
fn what_hinders_an_update_is_told_and_nothing_is_tried() {
    type Hindrance = fn(&tempfile::TempDir, &mut Keeper<Obedient>);
    let cases: [(Hindrance, &str); 6] = [
        (|d, _| fs::write(d.path().join("unsigned"), "").unwrap(), "signature verification failed"),
        (|d, _| fs::write(d.path().join("breaks"), "").unwrap(), "LastError: no space left"),
        (|d, _| fs::remove_file(d.path().join(RAUC)).unwrap(), "rauc: No such file"),
        (|d, _| info(d, ""), "it tells no version"),
        (|_, keeper| keeper.age(), "it is too old"),
        (
            |d, _| {
                fs::create_dir_all(d.path().join("usr/lib/llm8850")).unwrap();
                fs::write(d.path().join("usr/lib/llm8850/minimum-version"), "2.0.1\n").unwrap();
            },
            "it is of version 2.0, and none below 2.0.1 is taken",
        ),
    ];
    for (hinder, words) in cases {
        let (directory, mut keeper) = machine();
        hinder(&directory, &mut keeper);
        let failure = install(&mut keeper, Path::new("/x/new.raucb")).unwrap_err().to_string();
        assert!(failure.contains(words), "{failure}");
        assert_eq!(keeper.firmware().restarts, []);
        let told = told(&directory);
        assert_eq!((told["failed"].as_bool(), told["what"].as_str()), (Some(true), Some(failure.as_str())));
    }
}

#[test]
fn progress_is_read_and_other_lines_are_not() {
    assert_eq!(progress(" 40% Copying image"), Some((40, "Copying image")));
    for line in ["installing", "101% x", "a% b", ""] {
        assert_eq!(progress(line), None, "{line:?}");
    }
}
