use std::path::Path;

use super::*;
use crate::config::Config;

const SECRET: &str = "sk-not-so-long";

fn read(text: &str) -> (Access, Vec<String>) {
    let text = text.replace("HASH", &KeyHash::of(SECRET.as_bytes()).to_string());
    let (config, problems) = Config::parse(&text, Path::new("c.toml"));
    (config.access, problems.iter().map(ToString::to_string).collect())
}

fn finds(access: &Access, key: &str) -> bool {
    access.find(&KeyHash::of(key.as_bytes())).is_some()
}

#[test]
fn without_a_key_everybody_may_ask() {
    for text in ["", "[access]", "[access]\npublic_status = false", "[access]\nkey = []"] {
        let (access, problems) = read(text);
        assert!(!access.locked() && problems.is_empty(), "{text}: {problems:?}");
    }
}

#[test]
fn a_key_is_known_by_its_hash() {
    let (access, problems) = read(
        r#"
        [[access.key]]
        name = "wall"
        sha256 = "HASH"
        priority = "low"
        deadline_ms = 8000
        requests = 2
        max_tokens = 60
        spoken_fallback = "One moment."
        [[access.key]]
        name = "technician"
        sha256 = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"
        admin = true
        "#,
    );
    assert_eq!(problems, Vec::<String>::new());
    assert!(access.locked() && !access.broken() && access.public_status());
    let wall = access.find(&KeyHash::of(SECRET.as_bytes())).unwrap();
    assert_eq!((wall.name.as_str(), wall.admin, wall.deadline_ms()), ("wall", false, Some(8000)));
    assert_eq!((wall.priority, wall.requests, wall.max_tokens), (Some(Priority::Low), Some(2), Some(60)));
    // The hash that the standard gives for "abc".
    let technician = access.find(&KeyHash::of(b"abc")).unwrap();
    assert_eq!(
        (technician.name.as_str(), technician.admin, technician.deadline_ms()),
        ("technician", true, None)
    );
    for other in ["", "sk-not-so-lonf", "sk-not-so-long "] {
        assert!(!finds(&access, other), "{other:?}");
    }
}

#[test]
fn a_hash_is_written_as_it_is_read_and_never_shown_by_the_way() {
    let hash = KeyHash::of(b"abc");
    assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(KeyHash::try_from(hash.to_string()), Ok(hash.clone()));
    assert_eq!(format!("{hash:?}"), "(hidden)");
    let (access, _) = read("[[access.key]]\nname = \"a\"\nsha256 = \"HASH\"");
    assert!(!format!("{access:?}").contains(&KeyHash::of(SECRET.as_bytes()).to_string()[..8]));
}

#[test]
fn a_mistake_in_one_entry_leaves_the_others_in_force_and_lets_nobody_in() {
    let good = "[[access.key]]\nname = \"good\"\nsha256 = \"HASH\"\n";
    for (entry, words) in [
        ("name = \"bad\"", "missing field `sha256`"),
        ("name = \"bad\"\nsha256 = \"sk-in-the-wrong-place\"", "64 hexadecimal digits"),
        (
            "name = \"bad\"\nsha256 = \"+a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"",
            "64",
        ),
        (
            "name = \"bad\"\nsha256 = \"ä7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"",
            "64",
        ),
        ("name = \"bad\"\nsha256 = 5", "expected a string"),
        ("name = \" \"\nsha256 = \"OTHER\"", "usable `name`"),
        ("name = \"bad\"\nsha256 = \"OTHER\"\nadmn = true", "unknown field `admn`"),
        ("name = \"bad\"\nsha256 = \"OTHER\"\nadmin = 1", "expected a boolean"),
        ("name = \"bad\"\nsha256 = \"OTHER\"\npriority = \"urgent\"", "`high`"),
        ("name = \"bad\"\nsha256 = \"OTHER\"\nrequests = 0", "`requests`"),
        ("name = \"bad\"\nsha256 = \"OTHER\"\nmax_tokens = 0", "`max_tokens`"),
        ("name = \"bad\"\nsha256 = \"OTHER\"\ndeadline_ms = 86400001", "`deadline_ms`"),
        ("name = \"bad\"\nsha256 = \"OTHER\"\nspoken_fallback = \"\"", "`spoken_fallback`"),
        ("name = \"good\"\nsha256 = \"OTHER\"", "name of another"),
        ("name = \"bad\"\nsha256 = \"HASH\"", "same key as `good`"),
    ] {
        let entry = entry.replace("OTHER", &KeyHash::of(b"other").to_string());
        let (access, problems) = read(&format!("{good}[[access.key]]\n{entry}"));
        assert_eq!(problems.len(), 1, "{entry}: {problems:?}");
        assert!(problems[0].contains("access.key: number 2") && problems[0].contains(words), "{problems:?}");
        assert!(!problems[0].contains("wrong-place"), "a key stands in the problem: {problems:?}");
        assert!(finds(&access, SECRET) && !finds(&access, "other"), "{entry}");
        // Alone it closes.
        let (access, _) = read(&format!(
            "[[access.key]]\nname = \"good\"\nsha256 = \"no\"\n[[access.key]]\n{}",
            entry.replace("HASH", "no")
        ));
        assert!(access.locked(), "{entry}");
    }
}

#[test]
fn a_mistake_anywhere_never_opens_what_was_meant_to_be_closed() {
    let hash = "sha256 = \"HASH\"";
    for text in [
        "access = 3".to_owned(),
        "access = [1]".to_owned(),
        "[[access]]\nname = \"a\"".to_owned(),
        "[access]\nkey = \"sk-plain\"".to_owned(),
        "[access]\nkeys = []".to_owned(),
        format!("[access.key]\nname = \"a\"\n{hash}"),
        format!("[[access.keys]]\nname = \"a\"\n{hash}"),
        format!("[[acces.key]]\nname = \"a\"\n{hash}"),
        format!("[[server.key]]\nname = \"a\"\n{hash}"),
        format!("[[access.key]\nname = \"a\"\n{hash}"),
        format!("[[access.key]]\nname = \"a\n{hash}"),
        format!("[log]\nlevel = \n[[ access . key ]]\nname = a\n{hash}"),
    ] {
        let (access, problems) = read(&text);
        assert!(!problems.is_empty(), "{text}");
        assert!(access.locked(), "{text}: {problems:?}");
        assert!(!problems.concat().contains("sk-plain"), "a key stands in the problem: {problems:?}");
    }
}

#[test]
fn other_mistakes_close_nothing() {
    for text in
        ["[limits]\nqueue = 3000", "[limits\nqueue = 3", "# [access]\n[limits]\nqueue = \n", "acess = 1"]
    {
        let (access, problems) = read(text);
        assert!(!problems.is_empty() && !access.locked(), "{text}");
    }
}

#[test]
fn a_public_status_is_closed_by_a_mistake_unless_it_is_asked_for() {
    let key = "[[access.key]]\nname = \"a\"\nsha256 = \"HASH\"\n";
    for (text, public) in [
        (key.to_owned(), true),
        (format!("[access]\npublic_status = false\n{key}"), false),
        (format!("[access]\npublic_status = \"no\"\n{key}"), false),
        (format!("[access]\npublic_staus = false\n{key}"), false),
        (format!("[access]\npublic_status = true\n{key}[[access.key]]\n"), true),
        (format!("{key}[limits]\nqueue = \n"), false),
        (format!("{key}[limits]\nqueue = 3000\n"), true),
    ] {
        let (access, problems) = read(&text);
        assert_eq!(access.public_status(), public, "{text}: {problems:?}");
        assert!(finds(&access, SECRET), "{text}");
    }
}

#[test]
fn a_file_that_is_there_but_cannot_be_read_closes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    assert!(!Config::load(&path).0.access.locked(), "nothing asks for keys");
    std::fs::write(&path, b"[[access.key]]\nname = \"\xff\"").unwrap();
    assert!(Config::load(&path).0.access.broken());
}
