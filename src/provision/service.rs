//! The service's configuration: the image's, with the user's keys in it.

use std::path::Path;

use toml::{Table, Value};

use super::orders;
use super::understand::{CLOSED, overlay};
use crate::config::KeyHash;
use crate::packages::{self, Place};
use crate::slots::TOLD;

/// The user's sections that are the service's.
const SECTIONS: [&str; 9] =
    ["server", "access", "model", "defaults", "limits", "resident", "lights", "button", "log"];
/// Our runtime.
const RUNTIME: &str = "/usr/lib/llm8850/libaxcl_rt.so";
/// Where models are taken in: llm8850-models.socket.
const MODELS: &str = "/run/llm8850/models.sock";
/// The name of the key with which the appliance asks its own service.
const OWN: &str = "the appliance itself";

/// The configuration, and whether it asks for keys: `key` then gets the appliance in.
pub fn configuration(base: &Table, good: &Table, key: &str) -> (Table, bool) {
    let users: Table = good
        .iter()
        .filter(|(name, _)| SECTIONS.contains(&name.as_str()))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    let mut config = overlay(base, &users);
    let locked =
        config.get_mut("access").and_then(Value::as_table_mut).is_some_and(|access| lock(access, key));
    config.insert("appliance".into(), places().into());
    (config, locked)
}

/// For an image without the vendor's runtime: ours answers, on the CPU, and no card is looked for.
pub fn without_vendor(config: &mut Table) {
    let mut section = |name: &str, change: fn(&mut Table)| {
        let section = config.entry(name).or_insert_with(|| Table::new().into());
        if let Some(section) = section.as_table_mut() {
            change(section);
        }
    };
    section("worker", |worker| drop(worker.insert("runtime".into(), RUNTIME.into())));
    section("recovery", |recovery| drop(recovery.remove("helper")));
}

/// Has the small model in `dir` answer, on the CPU, when the card does not.
pub fn stand_in(config: &mut Table, dir: &Path) {
    let text = |path: &Path| Value::from(path.to_string_lossy().into_owned());
    let section = [("model_dir".to_owned(), text(dir)), ("runtime".to_owned(), text(Path::new(RUNTIME)))];
    config.insert("fallback".into(), Table::from_iter(section).into());
}

/// Whether the user says which packages the service knows beside the first.
pub fn says_which(users: &Table) -> bool {
    users.get("model").is_some_and(|model| model.get("others").is_some())
}

/// Has the service know all packages there are, where the user does not say which.
pub fn with_packages(config: &mut Table, place: &Place) {
    let stand_in = config.get("fallback").and_then(|fallback| fallback.get("model_dir")).cloned();
    let Some(model) = config.get_mut("model").and_then(Value::as_table_mut) else { return };
    if model.contains_key("others") {
        return;
    }
    let text = |key: &str| model.get(key).and_then(Value::as_str);
    let aliases = model.get("aliases").and_then(Value::as_array).into_iter().flatten();
    let taken: Vec<&str> = aliases.filter_map(Value::as_str).chain(text("name")).collect();
    let first = text("dir").and_then(|dir| dir.strip_prefix(packages::MODELS)?.strip_prefix('/'));
    let is_first = |name: &String| match first {
        Some(first) if packages::is_name(first) => first == name,
        _ => place.is_default(name),
    };
    let dir =
        |name: &String| Value::from(Path::new(packages::MODELS).join(name).to_string_lossy().into_owned());
    let free = |name: &&String| {
        place.is_described(name)
            && !is_first(name)
            && !taken.contains(&name.as_str())
            && stand_in.as_ref() != Some(&dir(name))
    };
    let other = |name: &String| Value::from(Table::from_iter([("dir".to_owned(), dir(name))]));
    let others: Vec<Value> = place.packages().iter().filter(free).map(other).collect();
    if !others.is_empty() {
        model.insert("others".into(), others.into());
    }
}

/// Where the service and the image's own programs meet.
fn places() -> Table {
    let text = |path: &Path| Value::from(path.to_string_lossy().into_owned());
    let told = Path::new("/").join(TOLD);
    Table::from_iter([
        ("dir".into(), text(&told)),
        ("orders".into(), text(&orders::place())),
        ("models".into(), MODELS.into()),
    ])
}

/// Adds the appliance's own key where there are others, or where nobody is to get in.
fn lock(access: &mut Table, key: &str) -> bool {
    let closed = access.remove(CLOSED).is_some();
    let keys = access.entry("key").or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(keys) = keys else { return false };
    let locked = closed || !keys.is_empty();
    if locked {
        let hash = KeyHash::of(key.as_bytes()).to_string();
        keys.push(
            Table::from_iter([("name".to_owned(), OWN.into()), ("sha256".to_owned(), hash.into())]).into(),
        );
    }
    if closed {
        access.entry("public_status").or_insert(false.into());
    }
    locked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const BASE: &str = "[server]\nlisten = ['0.0.0.0:8000']\n[model]\ndir = '/models/default'\n[recovery]\nstate_dir = '/x'\n";

    fn merged(good: &str) -> (Config, bool) {
        let (table, locked) =
            configuration(&toml::from_str(BASE).unwrap(), &toml::from_str(good).unwrap(), "sk-own");
        let (config, problems) = Config::parse(&toml::to_string(&table).unwrap(), Path::new("c"));
        assert_eq!(problems, []);
        (config, locked)
    }

    #[test]
    fn keys_of_the_user_go_before_the_images_and_others_stay() {
        let (config, locked) =
            merged("[model]\nname = 'wall'\n[host]\nname = 'x'\n[recovery]\nstate_dir = '/y'\n");
        assert_eq!(
            (config.model.dir.to_str(), config.model.name.as_deref()),
            (Some("/models/default"), Some("wall"))
        );
        assert_eq!(config.recovery.state_dir, Path::new("/x"), "not the user's to set");
        assert!(!locked && !config.access.locked());
        assert_eq!(config.appliance.orders, Path::new("/var/lib/llm8850/orders"));
        assert!(!merged("[access]\npublic_status = true\n").1);
    }

    #[test]
    fn without_the_vendors_runtime_no_card_is_looked_for() {
        let base = "[worker]\nruntime = '/usr/lib/axcl/libaxcl_rt.so'\n[recovery]\nhelper = '/h'\nstate_dir = '/x'\n";
        let mut table = toml::from_str(base).unwrap();
        without_vendor(&mut table);
        let (config, problems) = Config::parse(&toml::to_string(&table).unwrap(), Path::new("c"));
        assert_eq!(problems, []);
        assert_eq!(config.recovery.helper, Path::new(""));
        assert_eq!(config.recovery.state_dir, Path::new("/x"));
        let text = toml::to_string(&table).unwrap();
        assert!(text.contains("runtime = \"/usr/lib/llm8850/libaxcl_rt.so\""), "{text}");
    }

    #[test]
    fn with_a_key_the_appliance_has_one_too() {
        let entry = format!("[[access.key]]\nname = 'wall'\nsha256 = '{}'\n", KeyHash::of(b"sk-wall"));
        let (config, locked) = merged(&entry);
        assert!(locked);
        assert!(config.access.find(&KeyHash::of(b"sk-own")).is_some_and(|key| !key.admin));
        assert!(config.access.find(&KeyHash::of(b"sk-wall")).is_some());
    }

    #[test]
    fn what_is_closed_lets_nobody_else_in() {
        let (config, locked) = merged("[access]\nclosed = true\n");
        assert!(locked && config.access.locked() && !config.access.public_status());
        assert!(config.access.find(&KeyHash::of(b"")).is_none());
    }
}
