//! Listening sockets that outlive the supervisor, in systemd's file descriptor store:
//! connections made while it restarts wait instead of being refused.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{Shutdown, shutdown};
use sd_notify::NotifyState;
use tracing::{debug, warn};

/// A socket that systemd kept.
pub struct Inherited {
    /// Its name in the store.
    pub name: String,
    pub listener: TcpListener,
}

/// Takes the listening TCP sockets that systemd passed to this process: at most once, for
/// its variables are removed. What else was passed is left alone.
pub fn inherited() -> Vec<Inherited> {
    let meant = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    // Clears the variables for child processes; takes a missing LISTEN_PID for ours.
    let mut passed = ListenFd::from_env();
    if !meant {
        return Vec::new();
    }
    let mut names = names.split(':').map(str::to_owned);
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default();
        match passed.take_tcp_listener(index) {
            Ok(Some(listener)) if socket_acceptconn(&listener).unwrap_or(false) => {
                sockets.push(Inherited { name, listener });
            }
            Ok(_) => warn!("systemd passed {name:?}, which does not listen: it was closed"),
            Err(e) => warn!("systemd passed {name:?}, which is no TCP socket: {e}"),
        }
    }
    sockets
}

/// Makes a socket's address free, and has systemd close it, too.
pub fn give_up(socket: Inherited) {
    // As long as systemd holds it, closing alone leaves the address taken.
    if let Err(e) = shutdown(&socket.listener, Shutdown::Both) {
        debug!("{:?} goes on listening: {e}", socket.name);
    }
    send(&[NotifyState::FdStoreRemove, NotifyState::FdName(&socket.name)], &[]);
}

/// Has systemd keep `socket` as `name`. It notices by itself what it keeps already.
pub fn keep(name: &str, socket: impl AsFd) {
    send(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket.as_fd()]);
}

fn send(states: &[NotifyState<'_>], sockets: &[BorrowedFd<'_>]) {
    // Without systemd there is nobody to tell; with it, a restart merely binds anew.
    let sent = if sockets.is_empty() {
        sd_notify::notify(states)
    } else {
        sd_notify::notify_with_fds(states, sockets)
    };
    if let Err(e) = sent {
        debug!("systemd was not told of a socket: {e}");
    }
}
