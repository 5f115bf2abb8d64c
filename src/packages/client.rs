//! The service's end: asks root, without ever waiting for the card itself.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::protocol::{Reply, Request};
use crate::fault::{Failure, Fault, Result};

/// For an answer; a slow card has bytes to write before it.
const PATIENCE: Duration = Duration::from_secs(120);
/// A manifest of thousands of files is told of.
const LONGEST: u64 = 4 << 20;

/// A request under way.
pub struct Asked {
    stream: UnixStream,
    place: String,
}

impl Asked {
    /// Asks at the socket `path`.
    ///
    /// # Errors
    /// [`Fault::Orders`]: nobody answers there.
    pub async fn new(path: &Path, request: &Request) -> Result<Self> {
        let place = path.display().to_string();
        let asked = async {
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(&line).await?;
            Ok::<_, io::Error>(stream)
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(stream)) => Ok(Self { stream, place }),
            Ok(Err(e)) => Err(failed(&place, &e.to_string())),
            Err(_) => Err(failed(&place, "it does not listen")),
        }
    }

    /// Sends a piece of a file. Where it is not wanted any more the answer says why: whether to
    /// go on.
    pub async fn send(&mut self, piece: &[u8]) -> bool {
        matches!(timeout(PATIENCE, self.stream.write_all(piece)).await, Ok(Ok(())))
    }

    /// What is answered, once nothing more is sent. Root may have more to do after its answer, such
    /// as starting the service anew, which then must not wait for root.
    ///
    /// # Errors
    /// [`Fault::Orders`].
    pub async fn answer(mut self) -> Result<Reply> {
        let answered = async {
            // Where it is closed already, it has answered.
            let _ = self.stream.shutdown().await;
            let mut line = Vec::new();
            let mut answer = BufReader::new((&mut self.stream).take(LONGEST));
            let read = answer.read_until(b'\n', &mut line).await;
            // One that did not read everything ends with a reset, after its answer.
            if line.is_empty() {
                read?;
                return Err(io::Error::other("it ended without an answer"));
            }
            Ok(serde_json::from_slice(&line)?)
        };
        match timeout(PATIENCE, answered).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(e)) => Err(failed(&self.place, &e.to_string())),
            Err(_) => Err(failed(&self.place, "no answer in time")),
        }
    }
}

fn failed(place: &str, why: &str) -> Failure {
    Failure::new(Fault::Orders, format!("{place}: {why}"))
}

/// Asks for what needs no bytes.
///
/// # Errors
/// [`Fault::Orders`].
pub async fn ask(path: &Path, request: &Request) -> Result<Reply> {
    Asked::new(path, request).await?.answer().await
}
