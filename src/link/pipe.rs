//! Frames over a stream: [`Reader`] and [`Writer`] block (the worker's I/O thread),
//! [`AsyncReader`] and [`AsyncWriter`] do not (the supervisor).

use std::io::{ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::codec::{Decoder, Encoder};
use crate::fault::{Failure, Fault, Result};

const CHUNK: usize = 64 << 10;

fn lost(e: &std::io::Error) -> Failure {
    Failure::new(Fault::WorkerLink, format!("the socket failed: {e}"))
}

/// Receives frames, blocking.
pub struct Reader<R, T> {
    stream: R,
    decoder: Decoder<T>,
    chunk: Box<[u8]>,
}

impl<R: Read, T: DeserializeOwned> Reader<R, T> {
    pub fn new(stream: R) -> Self {
        Self { stream, decoder: Decoder::default(), chunk: vec![0; CHUNK].into() }
    }

    /// The next frame, or `None` where the other end closed between two frames.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`]; nothing can be received after it.
    pub fn receive(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return self.decoder.finish().map(|()| None),
                Ok(n) => self.decoder.buffer().extend_from_slice(self.chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(lost(&e)),
            }
        }
    }
}

/// Sends frames, blocking.
pub struct Writer<W, T> {
    stream: W,
    encoder: Encoder<T>,
}

impl<W: Write, T: Serialize> Writer<W, T> {
    pub fn new(stream: W) -> Self {
        Self { stream, encoder: Encoder::default() }
    }

    /// Sends one frame whole.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`]: the frame is too large, or the other end is gone.
    pub fn send(&mut self, frame: &T) -> Result<()> {
        let bytes = self.encoder.encode(frame)?;
        self.stream.write_all(&bytes).and_then(|()| self.stream.flush()).map_err(|e| lost(&e))
    }
}

/// Receives frames without blocking.
pub struct AsyncReader<R, T> {
    stream: R,
    decoder: Decoder<T>,
}

impl<R: AsyncRead + Unpin, T: DeserializeOwned> AsyncReader<R, T> {
    pub fn new(stream: R) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    /// The next frame, or `None` where the other end closed between two frames. May be
    /// dropped and called again: no byte is lost.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`]; nothing can be received after it.
    pub async fn receive(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let buffer = self.decoder.buffer();
            buffer.reserve(CHUNK);
            match self.stream.read_buf(buffer).await {
                Ok(0) => return self.decoder.finish().map(|()| None),
                Ok(_) => {}
                // How a stream socket ends whose other end left something unread.
                Err(e) if e.kind() == ErrorKind::ConnectionReset => {
                    return self.decoder.finish().map(|()| None);
                }
                Err(e) => return Err(lost(&e)),
            }
        }
    }
}

/// Sends frames without blocking.
pub struct AsyncWriter<W, T> {
    stream: W,
    encoder: Encoder<T>,
}

impl<W: AsyncWrite + Unpin, T: Serialize> AsyncWriter<W, T> {
    pub fn new(stream: W) -> Self {
        Self { stream, encoder: Encoder::default() }
    }

    /// Sends one frame whole. Must be awaited to the end, otherwise half a frame may
    /// have gone out and the link is lost.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`]: the frame is too large, or the other end is gone.
    pub async fn send(&mut self, frame: &T) -> Result<()> {
        let bytes = self.encoder.encode(frame)?;
        self.stream.write_all(&bytes).await.map_err(|e| lost(&e))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use crate::link::frame::{Activity, Command, Report};

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn an_async_and_a_blocking_end_understand_each_other() {
        let (near, far) = UnixStream::pair().unwrap();
        let worker = thread::spawn(move || {
            let mut commands = Reader::<_, Command>::new(far.try_clone().unwrap());
            let mut reports = Writer::<_, Report>::new(far);
            while let Some(Command::Ping { nonce }) = commands.receive().unwrap() {
                reports.send(&Report::Pong { nonce, activity: Activity::default() }).unwrap();
            }
        });
        run(async {
            near.set_nonblocking(true).unwrap();
            let (read, write) = tokio::net::UnixStream::from_std(near).unwrap().into_split();
            let mut reports = AsyncReader::<_, Report>::new(read);
            let mut commands = AsyncWriter::<_, Command>::new(write);
            for nonce in 0..200 {
                commands.send(&Command::Ping { nonce }).await.unwrap();
                let pong = Report::Pong { nonce, activity: Activity::default() };
                assert_eq!(reports.receive().await.unwrap(), Some(pong));
            }
            drop(commands);
            assert_eq!(reports.receive().await.unwrap(), None);
        });
        worker.join().unwrap();
    }

    #[test]
    fn an_end_that_dies_within_a_frame_is_a_link_fault() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let bytes = Encoder::default().encode(&Command::Stop).unwrap();
        far.write_all(&bytes).unwrap();
        far.write_all(&bytes[..7]).unwrap();
        drop(far);
        let mut commands = Reader::<_, Command>::new(near);
        assert_eq!(commands.receive().unwrap(), Some(Command::Stop));
        assert_eq!(commands.receive().unwrap_err().fault, Fault::WorkerLink);
    }
}
