use super::*;
use crate::config::KeyHash;

fn of(text: &str) -> (Understood, Vec<String>) {
    after(text.as_bytes(), "")
}

fn after(bytes: &[u8], imported: &str) -> (Understood, Vec<String>) {
    let understood = understand(bytes, &toml::from_str(imported).unwrap(), Path::new("a"));
    let problems = understood.problems.iter().map(ToString::to_string).collect();
    (understood, problems)
}

#[test]
fn good_keys_hold_beside_wrong_ones() {
    let text = "[host]\nname = \"wall-7\"\ntimezone = 7\ncolour = \"red\"\n\
                [network]\naddress = \"10.0.0.5\"\ndns = [\"9.9.9.9\"]\n\
                [limits]\nqueue = 9999\nhold_s = 5\n[worker]\nruntime = \"x\"\n";
    let (understood, problems) = of(text);
    assert_eq!(
        toml::to_string(&understood.good).unwrap(),
        "[host]\nname = \"wall-7\"\n\n[limits]\nhold_s = 5\n\n[network]\ndns = [\"9.9.9.9\"]\n"
    );
    let expected = [
        ("a:3: host.timezone: ", "expected a string"),
        ("a:4: host.colour: ", "unknown field"),
        ("a:6: network.address: ", "such as \"192.168.1.50/24\""),
        ("a:9: limits.queue: is 9999: write 0 to 1000", ""),
        ("a:11: worker: is an unknown section", "sections are host, network, wifi, ssh, fallback, server"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (start, part)) in problems.iter().zip(expected) {
        assert!(problem.starts_with(start) && problem.contains(part), "{problem}");
    }
}

#[test]
fn every_kind_of_wrong_value_is_told_with_its_remedy() {
    for (text, told) in [
        ("[host]\nname = \"-x\"", "a:2: host.name: is no host name: write"),
        ("[host]\nname = \"\"", "a:2: host.name: is no host name"),
        ("[host]\nname = \"büro\"", "a:2: host.name: is no host name"),
        ("[host]\ntimezone = \"../etc/shadow\"", "a:2: host.timezone: is no time zone: write one such as"),
        ("[network]\naddress = \"127.0.0.1/8\"", "a:2: network.address: \"127.0.0.1/8\" is no address"),
        ("[network]\naddress = \"10.0.0.1/33\"", "a:2: network.address: "),
        ("[network]\ngateway = \"10.0.0.1\"", "a:2: network.gateway: is given without `address`"),
        (
            "[network]\naddress = \"fd00::2/64\"\ngateway = \"10.0.0.1\"",
            "a:3: network.gateway: is of another kind",
        ),
        ("[network]\nntp = [\"a b\"]", "a:2: network.ntp: has what is no server"),
        ("[wifi]\ncountry = \"de\"", "a:2: wifi.country: is no country"),
        ("[wifi]\nssid = \"\"", "a:2: wifi.ssid: is no name of a network"),
        ("[wifi]\nssid = \"x\"\npassword = \"short\"", "a:3: wifi.password: is no password of a Wi-Fi"),
        ("[wifi]\nssid = \"x\"\npassword = 12345678", "a:3: wifi.password: is no text: write it in quotes"),
        ("[wifi]\npassword = \"12345678\"", "a:2: wifi.password: is of no use without"),
        ("[ssh]\nauthorized_keys = [\"-----BEGIN\"]", "a:2: ssh.authorized_keys: has what is no public key"),
        ("[[access.key]]\nname = \"x\"\nsecret = 5", "a:1: access.key: has a `secret` that is no text"),
        (
            "[[access.key]]\nname = \"x\"\nsecret = \"\"",
            "a:3: access.key: is empty: write it, or leave it out",
        ),
        ("host = 5", "a:1: host: is of type integer: write a section `[host]`"),
        ("stray = 5", "a:1: stray: is an unknown key outside the sections"),
    ] {
        let (understood, problems) = of(text);
        assert!(problems.iter().any(|problem| problem.starts_with(told)), "{text}: {problems:?}");
        assert!(!problems.concat().contains("12345678"), "a secret is told: {problems:?}");
        assert!(understood.whole);
    }
}

#[test]
fn a_wrong_password_leaves_no_open_network() {
    let understood = of("[wifi]\nssid = \"x\"\npassword = \"short\"\n").0;
    assert!(section::<Wifi>(&understood.good) == Wifi::default());
}

#[test]
fn keys_become_hashes_and_leave_the_file() {
    let text =
        "[wifi]\nssid = \"x\"\npassword = \"12345678\"\n[[access.key]]\nname = \"wall\"\nsecret = \"sk-1\"\n";
    let (first, problems) = of(text);
    assert_eq!(problems, [""; 0]);
    let cleared = first.cleared.unwrap();
    let shown = String::from_utf8(cleared.clone()).unwrap();
    assert!(!shown.contains("12345678") && !shown.contains("sk-1"), "{shown}");
    let imported = toml::to_string(&first.good).unwrap();
    assert!(
        imported.contains(&KeyHash::of(b"sk-1").to_string()) && !imported.contains("sk-1\""),
        "{imported}"
    );
    let (again, problems) = after(&cleared, &imported);
    assert_eq!((again.good, again.cleared, problems), (first.good, None, vec![]));
}

#[test]
fn a_secret_that_was_lost_opens_nothing() {
    let text = "[wifi]\nssid = \"x\"\npassword = \"kept in the appliance\"\n\
                [[access.key]]\nname = \"wall\"\nsecret = \"kept in the appliance\"\n";
    let (understood, problems) = of(text);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.contains("write it again")));
    assert!(section::<Wifi>(&understood.good) == Wifi::default(), "no open network in its place");
    assert_eq!(understood.good["access"].get(CLOSED), Some(&true.into()));
}

#[test]
fn a_file_that_is_no_toml_throughout_takes_nothing_away() {
    let imported =
        "[host]\nname = \"old\"\ntimezone = \"UTC\"\n[wifi]\nssid = \"x\"\npassword = \"12345678\"\n";
    let (understood, problems) = after(b"[host]\nname = \"new\"\n[wifi\nssid = \"y\"\n", imported);
    assert!(!understood.whole && !problems.is_empty());
    let both = overlay(&toml::from_str(imported).unwrap(), &understood.good);
    assert_eq!(both["host"]["name"].as_str(), Some("new"));
    assert_eq!(both["wifi"]["password"].as_str(), Some("12345678"));
    let (lost, _) = after(b"[[access.key\nname = \"x\"\nsecret = \"sk\"\n", "");
    assert_eq!(lost.good["access"].get(CLOSED), Some(&true.into()), "somebody meant to ask for keys");
}

#[test]
fn duplicates_and_other_broken_toml_are_told_with_their_line() {
    for (text, line) in [
        ("[host]\nname = \"a\"\nname = \"b\"\n", 3),
        ("[host]\n[host]\n", 2),
        ("[host]\nname = wall\n", 2),
        ("[host]\nname \"wall\"\n", 2),
        ("[host]\nname = \"wall\n", 2),
        ("= 5\n", 1),
    ] {
        let (understood, problems) = of(text);
        assert!(!understood.whole, "{text}");
        assert!(problems.iter().any(|p| p.starts_with(&format!("a:{line}: "))), "{text}: {problems:?}");
    }
}

#[test]
fn editors_marks_and_encodings_cost_no_more_than_their_line() {
    let text = b"\xef\xbb\xbf[wifi]\r\n# B\xfcro\r\nssid = \"x\"\r\npassword = \"12345678\"\r\n[host]\r\nname = \"\xfc\"\r\n";
    let (understood, problems) = after(text, "");
    assert_eq!(problems, ["a:6: is no UTF-8, and left out: save the file as UTF-8"]);
    assert_eq!(understood.good["wifi"]["ssid"].as_str(), Some("x"));
    let cleared = understood.cleared.unwrap();
    assert!(cleared.starts_with(b"\xef\xbb\xbf[wifi]\r\n# B\xfcro\r\n"), "the rest stays, byte for byte");
    assert!(cleared.ends_with(b"name = \"\xfc\"\r\n"));
    for hopeless in [&b"\xff\xfe[\0"[..], &[b'x'; text::LONGEST + 1]] {
        let (understood, problems) = after(hopeless, "");
        assert!(problems.len() == 1 && understood.good.is_empty() && !understood.whole);
    }
}

#[test]
fn a_mistake_in_one_key_takes_no_other_along() {
    let good = KeyHash::of(b"sk-1");
    let text = format!(
        "[access]\npublic_status = false\n[[access.key]]\nname = \"a\"\nsha256 = \"{good}\"\n[[access.key]]\nname = \"b\"\nsha256 = \"5\"\n"
    );
    let (understood, problems) = of(&text);
    assert_eq!(problems.len(), 1);
    assert_eq!(understood.good["access"]["key"].as_array().unwrap().len(), 1);
    assert_eq!(understood.good["access"]["public_status"].as_bool(), Some(false));
}

#[test]
fn no_bytes_make_it_fail() {
    proptest::proptest!(|(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300))| {
        understand(&bytes, &Table::new(), Path::new("a"));
    });
    let words = proptest::sample::select(vec![
        "[",
        "]",
        "[[access.key]]",
        "\n",
        "=",
        "\"",
        "wifi",
        ".",
        "secret",
        "password",
        "'''",
        "{",
        "}",
        "5",
        "#",
        "ü",
    ]);
    proptest::proptest!(|(parts in proptest::collection::vec(words, 0..40))| {
        understand(parts.concat().as_bytes(), &Table::new(), Path::new("a"));
    });
}
