//! The supervisor's end: starts an order and hears of it, without ever waiting for the
//! kernel.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::verb::{Order, Reply, Verb};
use crate::fault::{Failure, Fault};
use crate::sys::lines::LONGEST;

/// Replies that may wait to be heard; the helper waits then.
const REPLIES: usize = 64;
/// The helper reports its own deadline; later than this after it, it hangs itself.
const GRACE: Duration = Duration::from_secs(10);

/// Where the card helper is.
#[derive(Clone, Debug)]
pub struct Helper {
    path: PathBuf,
    config: PathBuf,
}

impl Helper {
    /// `path` is the helper's socket, or its program, which is given `config`.
    pub fn new(path: impl Into<PathBuf>, config: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), config: config.into() }
    }

    /// Gives an order. Must be called within a tokio runtime; returns at once.
    pub fn start(&self, verb: Verb, pace: f64) -> Run {
        self.start_after(verb, pace, std::future::ready(()))
    }

    /// As [`Self::start`], once `before` is done.
    pub fn start_after(
        &self,
        verb: Verb,
        pace: f64,
        before: impl Future<Output = ()> + Send + 'static,
    ) -> Run {
        let order = Order { verb, pace };
        let (sender, replies) = mpsc::channel(REPLIES);
        let helper = self.clone();
        tokio::spawn(async move {
            before.await;
            let limit = order.deadline() + GRACE;
            let last = match timeout(limit, helper.converse(&order, &sender)).await {
                Ok(Ok(last)) => last,
                Ok(Err(e)) => Reply::Failed(helper.failed(&e.to_string())),
                Err(_) => Reply::Failed(helper.failed(&format!("no answer within {} s", limit.as_secs()))),
            };
            // Without a hearer there is nobody to tell.
            let _ = sender.send(last).await;
        });
        Run { verb, replies }
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::new(Fault::Helper, format!("{}: {why}", self.path.display()))
    }

    /// Passes on steps; returns the final reply.
    async fn converse(&self, order: &Order, steps: &mpsc::Sender<Reply>) -> io::Result<Reply> {
        // The child is not waited for: tokio reaps it whenever it ends.
        let (mut stream, _child) = self.connect().await?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut received = Vec::new();
        loop {
            match next_reply(&mut stream, &mut received).await? {
                step @ Reply::Step(_) => steps.send(step).await.map_err(io::Error::other)?,
                last => return Ok(last),
            }
        }
    }

    async fn connect(&self) -> io::Result<(UnixStream, Option<Child>)> {
        if self.path.as_os_str().is_empty() {
            return Err(io::Error::other("`recovery.helper` names none"));
        }
        if is_socket(self.path.clone()).await? {
            return Ok((UnixStream::connect(&self.path).await?, None));
        }
        let (stream, child) = spawn(&self.path, &self.config)?;
        Ok((stream, Some(child)))
    }
}

/// An order under way. Dropping it changes nothing: what has begun is carried out.
#[derive(Debug)]
pub struct Run {
    pub verb: Verb,
    replies: mpsc::Receiver<Reply>,
}

impl Run {
    /// What the helper says next: steps, then one `Done` or `Failed`. May be dropped and
    /// called again; after the last one it says `Failed` again and again.
    pub async fn next(&mut self) -> Reply {
        self.replies.recv().await.unwrap_or_else(|| {
            Reply::Failed(Failure::new(Fault::Helper, format!("{} has ended", self.verb.name())))
        })
    }
}

/// A file system may hang; its question goes to a thread.
async fn is_socket(path: PathBuf) -> io::Result<bool> {
    let asked = tokio::task::spawn_blocking(move || std::fs::metadata(path));
    Ok(asked.await.map_err(io::Error::other)??.file_type().is_socket())
}

fn spawn(program: &Path, config: &Path) -> io::Result<(UnixStream, Child)> {
    let (near, far) = StdStream::pair()?;
    near.set_nonblocking(true)?;
    let stream = UnixStream::from_std(near)?;
    let child = Command::new(program)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::from(OwnedFd::from(far)))
        // Ctrl-C at a terminal is for the supervisor; a deed half done helps nobody.
        .process_group(0)
        .kill_on_drop(false)
        .spawn()?;
    Ok((stream, child))
}

async fn next_reply(stream: &mut UnixStream, received: &mut Vec<u8>) -> io::Result<Reply> {
    loop {
        if let Some(end) = received.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            return serde_json::from_slice(&line).map_err(|e| io::Error::other(format!("not a reply: {e}")));
        }
        if received.len() >= LONGEST {
            return Err(io::Error::other("a reply without an end"));
        }
        if stream.read_buf(received).await? == 0 {
            return Err(io::Error::other("it ended without an answer"));
        }
    }
}
