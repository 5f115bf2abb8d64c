use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::LARGEST;
use crate::http::access::tests::{TECHNICIAN, WALL, bearer, call, keys};
use crate::http::tests::client::{json as body, send};
use crate::http::tests::{Stage, on_stage};
use crate::service::Settings;

const UPDATE: &str = "/v1/update";
const RESET: &str = "/v1/factory-reset";

/// An appliance of the image, whose programs have told of slots.
fn image(own: &Path) -> impl FnOnce(&mut Settings) {
    std::fs::create_dir(own.join("orders")).unwrap();
    std::fs::write(own.join("slots.json"), r#"{"running": "a"}"#).unwrap();
    let own = own.to_owned();
    move |settings| {
        keys("", "")(settings);
        settings.appliance.orders = own.join("orders");
        settings.appliance.dir = own;
    }
}

/// What stands in the directory beside slots.json, and in orders.
fn found(own: &Path) -> Vec<String> {
    let names = |path: &Path| -> Vec<String> {
        let each = std::fs::read_dir(path).unwrap();
        each.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let mut all = [names(own), names(&own.join("orders"))].concat();
    all.retain(|name| !matches!(name.as_str(), "slots.json" | "orders"));
    all.sort();
    all
}

async fn upload(stage: &Stage, key: &str, bundle: &'static [u8]) -> (u16, Value) {
    let (name, value) = bearer(key);
    let request = Request::post(UPDATE).header("host", "test").header(name, value);
    let response = send(stage.address, request.body(Full::<Bytes>::from(bundle)).unwrap()).await.unwrap();
    (response.status().as_u16(), body(response).await)
}

async fn ordered(stage: &Stage, key: &str, asked: &Value) -> (u16, Value) {
    let response = call(stage, "POST", RESET, &[bearer(key)], asked).await;
    (response.status().as_u16(), body(response).await)
}

#[test]
fn an_update_is_kept_whole_and_ordered() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        let told = call(&stage, "GET", UPDATE, &[], &json!({})).await;
        assert_eq!(body(told).await, json!({"running": "a"}));
        let (status, answer) = upload(&stage, TECHNICIAN, b"signed by somebody").await;
        assert_eq!((status, answer), (202, json!({"ordered": "install-bundle", "bytes": 18})));
        assert_eq!(found(own.path()), ["install-bundle", "update.raucb"]);
        let order = std::fs::read_to_string(own.path().join("orders/install-bundle")).unwrap();
        assert_eq!(Path::new(&order), own.path().join("update.raucb"));
        assert_eq!(std::fs::read(order).unwrap(), b"signed by somebody");
        assert_eq!(upload(&stage, TECHNICIAN, b"").await.0, 400);
    });
}

#[test]
fn a_reset_is_ordered_with_models_or_without() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        assert_eq!(ordered(&stage, TECHNICIAN, &json!({"models": 1})).await.0, 400);
        assert_eq!(found(own.path()), [""; 0]);
        let (status, answer) = ordered(&stage, TECHNICIAN, &json!({})).await;
        assert_eq!((status, answer), (202, json!({"ordered": "factory-reset"})));
        assert_eq!(ordered(&stage, TECHNICIAN, &json!({"models": true})).await.0, 202);
        assert_eq!(found(own.path()), ["factory-reset", "factory-reset-models"]);
    });
}

#[test]
fn only_an_admin_key_orders_anything() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        for (key, status) in [(WALL, 403), ("sk-nobody", 401)] {
            assert_eq!(upload(&stage, key, b"x").await.0, status);
            assert_eq!(ordered(&stage, key, &json!({})).await.0, status);
        }
        assert_eq!(found(own.path()), [""; 0]);
    });
    let own = tempfile::tempdir().unwrap();
    let image = image(own.path());
    let open = |settings: &mut Settings| {
        image(settings);
        settings.access = Settings::default().access;
    };
    on_stage("", open, async |stage| {
        let (status, answer) = ordered(&stage, TECHNICIAN, &json!({})).await;
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("admin_key_required")));
        assert!(answer["error"]["message"].as_str().unwrap().contains("`admin = true`"), "{answer}");
        assert_eq!(upload(&stage, TECHNICIAN, b"x").await.0, 403);
        assert_eq!(found(own.path()), [""; 0]);
    });
}

#[test]
fn elsewhere_than_on_the_image_there_is_nothing_to_order() {
    on_stage("", keys("", ""), async |stage| {
        assert_eq!(call(&stage, "GET", UPDATE, &[], &json!({})).await.status(), 404);
        assert_eq!(upload(&stage, TECHNICIAN, b"x").await.0, 404);
        let (status, answer) = ordered(&stage, TECHNICIAN, &json!({})).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_an_image")));
    });
}

#[test]
fn of_an_update_that_breaks_off_or_does_not_fit_nothing_is_left() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        for (length, status) in [(1000, "400"), (LARGEST + 1, "507")] {
            let mut stream = TcpStream::connect(stage.address).await.unwrap();
            let head = format!(
                "POST {UPDATE} HTTP/1.1\r\nhost: t\r\napi-key: {TECHNICIAN}\r\ncontent-length: {length}\r\n\r\nhalf"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
            assert_eq!(found(own.path()), [""; 0]);
        }
        assert_eq!(upload(&stage, TECHNICIAN, b"whole").await.0, 202, "there is room for the next");
    });
}
