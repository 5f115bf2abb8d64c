//! `GET /openapi.json`: the interface, for programs. The source is `openapi.json`; a test
//! compares its paths and methods with the routes. What the routes ask of callers is added.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::access::Need;
use super::body::{Body, response};
use super::fields::set;
use super::route::Route;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

pub fn openapi() -> Response<Body> {
    response(StatusCode::OK, "application/json", DOCUMENT.clone())
}

/// The source with this version, with what is asked of callers, and with the HEAD of each GET.
fn document() -> Value {
    let mut document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
    if let Some(version) = document.pointer_mut("/info/version") {
        *version = env!("CARGO_PKG_VERSION").into();
    }
    ask_for_keys(&mut document);
    for place in ["/paths", "/components/pathItems"] {
        let items = document.pointer_mut(place).and_then(Value::as_object_mut);
        for item in items.into_iter().flat_map(|items| items.values_mut()).filter_map(Value::as_object_mut) {
            // A GET that does something has no HEAD, which would do it, too.
            if item.remove("x-get-acts").is_some() {
                continue;
            }
            if let Some(get) = item.get("get") {
                let head = headless(get.clone());
                item.insert("head".into(), head);
            }
        }
    }
    document
}

/// Adds to each operation what it asks of callers.
fn ask_for_keys(document: &mut Value) {
    let paths = document.get("paths").and_then(Value::as_object);
    let place = |(path, item): (&String, &Value)| {
        let own = || format!("/paths/{}", path.replace('~', "~0").replace('/', "~1"));
        let shared = item.get("$ref").and_then(Value::as_str);
        (Route::of(path), shared.map_or_else(own, |shared| shared.trim_start_matches('#').to_owned()))
    };
    let places: Vec<_> = paths.into_iter().flatten().map(place).collect();
    for (route, place) in places {
        let Some(route) = route else { continue };
        let item = document.pointer_mut(&place).and_then(Value::as_object_mut);
        for (method, operation) in item.into_iter().flatten() {
            let method = method.to_uppercase().parse::<Method>().ok();
            if let Some(method) = method.filter(|method| route.methods().contains(method)) {
                ask_for_key(operation, route.need(&method));
            }
        }
    }
}

/// Adds how a request without the right key is answered, in the dialect of other errors. An
/// operation that is always open says so.
fn ask_for_key(operation: &mut Value, need: Need) {
    if need == Need::Nothing {
        return set(operation, "security", json!([]));
    }
    let Some(answers) = operation.get_mut("responses") else { return };
    let other = answers.pointer("/4XX/$ref").and_then(Value::as_str).map(str::to_owned);
    let answer = |what| match &other {
        Some(other) => json!({"$ref": format!("{other}{what}")}),
        None => json!({"description": "An error"}),
    };
    set(answers, "401", answer("Unauthorized"));
    if matches!(need, Need::Admin | Need::Owner) {
        set(answers, "403", answer("Forbidden"));
    }
}

/// The operation without bodies in its responses.
fn headless(mut operation: Value) -> Value {
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for answer in responses.into_iter().flat_map(|responses| responses.values_mut()) {
        if let Some(answer) = answer.as_object_mut() {
            if answer.remove("$ref").is_some() {
                answer.insert("description".into(), "An error".into());
            }
            answer.remove("content");
        }
    }
    operation
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The methods of each path in the document.
    pub fn paths() -> BTreeMap<String, BTreeSet<String>> {
        let document = document();
        let methods = |item: &Value| {
            let item = match item["$ref"].as_str() {
                Some(path) => document.pointer(path.trim_start_matches('#')).unwrap(),
                None => item,
            };
            let known = ["get", "head", "post", "put", "patch", "delete", "options"];
            let keys = item.as_object().unwrap().keys();
            keys.filter(|key| known.contains(&key.as_str())).map(|key| key.to_uppercase()).collect()
        };
        let paths = document["paths"].as_object().unwrap();
        paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value, seen: &mut BTreeSet<String>) {
            if let Some(path) = value.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(path.trim_start_matches('#')).is_some(), "{path}");
                seen.insert(path.to_owned());
            }
            match value {
                Value::Object(map) => map.values().for_each(|value| walk(value, document, seen)),
                Value::Array(list) => list.iter().for_each(|value| walk(value, document, seen)),
                _ => {}
            }
        }
        let (document, mut seen) = (document(), BTreeSet::new());
        walk(&document, &document, &mut seen);
        for (kind, parts) in document["components"].as_object().unwrap() {
            // Those are named by what they are.
            if kind == "securitySchemes" {
                continue;
            }
            for name in parts.as_object().unwrap().keys() {
                let path = format!("#/components/{kind}/{name}");
                // Pieces of streams stand in no body of their own.
                assert!(seen.contains(&path) || name == "ChatCompletionChunk", "nothing uses {path}");
            }
        }
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
