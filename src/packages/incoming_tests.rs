use super::*;
use crate::packages::tests::{FILES, Scene, manifest};

#[test]
fn a_package_arrives_in_pieces_and_goes_on_after_a_break() {
    let scene = Scene::new();
    let begun = scene.place.begin("wall", &manifest(&FILES)).unwrap();
    assert!(begun.files.iter().all(|piece| piece.received == 0) && !begun.installed);
    let (path, bytes) = FILES[1];
    let (half, rest) = bytes.split_at(3);
    let piece = scene.place.write("wall", path, 0, &mut &half[..]).unwrap();
    assert_eq!((piece.received, piece.bytes), (3, bytes.len() as u64));
    let refusal = scene.place.write("wall", path, 0, &mut &bytes[..]).unwrap_err();
    assert_eq!(refusal.kind, Kind::Offset);
    assert!(refusal.message.starts_with("3 bytes of"), "{}", refusal.message);
    // The same manifest once more: what has arrived stays.
    scene.place.begin("wall", &manifest(&FILES)).unwrap();
    assert_eq!(scene.place.complete("wall").unwrap_err().kind, Kind::Incomplete);
    scene.place.write("wall", path, 3, &mut &rest[..]).unwrap();
    assert_eq!(fs::read(scene.place.staging("wall").join(path)).unwrap(), bytes);
    // Another manifest: it does not.
    scene.place.begin("wall", &manifest(&FILES[..2])).unwrap();
    assert!(scene.place.look("wall").unwrap().files.iter().all(|piece| piece.received == 0));
    assert_eq!(scene.place.list().incoming, ["wall"]);
    scene.place.discard("wall").unwrap();
    assert_eq!(scene.place.look("wall").unwrap_err().kind, Kind::Unknown);
    assert_eq!(scene.found(), [""; 0]);
}

#[test]
fn of_a_source_that_fails_what_came_before_stays() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let scene = Scene::new();
    scene.place.begin("wall", &manifest(&FILES)).unwrap();
    let mut source = (&b"123"[..]).chain(Broken);
    let refusal = scene.place.write("wall", FILES[1].0, 0, &mut source).unwrap_err();
    assert!(refusal.message.contains("gone"), "{}", refusal.message);
    assert_eq!(scene.place.look("wall").unwrap().files[1].received, 3);
}

#[test]
fn nothing_but_what_the_manifest_lists_is_taken() {
    let scene = Scene::new();
    scene.place.begin("wall", &manifest(&FILES)).unwrap();
    for path in ["other", "../wall/config.json", "/etc/passwd", MARK, MANIFEST_FILE, "", "deep"] {
        let refusal = scene.place.write("wall", path, 0, &mut &b"x"[..]).unwrap_err();
        assert_eq!(refusal.kind, Kind::Unknown, "{path}");
    }
    let refusal = scene.place.write("none", "config.json", 0, &mut &b"x"[..]).unwrap_err();
    assert_eq!(refusal.kind, Kind::Unknown);
    let (path, bytes) = FILES[0];
    let more = [bytes, &b"more"[..]].concat();
    let refusal = scene.place.write("wall", path, 0, &mut &more[..]).unwrap_err();
    assert!(refusal.message.contains("more were sent"), "{}", refusal.message);
    assert_eq!(scene.place.look("wall").unwrap().files[0].received, bytes.len() as u64);
}

#[test]
fn names_and_manifests_that_would_do_harm_are_refused() {
    let scene = Scene::new();
    for name in ["", ".", "..", "a/b", ".incoming", "default", "lost+found", "ä", &"x".repeat(65)] {
        assert_eq!(scene.place.begin(name, &manifest(&FILES)).unwrap_err().kind, Kind::Invalid, "{name}");
        assert_eq!(scene.place.discard(name).unwrap_err().kind, Kind::Unknown, "{name}");
        assert_eq!(scene.place.remove(name, || {}).unwrap_err().kind, Kind::Unknown, "{name}");
    }
    let listing = |path: &'static str| manifest(&[(path, &b"x"[..])]);
    for text in [
        listing("../x"),
        listing("/x"),
        listing(MARK),
        listing(MANIFEST_FILE),
        listing("manifest.json/"),
        listing("a/./b"),
        listing("a//b"),
        manifest(&[]),
        "{}".into(),
        format!("{}{}", manifest(&FILES), " ".repeat(LONGEST_MANIFEST)),
    ] {
        let refusal = scene.place.begin("wall", &text).unwrap_err();
        assert!(refusal.message.starts_with("The manifest is wrong: "), "{}", refusal.message);
    }
    assert!(scene.place.begin("wall", &manifest(&[("a", b"x"), ("a/b", b"x")])).is_err());
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_sent() {
    let scene = Scene::new();
    scene.place.begin("other", &manifest(&FILES)).unwrap();
    for bytes in [scene.place.free(), u64::MAX] {
        let text = format!(r#"{{"version":1,"files":{{"big":{{"bytes":{bytes},"crc32":"00000000"}}}}}}"#);
        let refusal = scene.place.begin("wall", &text).unwrap_err();
        assert_eq!(refusal.kind, Kind::NoRoom);
        assert!(refusal.message.ends_with("or what arrived of other."), "{}", refusal.message);
    }
    assert_eq!(scene.place.list().incoming, ["other"]);
}
