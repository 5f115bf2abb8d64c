//! A connection's bytes, and what they tell of its client: whether it takes what is sent, and
//! whether it has left or only has nothing more to say.

use std::io::{ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::places::{Place, Stage};

/// Clients pass over it. One that has left answers with a reset.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

type Gone = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client may close its sending side once its request is sent, and still gets its answer. On
/// the wire that looks as if it had left: only what is sent to it shows the difference.
pub struct Wire {
    stream: Arc<TcpStream>,
    place: Arc<Place>,
    /// Something waits for the client to take it.
    unsent: bool,
    /// The end was seen, but the request that came before it not yet looked at.
    seen: bool,
    /// The client sends no more; resolves when it turns out to have left.
    ended: Option<Gone>,
}

impl Wire {
    pub fn new(stream: TcpStream, place: Arc<Place>) -> Self {
        Self { stream: Arc::new(stream), place, unsent: false, seen: false, ended: None }
    }

    /// What the end of what the client sends means: [`Poll::Ready`], that it has left.
    fn end(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let stage = self.place.stage();
        let first = !std::mem::replace(&mut self.seen, true);
        match stage {
            Stage::Made => {}
            Stage::Told if !first => {}
            Stage::Asked if first => {
                // Its last request may have been read just now: that is looked at first.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Stage::Asked | Stage::Mute | Stage::Told => return Poll::Ready(Ok(())),
        }
        // Once an answer is being sent, that shows whether the client is there.
        let silent = stage == Stage::Made && !self.unsent;
        if silent && self.stream.try_write(PROBE)? != PROBE.len() {
            return Poll::Ready(Err(ErrorKind::WriteZero.into()));
        }
        let stream = Arc::clone(&self.stream);
        self.ended = Some(Box::pin(async move {
            // What cannot be watched counts as gone.
            let _ = stream.ready(Interest::ERROR).await;
        }));
        self.poll_gone(context)
    }

    /// Waits for the client to leave, if it only sends no more.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(gone) = &mut self.ended {
            ready!(gone.as_mut().poll(context));
        }
        Poll::Ready(Err(ErrorKind::ConnectionReset.into()))
    }

    fn poll_sent(
        &self,
        context: &mut Context<'_>,
        send: impl Fn(&TcpStream) -> Result<usize>,
    ) -> Poll<Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match send(&self.stream) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Keeps in mind whether the client takes what is sent.
    fn took(&mut self, sent: &Poll<Result<usize>>) {
        if self.unsent != sent.is_pending() {
            self.unsent = sent.is_pending();
            self.place.blocked(self.unsent);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        loop {
            if self.ended.is_some() {
                return self.poll_gone(context);
            }
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read_buf(buffer) {
                Ok(0) => return self.end(context),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let sent = self.poll_sent(context, |stream| stream.try_write(bytes));
        self.took(&sent);
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let sent = self.poll_sent(context, |stream| stream.try_write_vectored(bytes));
        self.took(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        // The answer is out: now the client's end may be seen.
        if self.place.stage() == Stage::Asked && self.ended.take().is_some() {
            self.seen = false;
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(shutdown(&*self.stream, Shutdown::Write).map_err(Into::into))
    }
}
