use super::*;
use crate::packages::tests::{FILES, NEWER, Scene};

/// How many steps installing has.
fn steps(scene: &Scene) -> usize {
    let mut steps = 0;
    scene
        .place
        .install("wall", &mut |_| {
            steps += 1;
            Ok(())
        })
        .unwrap();
    steps
}

/// Ends it after so many steps, as a power cut does; then the appliance starts.
fn cut(scene: &Scene, after: usize) {
    let mut steps = 0;
    let ended = scene.place.install("wall", &mut |_| {
        steps += 1;
        if steps > after { Err(Refusal::new(Kind::Failed, "power cut")) } else { Ok(()) }
    });
    assert_eq!(ended.unwrap_err().message, "power cut");
    scene.place.tidy().unwrap();
}

#[test]
fn whenever_the_power_is_cut_the_old_package_or_the_new_one_is_there_whole() {
    for old in [None, Some(&FILES[..])] {
        let prepared = || {
            let scene = Scene::new();
            if let Some(files) = old {
                scene.sent("wall", files);
                scene.place.install("wall", &mut |_| Ok(())).unwrap();
            }
            scene.sent("wall", &NEWER);
            scene
        };
        let all = steps(&prepared());
        assert!(all > NEWER.len() + 2, "{all}");
        let mut seen = Vec::new();
        for after in 0..all {
            let scene = prepared();
            cut(&scene, after);
            let found = scene.installed("wall");
            let newer = found.as_deref() == Some(&NEWER[..]);
            assert!(newer || found.as_deref() == old, "after {after}: {found:?}");
            if newer {
                assert_eq!(scene.found(), ["default", "wall"], "after {after}");
                assert!(scene.place.is_default("wall"), "after {after}");
            } else {
                // What had arrived is still there.
                scene.place.install("wall", &mut |_| Ok(())).unwrap();
                assert!(scene.place.is_default("wall"), "after {after}");
                assert_eq!(scene.installed("wall").as_deref(), Some(&NEWER[..]));
                assert_eq!(scene.found(), ["default", "wall"], "after {after}");
            }
            seen.push(newer);
        }
        seen.dedup();
        assert_eq!(seen, [false, true], "both were seen");
    }
}

#[test]
fn damage_is_named_and_only_what_is_damaged_is_sent_again() {
    let scene = Scene::new();
    scene.sent("wall", &FILES);
    let place = scene.place.staging("wall").join(FILES[1].0);
    let mut bytes = fs::read(&place).unwrap();
    bytes[0] ^= 1;
    fs::write(&place, bytes).unwrap();
    let refusal = scene.place.install("wall", &mut |_| Ok(())).unwrap_err();
    assert_eq!(refusal.kind, Kind::Incomplete);
    assert!(refusal.message.contains(FILES[1].0), "{}", refusal.message);
    assert_eq!(scene.installed("wall"), None);
    let left: Vec<_> = scene.place.look("wall").unwrap().files;
    assert!(
        left.iter().all(|piece| (piece.received != piece.bytes) == (piece.path == FILES[1].0)),
        "{left:?}"
    );
    scene.sent("wall", &FILES);
    scene.place.install("wall", &mut |_| Ok(())).unwrap();
    assert_eq!(scene.installed("wall").as_deref(), Some(&FILES[..]));
}

#[test]
fn the_first_package_is_served_and_others_can_be_removed() {
    let scene = Scene::new();
    for (name, first) in [("wall", true), ("floor", false)] {
        scene.sent(name, &FILES);
        scene.place.install(name, &mut |_| Ok(())).unwrap();
        assert_eq!(scene.place.is_default(name), first, "{name}");
    }
    assert_eq!(fs::read_link(scene.place.package(DEFAULT)).unwrap(), Path::new("wall"));
    let list = scene.place.list();
    assert_eq!((list.installed, list.default), (vec!["floor".into(), "wall".into()], Some("wall".into())));
    assert_eq!(scene.place.remove("wall", || {}).unwrap_err().kind, Kind::Invalid);
    scene.place.remove("floor", || {}).unwrap();
    assert_eq!(scene.found(), ["default", "wall"]);
    // One that nobody knows how to load is not served by itself.
    let scene = Scene::new();
    scene.sent("old", &FILES[1..]);
    scene.place.install("old", &mut |_| Ok(())).unwrap();
    assert!(!scene.place.is_default("old"));
}

#[test]
fn another_package_can_be_chosen_and_then_the_first_be_removed() {
    let scene = Scene::new();
    for name in ["wall", "floor"] {
        scene.sent(name, &FILES);
        scene.place.install(name, &mut |_| Ok(())).unwrap();
    }
    scene.place.choose("floor").unwrap();
    scene.place.choose("floor").unwrap();
    assert!(scene.place.is_default("floor") && !scene.place.is_default("wall"));
    let sizes = scene.place.list().sizes;
    assert!(sizes["wall"] > 11 && sizes["wall"] == sizes["floor"], "{sizes:?}");
    let mut before = Vec::new();
    scene.place.remove("wall", || before = scene.found()).unwrap();
    assert_eq!(before, ["default", "floor", "wall"], "its room is not free yet");
    assert_eq!(scene.found(), ["default", "floor"]);
    for (name, kind) in [("wall", Kind::Unknown), ("default", Kind::Unknown), ("../models", Kind::Unknown)] {
        assert_eq!(scene.place.choose(name).unwrap_err().kind, kind, "{name}");
    }
    // One that nobody knows how to load; and a package in the link's place.
    scene.sent("old", &FILES[1..]);
    scene.place.install("old", &mut |_| Ok(())).unwrap();
    assert!(scene.place.choose("old").unwrap_err().message.contains("config.json"));
    fs::remove_file(scene.place.package(DEFAULT)).unwrap();
    fs::rename(scene.place.package("old"), scene.place.package(DEFAULT)).unwrap();
    assert!(scene.place.choose("floor").unwrap_err().message.contains("no link"));
    assert!(!scene.place.is_default("floor"));
}

#[test]
fn what_a_cut_left_is_tidied_and_what_arrives_stays() {
    let scene = Scene::new();
    scene.place.begin("wall", &crate::packages::tests::manifest(&FILES)).unwrap();
    // A package that was replaced, a link that was not yet renamed, a beginning without a manifest.
    fs::create_dir_all(scene.place.staging("old/deep")).unwrap();
    symlink("gone", scene.place.staging(DEFAULT)).unwrap();
    fs::create_dir(scene.place.staging("begun")).unwrap();
    fs::write(scene.place.staging("begun").join(MARK), "").unwrap();
    symlink("gone", scene.place.package(DEFAULT)).unwrap();
    scene.place.tidy().unwrap();
    assert_eq!(names(&scene.place.directory.join(INCOMING)), ["wall"]);
}
