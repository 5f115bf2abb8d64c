use super::*;

const SUM: &str = "15E2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";

fn base() -> Address {
    Uri::parse("https://example.org/models/catalogue.json?of=wall".to_owned()).unwrap()
}

fn file(change: Value) -> Value {
    let mut file = json!({"path": "deep/a.bin", "bytes": 9, "crc32": "cbf43926", "sha256": SUM, "url": "wall/deep/a.bin"});
    for (key, value) in change.as_object().unwrap() {
        file[key] = value.clone();
    }
    file
}

fn listed(name: &str, files: &[Value]) -> Result<Package> {
    let package = json!({"name": name, "description": "for a person", "files": files, "later": 1});
    let text = json!({"version": 1, "packages": [package]}).to_string();
    Catalogue::parse(text.as_bytes(), &base()).unwrap().package(name)
}

#[test]
fn a_package_has_a_manifest_and_addresses() {
    let package = listed("wall", &[file(json!({}))]).unwrap();
    let origin = &package.files["deep/a.bin"];
    assert_eq!(origin.address.as_str(), "https://example.org/models/wall/deep/a.bin");
    assert_eq!(origin.sha256, SUM.to_lowercase());
    let manifest = read(&package.manifest).unwrap();
    assert_eq!(manifest.lengths().collect::<Vec<_>>(), [("deep/a.bin", 9)]);
    for (url, address) in [
        ("../x", "https://example.org/x"),
        ("/x?y", "https://example.org/x?y"),
        ("//other.org/x", "https://other.org/x"),
        ("HTTPS://other.org:1/x", "HTTPS://other.org:1/x"),
    ] {
        let package = listed("wall", &[file(json!({"url": url}))]).unwrap();
        assert_eq!(package.files["deep/a.bin"].address.as_str(), address);
    }
}

#[test]
fn what_could_do_harm_is_refused_and_named() {
    for (change, told) in [
        (json!({"path": "../a"}), "leads out"),
        (json!({"path": "/a"}), "leads out"),
        (json!({"path": ""}), "leads out"),
        (json!({"path": "manifest.json"}), "must not list"),
        (json!({"path": ".incoming"}), "must not list"),
        (json!({"path": "a//b"}), "must not list"),
        (json!({"bytes": u64::MAX}), "is the most"),
        (json!({"crc32": "x"}), "crc32"),
        (json!({"sha256": "00"}), "sha256"),
        (json!({"url": "http://example.org/a"}), "leads from https to http"),
        (json!({"url": "file:///etc/passwd"}), "leads from https to file"),
        (json!({"url": "https://user:word@example.org/a"}), "is no address"),
        (json!({"url": "https:///a"}), "is no address"),
        (json!({"url": "a b"}), "is no address"),
    ] {
        let refusal = listed("wall", &[file(change)]).unwrap_err();
        assert_eq!(refusal.kind, Kind::Catalogue);
        assert!(
            refusal.message.contains(told) && refusal.message.contains("\"wall\""),
            "{}",
            refusal.message
        );
    }
    for (name, files, told) in [
        ("wall", vec![], "lists no file"),
        ("wall", vec![file(json!({})), file(json!({}))], "listed twice"),
        ("../wall", vec![file(json!({}))], "cannot be called so"),
        ("default", vec![file(json!({}))], "cannot be called so"),
    ] {
        let refusal = listed(name, &files).unwrap_err();
        assert!(refusal.message.contains(told), "{}", refusal.message);
    }
    let many: Vec<Value> = (0..400).map(|n| file(json!({"path": n.to_string()}))).collect();
    assert!(listed("wall", &many).unwrap_err().message.contains("longer than"), "what root does not read");
}

#[test]
fn other_versions_and_names_are_told_with_what_there_is() {
    let parse = |text: &str| Catalogue::parse(text.as_bytes(), &base());
    let refusal = parse(r#"{"version": 2, "models": {}}"#).unwrap_err();
    assert!(refusal.message.contains("version 2") && refusal.message.contains("knows version 1"));
    for text in ["", "[]", "<html>", r#"{"packages": []}"#, r#"{"version": 1}"#, r#"{"version": -1}"#] {
        let refusal = parse(text).unwrap_err();
        assert!(refusal.message.contains("is no catalogue"), "{}", refusal.message);
    }
    let entry = |name: &str| json!({"name": name, "files": []});
    let text =
        json!({"version": 1, "packages": [entry("wall"), entry("floor"), entry("\u{1b}[2J")]}).to_string();
    let refusal = parse(&text).unwrap().package("door").unwrap_err();
    assert_eq!(refusal.kind, Kind::Unknown);
    assert!(refusal.message.ends_with("it has wall, floor and others."), "{}", refusal.message);
    let text = json!({"version": 1, "packages": [entry("wall"), entry("wall")]}).to_string();
    assert!(parse(&text).unwrap().package("wall").unwrap_err().message.contains("listed twice"));
    let refusal = parse(r#"{"version": 1, "packages": []}"#).unwrap().package("wall").unwrap_err();
    assert!(refusal.message.ends_with("nor any other."), "{}", refusal.message);
}
