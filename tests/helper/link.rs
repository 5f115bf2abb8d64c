//! Between supervisor and helper: sockets, garbage, silence.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use llm8850::fault::Fault;
use llm8850::recover::{Helper, Reply, Verb};

use crate::system::{PACE, System, assert_fault, block_on, finish};

fn start(system: &System, input: OwnedFd) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_llm8850-card-helper"))
        .arg("--config")
        .arg(system.config())
        .stdin(Stdio::from(input))
        .spawn()
        .unwrap()
}

/// What the helper answers to these bytes.
fn answer(bytes: &[u8]) -> String {
    let system = System::new();
    let (mut near, far) = UnixStream::pair().unwrap();
    let mut helper = start(&system, far.into());
    let mut writer = near.try_clone().unwrap();
    let bytes = bytes.to_vec();
    // The helper may close before it has read all of it.
    let writing = thread::spawn(move || {
        let _ = writer.write_all(&bytes);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut text = String::new();
    let _ = near.read_to_string(&mut text);
    writing.join().unwrap();
    helper.wait().unwrap();
    assert!(system.log().is_empty());
    text
}

#[test]
fn a_socket_with_a_helper_per_connection_serves_like_the_program() {
    let system = System::new();
    let path = system.path("card.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (first, last) = block_on(async {
        let helper = Helper::new(&path, system.config());
        let mut run = helper.start(Verb::Probe, PACE);
        // As systemd does with Accept=yes.
        let connection = tokio::task::spawn_blocking({
            let listener = listener.try_clone().unwrap();
            move || listener.accept().unwrap().0
        });
        let mut process = start(&system, connection.await.unwrap().into());
        let told = finish(&mut run).await;
        process.wait().unwrap();
        told
    });
    assert!(first.is_empty());
    assert!(matches!(last, Reply::Done(Some(facts)) if facts.node));
}

#[test]
fn what_is_no_order_is_refused_and_nothing_is_done() {
    for nonsense in [
        &b"format-disk\n"[..],
        b"{\"verb\":\"format-disk\"}\n",
        b"{\"verb\":\"modules-out\",\"also\":1}\n",
        b"{\"verb\":\"modules-out\"",
        &[b'{'; 100_000],
        &[0xff; 200],
    ] {
        let text = answer(nonsense);
        assert!(text.contains("E-HELPER") && text.contains("not an order"), "{text}");
    }
    assert_eq!(answer(b""), "");
}

#[test]
fn only_the_first_order_counts() {
    let text = answer(b"{\"verb\":\"probe\"}\n{\"verb\":\"modules-out\"}\n");
    assert!(text.starts_with("{\"done\":{") && text.lines().count() == 1, "{text}");
}

/// A helper's stand-in that does what `script` says, with the order on its input.
fn stand_in(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("helper");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn told(path: PathBuf) -> (Vec<String>, Reply) {
    block_on(async { finish(&mut Helper::new(path, "/none").start(Verb::BusReset, PACE)).await })
}

#[test]
fn a_helper_that_fails_in_any_way_is_a_fault_of_the_helper() {
    let directory = tempfile::tempdir().unwrap();
    for (script, detail) in [
        ("read x", "ended without an answer"),
        ("read x; echo nonsense >&0; read x", "not a reply"),
        ("read x; head -c 100000 /dev/zero >&0; read x", "without an end"),
        ("read x; kill -9 $$", ""),
        // Its deadline is 5 s at this pace.
        ("read x; echo '{\"step\":\"on it\"}' >&0; exec sleep 20", "no answer within 15 s"),
    ] {
        let (_, Reply::Failed(failure)) = told(stand_in(directory.path(), script)) else {
            panic!("{script}")
        };
        assert_fault(&failure, Fault::Helper, detail);
    }
    for missing in ["/no/such/helper", ""] {
        let (_, Reply::Failed(failure)) = told(missing.into()) else { panic!() };
        assert_fault(&failure, Fault::Helper, missing);
    }
}

#[test]
fn after_its_end_an_order_says_so() {
    let system = System::new();
    block_on(async {
        let mut run = system.helper().start(Verb::Probe, PACE);
        finish(&mut run).await;
        let Reply::Failed(failure) = run.next().await else { panic!() };
        assert_fault(&failure, Fault::Helper, "probe has ended");
    });
}

#[test]
fn a_client_that_leaves_does_not_stop_what_has_begun() {
    let system = System::new();
    let (mut near, far) = UnixStream::pair().unwrap();
    let mut helper = start(&system, far.into());
    near.write_all(b"{\"verb\":\"modules-out\"}\n").unwrap();
    let mut first = [0; 1];
    BufReader::new(&near).read_exact(&mut first).unwrap();
    drop(near);
    assert!(helper.wait().unwrap().success());
    assert_eq!(system.log().len(), 5);
}
