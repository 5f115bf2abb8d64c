//! Sockets that outlive the supervisor: taken over from systemd, handed to it.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, IoSliceMut, Lines};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::client;
use crate::supervisor::run;

/// A supervisor that finds `passed` as descriptor 3, as systemd passes it.
struct Started {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Started {
    fn new(directory: &Path, listen: SocketAddr, passed: &TcpListener, pid: &str) -> Self {
        let config = directory.join("c.toml");
        // No worker is needed to answer /livez: this one leaves its environment behind.
        let worker = directory.join("worker");
        let environment = directory.join("environment");
        // It is started again and again: the file is always whole.
        let script = format!("#!/bin/sh\nenv > {0}.$$ && mv {0}.$$ {0}\n", environment.display());
        std::fs::write(&worker, script).unwrap();
        std::fs::set_permissions(&worker, Permissions::from_mode(0o755)).unwrap();
        let text = format!("[server]\nlisten = [\"{listen}\"]\n[worker]\nprogram = {worker:?}\n");
        std::fs::write(&config, text).unwrap();
        let script =
            format!("LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES=http-0 exec \"$@\" 3<&0 0</dev/null");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_llm8850-supervisor"), "--config"])
            .arg(config)
            .env_remove("RUST_LOG")
            .env("NOTIFY_SOCKET", directory.join("notify"))
            .stdin(Stdio::from(passed.as_fd().try_clone_to_owned().unwrap()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log }
    }

    /// Waits for a line of the log.
    fn wait_log(&mut self, part: &str) -> String {
        self.log.by_ref().map_while(Result::ok).find(|line| line.contains(part)).expect("the log ended")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Where the supervisor sends what it tells systemd.
fn manager(directory: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(directory.join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

/// The next message that contains `part`, and the sockets that came with it.
fn told(manager: &UnixDatagram, part: &str) -> (String, Vec<OwnedFd>) {
    loop {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(manager, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
        let sockets = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => sockets.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let sockets = sockets.collect();
        let text = String::from_utf8(bytes[..received.bytes].to_vec()).unwrap();
        if text.contains(part) {
            return (text, sockets);
        }
    }
}

fn local(socket: OwnedFd) -> SocketAddr {
    TcpListener::from(socket).local_addr().unwrap()
}

#[test]
fn a_kept_socket_is_taken_over_and_kept_again() {
    let directory = tempfile::tempdir().unwrap();
    let manager = manager(directory.path());
    let kept = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = kept.local_addr().unwrap();
    // While this process holds the socket, too, nobody else can bind its address.
    let mut supervisor = Started::new(directory.path(), address, &kept, "$$");
    let line = supervisor.wait_log("listening on ");
    assert!(line.ends_with(&format!("http://{address}")), "{line}");
    let (text, sockets) = told(&manager, "FDSTORE=1");
    assert_eq!(text, "FDSTORE=1\nFDNAME=http-0\n");
    let addresses: Vec<_> = sockets.into_iter().map(local).collect();
    assert_eq!(addresses, [address]);
    told(&manager, "READY=1");
    run(async move {
        assert_eq!(client::get(address, "/livez").await.status(), 200);
    });
    supervisor.wait_log("E-WORKER");
    let environment = std::fs::read_to_string(directory.path().join("environment")).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("LISTEN_"), "{environment}");
}

#[test]
fn a_socket_of_another_address_is_forgotten_and_the_address_bound() {
    let directory = tempfile::tempdir().unwrap();
    let manager = manager(directory.path());
    let stale = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut supervisor = Started::new(directory.path(), ([127, 0, 0, 1], 0).into(), &stale, "$$");
    supervisor.wait_log("listening on ");
    assert_eq!(told(&manager, "FDSTORE").0, "FDSTOREREMOVE=1\nFDNAME=http-0\n");
    let (text, mut sockets) = told(&manager, "FDSTORE=1");
    assert_eq!(text, "FDSTORE=1\nFDNAME=http-0\n");
    let address = local(sockets.remove(0));
    assert_ne!(address, stale.local_addr().unwrap());
    run(async move {
        assert_eq!(client::get(address, "/livez").await.status(), 200);
    });
}

#[test]
fn a_stale_socket_that_systemd_still_holds_does_not_keep_its_port() {
    let directory = tempfile::tempdir().unwrap();
    let _manager = manager(directory.path());
    // Another address by name, but the same port of the same one: as 0.0.0.0 is of any.
    let stale = TcpListener::bind("[::ffff:127.0.0.1]:0").unwrap();
    let address: SocketAddr = ([127, 0, 0, 1], stale.local_addr().unwrap().port()).into();
    let mut supervisor = Started::new(directory.path(), address, &stale, "$$");
    let line = supervisor.wait_log("listen");
    assert!(line.contains(&format!("listening on http://{address}")), "{line}");
    run(async move {
        assert_eq!(client::get(address, "/livez").await.status(), 200);
    });
}

#[test]
fn sockets_passed_to_another_process_are_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let manager = manager(directory.path());
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut supervisor = Started::new(directory.path(), passed.local_addr().unwrap(), &passed, "1");
    let line = supervisor.wait_log("cannot be listened on");
    assert!(line.contains("E-CONFIG"), "{line}");
    drop(manager);
}
