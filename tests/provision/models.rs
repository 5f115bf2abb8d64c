//! Models: what the real program makes of the partition, and of what the service sends.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::system::System;

const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = b"123456789";

pub fn manifest() -> Value {
    json!({"version": 1, "files": {
        "config.json": {"bytes": 2, "crc32": "a3a6bf43"}, "layer.axmodel": {"bytes": 9, "crc32": "cbf43926"},
    }})
}

fn asked(system: &System, request: &Value, body: &[u8]) -> Value {
    let (mut near, far) = UnixStream::pair().unwrap();
    let running = system.start("take-in", far);
    near.write_all(format!("{request}\n").as_bytes()).unwrap();
    near.write_all(body).unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    near.read_to_string(&mut answer).unwrap();
    running.ended();
    serde_json::from_str(&answer).unwrap()
}

fn sent(system: &System, model: &str) {
    let begun =
        asked(system, &json!({"verb": "begin", "model": model, "manifest": manifest().to_string()}), b"");
    assert_eq!(begun["incoming"]["files"][1]["received"], 0, "{begun}");
    for (path, bytes) in [("config.json", CONFIG), ("layer.axmodel", LAYER)] {
        let write = json!({"verb": "write", "model": model, "path": path, "offset": 0});
        assert_eq!(asked(system, &write, bytes)["received"]["received"], bytes.len(), "{path}");
    }
}

#[test]
fn a_model_is_taken_in_and_served_from_then_on() {
    let system = System::with_models();
    sent(&system, "wall");
    assert_eq!(asked(&system, &json!({"verb": "install", "model": "wall"}), b""), json!("done"));
    assert_eq!(system.json("models.json")["state"], "installed");
    assert_eq!(system.read("models/default/layer.axmodel").as_bytes(), LAYER);
    assert_eq!(system.mode("models/wall/layer.axmodel") & 0o044, 0o044, "the service reads it");
    assert_eq!(system.log(), ["systemctl try-restart llm8850.service"]);
    // Another one is none that is served.
    sent(&system, "floor");
    asked(&system, &json!({"verb": "install", "model": "floor"}), b"");
    assert_eq!(system.log().len(), 1);
    let list = asked(&system, &json!({"verb": "list"}), b"");
    assert_eq!(
        (&list["list"]["installed"], &list["list"]["default"]),
        (&json!(["floor", "wall"]), &json!("wall"))
    );
    let refused = asked(&system, &json!({"verb": "remove", "model": "wall"}), b"");
    assert_eq!(refused["refused"]["kind"], "invalid", "{refused}");
    assert_eq!(asked(&system, &json!({"verb": "remove", "model": "floor"}), b""), json!("done"));
}

#[test]
fn all_packages_are_known_to_the_service_from_the_next_start_on() {
    let system = System::with_models();
    for name in ["wall", "floor", "door"] {
        system.put(&format!("models/{name}/config.json"), "{}");
    }
    // Nobody knows how to load it.
    system.put("models/old/manifest.json", "{}");
    std::os::unix::fs::symlink("wall", system.path("models/default")).unwrap();
    let others = |file: &str| {
        system.put("setup/appliance.toml", file);
        system.provision("settings");
        assert_eq!(system.problems("settings"), [""; 0]);
        let config: toml::Table = toml::from_str(&system.read("run/llm8850-config/config.toml")).unwrap();
        let others = config["model"]["others"].as_array().unwrap();
        others.iter().map(|other| other["dir"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(others(""), ["/models/door", "/models/floor"]);
    assert_eq!(others("[model]\ndir = \"/models/floor\"\n"), ["/models/door", "/models/wall"]);
    assert_eq!(others("[model]\naliases = [\"door\"]\n"), ["/models/floor"]);
    assert_eq!(others("[[model.others]]\ndir = \"/models/old\"\n"), ["/models/old"]);
}

#[test]
fn what_is_chosen_is_served_and_what_is_removed_is_known_no_more() {
    let system = System::with_models();
    for name in ["wall", "floor", "door"] {
        system.put(&format!("models/{name}/config.json"), "{}");
    }
    std::os::unix::fs::symlink("wall", system.path("models/default")).unwrap();
    system.put("setup/appliance.toml", "[defaults]\nmax_tokens = 42\n");
    system.provision("settings");
    let known = || {
        let config: toml::Table = toml::from_str(&system.read("run/llm8850-config/config.toml")).unwrap();
        assert_eq!(config["defaults"]["max_tokens"].as_integer(), Some(42), "nothing else changes");
        let others =
            config["model"].get("others").and_then(|others| others.as_array().cloned()).unwrap_or_default();
        others.iter().map(|other| other["dir"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let restart = "systemctl try-restart llm8850.service";
    let choose = |name: &str| asked(&system, &json!({"verb": "choose", "model": name}), b"");
    assert_eq!(choose("floor"), json!("done"));
    assert_eq!(
        (known(), system.log()),
        (vec!["/models/door".into(), "/models/wall".into()], vec![restart.to_owned()])
    );
    assert_eq!(choose("floor"), json!("done"));
    assert_eq!(system.log().len(), 1, "it is served already");
    assert_eq!(system.read("models/default/config.json"), "{}");
    let remove = |name: &str| asked(&system, &json!({"verb": "remove", "model": name}), b"");
    assert_eq!(remove("wall"), json!("done"));
    assert_eq!((known(), system.log().len()), (vec!["/models/door".to_owned()], 2));
    assert!(!system.path("models/wall").exists());
    // What is sent besides is known from the next start on, whenever that is.
    sent(&system, "more");
    asked(&system, &json!({"verb": "install", "model": "more"}), b"");
    assert_eq!((known(), system.log().len()), (vec!["/models/door".into(), "/models/more".to_owned()], 2));
    // Where the user says which are known, removing another makes no difference.
    system.put(
        "setup/appliance.toml",
        "[defaults]\nmax_tokens = 42\n[[model.others]]\ndir = \"/models/more\"\n",
    );
    system.provision("settings");
    assert_eq!(remove("door"), json!("done"));
    assert_eq!((known(), system.log().len()), (vec!["/models/more".to_owned()], 2));
    assert_eq!(choose("none")["refused"]["kind"], "unknown");
}

#[test]
fn models_of_a_stick_are_taken_in_once() {
    let system = System::with_models();
    let put = |name: &str, layer: &[u8]| {
        system.put(&format!("stick/models/{name}/config.json"), CONFIG);
        system.put(&format!("stick/models/{name}/layer.axmodel"), layer);
        system.put(&format!("stick/models/{name}/manifest.json"), manifest().to_string());
    };
    put("wall", LAYER);
    system.put("stick/models/._wall", "of another system");
    system.put("stick/holiday.jpg", "x");
    system.stick();
    assert_eq!(system.json("models.json")["state"], "installed");
    assert_eq!(system.read("models/default/layer.axmodel").as_bytes(), LAYER);
    assert_eq!(system.log(), ["systemctl try-restart llm8850.service"]);
    system.stick();
    assert_eq!(system.log().len(), 1, "nothing is done again");

    put("damaged", b"123456780");
    put("short", b"1234");
    put("zz", LAYER);
    system.stick();
    let told = system.json("models.json");
    assert_eq!((&told["state"], &told["model"]), (&json!("failed"), &json!("short")), "{told}");
    assert!(told["why"].as_str().unwrap().contains("4 of 9 bytes"), "{told}");
    assert!(system.path("models/zz").exists() && !system.path("models/damaged").exists());
    // Put right, it goes on.
    for name in ["damaged", "short"] {
        put(name, LAYER);
    }
    system.stick();
    assert_eq!(system.json("models.json")["state"], "installed");
    assert!(system.path("models/damaged").exists() && system.path("models/short").exists());
}

#[test]
fn a_stick_cannot_have_anything_else_read() {
    let system = System::with_models();
    system.put("secret", "123456789");
    system.put("stick/models/wall/config.json", CONFIG);
    system.put("stick/models/wall/manifest.json", manifest().to_string());
    std::os::unix::fs::symlink(system.path("secret"), system.path("stick/models/wall/layer.axmodel"))
        .unwrap();
    system.stick();
    let told = system.json("models.json");
    assert!(told["why"].as_str().unwrap().contains("symbolic links"), "{told}");
    std::fs::remove_file(system.path("stick/models/wall/manifest.json")).unwrap();
    system.stick();
    let told = system.json("models.json");
    assert!(told["why"].as_str().unwrap().contains("send-model --manifest"), "{told}");
}

#[test]
fn what_is_no_request_is_told_so() {
    let system = System::with_models();
    for request in [json!({"verb": "format"}), json!(5), json!({"verb": "write", "model": "x"})] {
        let refused = asked(&system, &request, b"");
        assert!(refused["refused"]["message"].as_str().unwrap().starts_with("It is no request"), "{refused}");
    }
    let refused = asked(&system, &json!({"verb": "install", "model": "../models"}), b"");
    assert_eq!(refused["refused"]["kind"], "unknown", "{refused}");
}

#[test]
fn a_start_tidies_what_a_power_cut_left() {
    let system = System::with_models();
    sent(&system, "half");
    system.put("models/.incoming/old/layer.axmodel", "replaced");
    system.put("models/wall/config.json", "{}");
    system.provision("models");
    assert!(system.path("models/.incoming/half").exists() && !system.path("models/.incoming/old").exists());
    assert_eq!(std::fs::read_link(system.path("models/default")).unwrap().to_str(), Some("wall"));
    assert_eq!(system.problems("models"), [""; 0]);
    std::fs::remove_dir_all(system.path("models")).unwrap();
    system.provision("models");
    assert!(system.problems("models")[0].contains("models"), "{:?}", system.problems("models"));
}
