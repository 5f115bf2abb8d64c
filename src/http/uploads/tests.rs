use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::http::access::tests::{TECHNICIAN, WALL, bearer, keys};
use crate::http::tests::client::{json as content, send};
use crate::http::tests::{Stage, on_stage};
use crate::packages::serve::serve;
use crate::packages::tests::{FILES, manifest};
use crate::service::Settings;
use crate::sys::root::SysRoot;

const INSTALLS: &str = "/v1/models/installs";
const UPLOADS: &str = "/v1/models/uploads";

/// An image whose root takes models in, each connection for itself.
fn image(own: &Path) -> impl FnOnce(&mut Settings) {
    for directory in ["models", "run/llm8850-appliance"] {
        std::fs::create_dir_all(own.join(directory)).unwrap();
    }
    let (socket, root) = (own.join("models.sock"), SysRoot::new(own));
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let root = root.clone();
            thread::spawn(move || serve(&root, &File::from(OwnedFd::from(stream)), &|| false));
        }
    });
    let told = own.join("run/llm8850-appliance");
    move |settings| {
        keys("", "")(settings);
        settings.appliance.models = socket;
        settings.appliance.dir = told;
    }
}

async fn call(
    stage: &Stage,
    key: &str,
    what: (&str, &str),
    with: &[(&str, &str)],
    body: &[u8],
) -> Response<Answer> {
    let (name, value) = bearer(key);
    let mut request = Request::builder().method(what.0).uri(what.1).header("host", "t").header(name, value);
    for (name, value) in with {
        request = request.header(*name, *value);
    }
    let body = Full::<Bytes>::from(body.to_vec());
    send(stage.address, request.body(body).unwrap()).await.unwrap()
}

async fn asks(stage: &Stage, what: (&str, &str), body: &str) -> (u16, Value) {
    let response = call(stage, TECHNICIAN, what, &[], body.as_bytes()).await;
    (response.status().as_u16(), content(response).await)
}

fn beginning(name: &str) -> String {
    json!({"model": name, "manifest": serde_json::from_str::<Value>(&manifest(&FILES)).unwrap()}).to_string()
}

/// Status, offset and length.
async fn file(stage: &Stage, method: &str, at: &str, offset: &str, body: &[u8]) -> (u16, String, String) {
    let with = [("tus-resumable", TUS), ("content-type", OCTETS), ("upload-offset", offset)];
    let with = if method == "PATCH" { &with[..] } else { &with[..1] };
    let response = call(stage, TECHNICIAN, (method, at), with, body).await;
    assert_eq!(response.headers()[VERSION], TUS);
    let header =
        |name: &HeaderName| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (offset, length) = (header(&OFFSET), header(&LENGTH));
    (response.status().as_u16(), offset.unwrap_or_default(), length.unwrap_or_default())
}

/// Waits until the last model was installed, or not.
async fn ended(stage: &Stage) -> Value {
    loop {
        let (_, list) = asks(stage, ("GET", INSTALLS), "").await;
        if matches!(list["last"]["state"].as_str(), Some("installed" | "failed")) {
            return list;
        }
    }
}

#[test]
fn a_model_is_sent_with_breaks_and_installed() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        let (status, begun) = asks(&stage, ("POST", INSTALLS), &beginning("wall")).await;
        assert_eq!((status, &begun["installed"]), (201, &json!(false)), "{begun}");
        let urls: Vec<&str> =
            begun["files"].as_array().unwrap().iter().map(|f| f["url"].as_str().unwrap()).collect();
        assert_eq!(urls[1], "/v1/models/uploads/wall/deep/down/layer.axmodel");
        assert_eq!(asks(&stage, ("POST", "/v1/models/installs/wall"), "").await.0, 409, "nothing was sent");

        let told = |offset: &str, length: &str| (offset.to_owned(), length.to_owned());
        let (status, offset, length) = file(&stage, "PATCH", urls[1], "0", b"1234").await;
        assert_eq!((status, told(&offset, &length)), (204, told("4", "9")));
        assert_eq!(file(&stage, "PATCH", urls[1], "0", b"1234").await.0, 409);
        // As a client that lost its connection asks.
        let (status, offset, length) = file(&stage, "HEAD", urls[1], "", b"").await;
        assert_eq!((status, told(&offset, &length)), (200, told("4", "9")));
        assert_eq!(file(&stage, "PATCH", urls[1], "4", b"56780").await.0, 204);
        assert_eq!(file(&stage, "PATCH", urls[0], "0", b"{}").await.0, 204);
        assert_eq!(asks(&stage, ("GET", INSTALLS), "").await.1["incoming"], json!(["wall"]));

        let started = asks(&stage, ("POST", "/v1/models/installs/wall"), "").await;
        assert_eq!(started, (202, json!({"installing": "wall"})));
        let last = ended(&stage).await["last"].take();
        assert!(last["why"].as_str().unwrap().contains("layer.axmodel: CRC-32"), "{last}");
        assert_eq!(file(&stage, "PATCH", urls[1], "0", b"123456789").await.0, 204);
        assert_eq!(asks(&stage, ("POST", "/v1/models/installs/wall"), "").await.0, 202);
        let list = ended(&stage).await;
        assert_eq!(list["last"], json!({"model": "wall", "state": "installed", "checked": 11, "bytes": 11}));
        assert_eq!((&list["installed"], &list["default"]), (&json!(["wall"]), &json!("wall")));
        let status = asks(&stage, ("GET", "/v1/status"), "").await.1;
        assert_eq!(status["appliance"]["models"], list["last"]);
        assert_eq!(
            std::fs::read(own.path().join("models/default/deep/down/layer.axmodel")).unwrap(),
            b"123456789"
        );
        let (status, answer) = asks(&stage, ("DELETE", "/v1/models/installs/wall"), "").await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_value")), "{answer}");
    });
}

#[test]
fn what_came_before_a_connection_broke_stays() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        asks(&stage, ("POST", INSTALLS), &beginning("wall")).await;
        let at = format!("{UPLOADS}/wall/deep/down/layer.axmodel");
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        let head = format!(
            "PATCH {at} HTTP/1.1\r\nhost: t\r\napi-key: {TECHNICIAN}\r\ntus-resumable: 1.0.0\r\nupload-offset: 0\r\n\
             content-type: {OCTETS}\r\ncontent-length: 9\r\n\r\n12345"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 400"), "{said}");
        // Root may still be at it.
        while file(&stage, "HEAD", &at, "", b"").await.1 != "5" {}
        let (status, offset, _) = file(&stage, "PATCH", &at, "5", b"6789").await;
        assert_eq!((status, offset.as_str()), (204, "9"));
    });
}

#[test]
fn files_are_announced_as_tus_has_it() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        asks(&stage, ("POST", INSTALLS), &beginning("wall")).await;
        let announce = async |length: &str, path: &str| {
            let metadata = format!("model {},path {}", STANDARD.encode("wall"), STANDARD.encode(path));
            let with = [("tus-resumable", TUS), ("upload-length", length), ("upload-metadata", &metadata)];
            call(&stage, TECHNICIAN, ("POST", UPLOADS), &with, b"").await
        };
        let announced = announce("9", "deep/down/layer.axmodel").await;
        assert_eq!(announced.status(), 201);
        assert_eq!(announced.headers()[LOCATION], "/v1/models/uploads/wall/deep/down/layer.axmodel");
        assert_eq!(announce("8", "deep/down/layer.axmodel").await.status(), 400);
        assert_eq!(announce("9", "other").await.status(), 404);
        let bare = call(&stage, TECHNICIAN, ("POST", UPLOADS), &[("tus-resumable", TUS)], b"").await;
        assert_eq!(bare.status(), 400);
        let old = call(&stage, TECHNICIAN, ("POST", UPLOADS), &[("tus-resumable", "0.2.2")], b"").await;
        assert_eq!((old.status().as_u16(), &old.headers()[VERSION]), (412, &HeaderValue::from_static(TUS)));
        let at = format!("{UPLOADS}/wall/config.json");
        let with = [("tus-resumable", TUS), ("upload-offset", "0"), ("content-type", "text/plain")];
        assert_eq!(call(&stage, TECHNICIAN, ("PATCH", &at), &with, b"{}").await.status(), 415);
        assert_eq!(file(&stage, "PATCH", &at, "x", b"{}").await.0, 400);
        assert_eq!(
            file(&stage, "PATCH", &at, "0", &[b'x'; 3_000_000]).await.0,
            400,
            "longer than the manifest says"
        );
        assert_eq!(file(&stage, "HEAD", &format!("{UPLOADS}/none/config.json"), "", b"").await.0, 404);
        let gone = asks(&stage, ("DELETE", "/v1/models/uploads/wall"), "").await;
        assert_eq!(gone, (200, json!({"id": "wall", "object": "model", "deleted": true})));
        assert_eq!(asks(&stage, ("GET", "/v1/models/uploads/wall"), "").await.0, 404);
    });
}

#[test]
fn what_is_wrong_is_told_and_only_an_admin_key_sends_anything() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        for (key, status) in [(WALL, 403), ("sk-nobody", 401)] {
            for what in
                [("POST", INSTALLS), ("GET", INSTALLS), ("POST", UPLOADS), ("DELETE", "/v1/models/uploads/x")]
            {
                assert_eq!(call(&stage, key, what, &[], b"").await.status(), status, "{what:?}");
            }
        }
        let big = json!({"version": 1, "files": {"x": {"bytes": 1_u64 << 60, "crc32": "00000000"}}});
        for (model, manifest, status) in [
            (json!("../x"), json!({"version": 1, "files": {}}), 400),
            (json!("x"), json!({"version": 2, "files": {}}), 400),
            (json!("x"), json!([]), 400),
            (json!(5), json!({}), 400),
            (json!("x"), big, 507),
        ] {
            let asked = json!({"model": model, "manifest": manifest}).to_string();
            let (told, answer) = asks(&stage, ("POST", INSTALLS), &asked).await;
            assert_eq!(told, status, "{answer}");
        }
        for what in ["/v1/models/installs/none", "/v1/models/uploads/none"] {
            assert_eq!(asks(&stage, ("DELETE", what), "").await.0, 404);
        }
        let closed = own.path().join("models.sock");
        std::fs::remove_file(closed).unwrap();
        let (status, answer) = asks(&stage, ("GET", INSTALLS), "").await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("E-ORDERS")), "{answer}");
    });
    on_stage("", keys("", ""), async |stage| {
        let (status, answer) = asks(&stage, ("POST", INSTALLS), &beginning("wall")).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_an_image")));
        assert_eq!(file(&stage, "HEAD", &format!("{UPLOADS}/wall/x"), "", b"").await.0, 404);
    });
}

#[test]
fn an_installed_model_is_chosen_and_others_can_go() {
    let own = tempfile::tempdir().unwrap();
    for name in ["wall", "floor"] {
        std::fs::create_dir_all(own.path().join("models").join(name)).unwrap();
        std::fs::write(own.path().join("models").join(name).join("config.json"), "{}").unwrap();
    }
    let change = |dir: &'static str| {
        let image = image(own.path());
        move |settings: &mut Settings| {
            image(settings);
            settings.model_dir = dir.into();
        }
    };
    let choose = |name: &str| format!("/v1/models/installs/{name}/default");
    let gone = async |stage: &Stage, key: &str, name: &str| {
        let body = json!({"model": name}).to_string();
        let response = call(stage, key, ("DELETE", "/api/delete"), &[], body.as_bytes()).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    on_stage("", change("/models/default"), async |stage| {
        assert_eq!(call(&stage, WALL, ("POST", &choose("floor")), &[], b"").await.status(), 403);
        assert_eq!(gone(&stage, WALL, "floor").await.0, 403);
        let answer = asks(&stage, ("POST", &choose("wall")), "").await;
        assert_eq!(answer, (202, json!({"default": "wall"})));
        let list = asks(&stage, ("GET", INSTALLS), "").await.1;
        assert_eq!((&list["default"], &list["configured"]), (&json!("wall"), &Value::Null));
        assert_eq!(list["sizes"], json!({"floor": 2, "wall": 2}));
        for (name, status) in [("none", 404), ("default", 404), ("..%2Fmodels", 404)] {
            assert_eq!(asks(&stage, ("POST", &choose(name)), "").await.0, status, "{name}");
        }
        let (status, told) = gone(&stage, TECHNICIAN, "wall:latest").await;
        assert!(status == 400 && told.contains("it stays"), "{told}");
        assert_eq!(gone(&stage, TECHNICIAN, "floor:latest").await, (200, String::new()));
        let (status, told) = gone(&stage, TECHNICIAN, "floor").await;
        assert!(status == 404 && told.starts_with("{\"error\":\"There is no model"), "{told}");
        while own.path().join("models/floor").exists() {}
    });
    std::fs::remove_file(own.path().join("models.sock")).unwrap();
    on_stage("", change("/models/wall"), async |stage| {
        let (status, answer) = asks(&stage, ("POST", &choose("wall")), "").await;
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("configured")), "{answer}");
        assert_eq!(asks(&stage, ("GET", INSTALLS), "").await.1["configured"], json!("/models/wall"));
        std::fs::remove_file(own.path().join("models/default")).unwrap();
        let (status, told) = gone(&stage, TECHNICIAN, "wall").await;
        assert!(status == 400 && told.contains("`model.dir`"), "{told}");
    });
    on_stage("", keys("", ""), async |stage| {
        assert_eq!(asks(&stage, ("POST", &choose("wall")), "").await.1["error"]["code"], "not_an_image");
        assert_eq!(gone(&stage, TECHNICIAN, "wall").await.0, 501);
    });
}

#[test]
fn one_at_a_time_is_taken_in() {
    let own = tempfile::tempdir().unwrap();
    on_stage("", image(own.path()), async |stage| {
        asks(&stage, ("POST", INSTALLS), &beginning("wall")).await;
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        let head = format!(
            "PATCH {UPLOADS}/wall/config.json HTTP/1.1\r\nhost: t\r\napi-key: {TECHNICIAN}\r\ntus-resumable: 1.0.0\r\n\
             upload-offset: 0\r\ncontent-type: {OCTETS}\r\ncontent-length: 2\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        while file(&stage, "HEAD", &format!("{UPLOADS}/wall/config.json"), "", b"").await.1 != "1" {}
        let (status, answer) = asks(&stage, ("POST", INSTALLS), &beginning("other")).await;
        assert_eq!((status, &answer["error"]["code"]), (423, &json!("install_under_way")));
        stream.write_all(b"}").await.unwrap();
        let mut said = [0; 12];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1 204");
    });
}
