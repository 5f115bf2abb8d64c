//! Listening, connections and their limits, draining.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::body::{Body, Followed};
use super::caller::Caller;
use super::places::{Place, Places, Stage};
use super::wire::Wire;
use super::{Context, dispatch};
use crate::config::{self, Limits};
use crate::fault::{Failure, Fault, Result};
use crate::sys::sockets::{self, Inherited};

/// Wait after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bound addresses.
pub struct Server {
    listeners: Vec<Listener>,
    limits: Limits,
    unbound: Vec<String>,
}

/// A bound address.
struct Listener {
    /// As the configuration names it.
    named: SocketAddr,
    socket: TcpListener,
}

impl Server {
    /// Takes over the sockets that systemd kept for these addresses, binds the others,
    /// and has all of them kept. Where Ollama has its own port already, the others must do.
    ///
    /// # Errors
    /// [`Fault::Config`], naming the address that cannot be had.
    pub async fn bind(addresses: &[SocketAddr], limits: Limits) -> Result<Self> {
        let configured =
            |kept: &Inherited| kept.listener.local_addr().is_ok_and(|at| addresses.contains(&at));
        let (mut kept, stale): (Vec<_>, Vec<_>) = sockets::inherited().into_iter().partition(configured);
        // First: they may stand in the way of others.
        stale.into_iter().for_each(sockets::give_up);
        let mut listeners = Vec::with_capacity(addresses.len());
        let mut unbound = Vec::new();
        for address in addresses {
            let failed = |e: std::io::Error| {
                Failure::new(Fault::Config, format!("server.listen: {address} cannot be listened on: {e}"))
            };
            let same = |kept: &Inherited| kept.listener.local_addr().is_ok_and(|bound| bound == *address);
            let listener = match kept.iter().position(same) {
                Some(place) => adopt(kept.swap_remove(place).listener),
                None => TcpListener::bind(address).await,
            };
            match listener {
                Ok(socket) => listeners.push(Listener { named: *address, socket }),
                Err(e) if is_ollamas(*address, &e) => {
                    let what = "is in use, probably by Ollama: stop that, or take the address out";
                    let failure = Failure::new(Fault::Config, format!("server.listen: {address} {what}"));
                    error!(code = failure.fault.code(), "{failure}");
                    unbound.push(failure.to_string());
                }
                Err(e) => return Err(failed(e)),
            }
        }
        if listeners.is_empty() {
            return Err(Failure::new(Fault::Config, unbound.join("; ")));
        }
        for (number, listener) in listeners.iter().enumerate() {
            sockets::keep(&format!("http-{number}"), &listener.socket);
        }
        Ok(Self { listeners, limits, unbound })
    }

    /// What is wrong with addresses that are not listened on.
    pub fn unbound(&self) -> &[String] {
        &self.unbound
    }

    /// The addresses as bound: port 0 is replaced by the port found.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }

    /// Serves until `stop` becomes true, then completes the answers under way, for at
    /// most `limits.drain_s` and a little more.
    pub async fn run(self, context: Arc<Context>, stop: watch::Receiver<bool>) {
        let Self { listeners, limits, .. } = self;
        let places = Places::new(limits.connections);
        let mut accepting = JoinSet::new();
        let grace = limits.drain_s.0 + Duration::from_secs(2);
        let limits = Arc::new(limits);
        for listener in listeners {
            accepting.spawn(accept(
                listener,
                Arc::clone(&context),
                Arc::clone(&limits),
                Arc::clone(&places),
                stop.clone(),
            ));
        }
        while accepting.join_next().await.is_some() {}
        if timeout(grace, places.empty()).await.is_err() {
            warn!("some connections did not end in time");
        }
    }
}

/// Whether a port could not be had because Ollama, or something in its place, has it.
fn is_ollamas(address: SocketAddr, error: &std::io::Error) -> bool {
    address.port() == config::Server::OLLAMA && error.kind() == ErrorKind::AddrInUse
}

fn adopt(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn accept(
    listener: Listener,
    context: Arc<Context>,
    limits: Arc<Limits>,
    places: Arc<Places>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let next = async {
            let (stream, peer) = listener.socket.accept().await?;
            Ok::<_, std::io::Error>((stream, peer, places.take(peer.ip()).await))
        };
        let accepted = tokio::select! {
            () = stopped(&mut stop) => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                debug!(%peer, "connected");
                let context = Arc::clone(&context);
                let serving =
                    serve(stream, listener.named, context, Arc::clone(&limits), place, stop.clone());
                tokio::spawn(serving);
            }
            Err(e) => {
                info!("a connection could not be accepted: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    listener: SocketAddr,
    context: Arc<Context>,
    limits: Arc<Limits>,
    (place, taken_away): (Arc<Place>, oneshot::Receiver<()>),
    mut stop: watch::Receiver<bool>,
) {
    // Tokens leave at once; a client that takes nothing for long is gone.
    let unread = u32::try_from(limits.unread_s.0.as_millis()).unwrap_or(u32::MAX);
    if let Err(e) = stream.set_nodelay(true).and_then(|()| {
        rustix::net::sockopt::set_tcp_user_timeout(&stream, unread).map_err(std::io::Error::from)?;
        rustix::net::sockopt::set_socket_keepalive(&stream, true).map_err(std::io::Error::from)
    }) {
        debug!("a connection's options could not be set: {e}");
    }
    let wire = Wire::new(stream, Arc::clone(&place));
    let handler = service_fn(move |request| {
        let context = Arc::clone(&context);
        let caller = Caller::at(listener, &context.service);
        let place = Arc::clone(&place);
        async move { Ok::<_, Infallible>(answer(context, caller, place, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_s.0)
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(wire), handler);
    let mut connection = std::pin::pin!(connection);
    let orderly = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    tokio::select! {
        ended = orderly => {
            if let Err(e) = ended {
                debug!("a connection ended: {e}");
            }
        }
        _ = taken_away => {}
    }
}

/// Answers a request, and keeps its connection's place informed of how far it is.
async fn answer(
    context: Arc<Context>,
    caller: Caller,
    place: Arc<Place>,
    request: Request<Incoming>,
) -> Response<Followed<Body>> {
    // HTTP/1.0 knows nothing that could be sent ahead of an answer.
    let whole = if request.version() < Version::HTTP_11 { Stage::Mute } else { Stage::Made };
    let asked = Arc::clone(&place);
    let request = request.map(|body| Followed::new(body, move || asked.is(whole)));
    let response = dispatch::handle(context, caller, request).await;
    place.is(Stage::Told);
    response.map(|body| Followed::new(body, move || place.is(Stage::Asked)))
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|&stop| stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_ollama_has_its_port_the_other_addresses_do() {
        // Another address of this machine than any real Ollama's.
        let taken: SocketAddr = ([127, 77, 88, 50], config::Server::OLLAMA).into();
        let _ollama = std::net::TcpListener::bind(taken).unwrap();
        let free = ([127, 0, 0, 1], 0).into();
        let server = Server::bind(&[free, taken], Limits::default()).await.unwrap();
        assert_eq!(server.addresses().len(), 1);
        let [told] = server.unbound() else { panic!("{:?}", server.unbound()) };
        assert!(
            told.contains("E-CONFIG") && told.contains("127.77.88.50:11434") && told.contains("Ollama"),
            "{told}"
        );
        let alone = Server::bind(&[taken], Limits::default()).await.err().unwrap();
        assert!(alone.fault == Fault::Config && alone.detail.contains("127.77.88.50:11434"), "{alone}");
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _other = std::net::TcpListener::bind(other).unwrap();
        assert!(Server::bind(&[free, other], Limits::default()).await.is_err(), "that is nobody's own port");
    }
}
