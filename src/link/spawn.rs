//! Starts a worker with one end of a socketpair as its standard input, and watches it.
//!
//! A worker whose supervisor dies sees its input end and exits: no worker outlives the
//! supervisor that could read its answers.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command as Process};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{Command, Report};
use super::pipe::{AsyncReader, AsyncWriter};
use crate::fault::{Failure, Fault, Result};

/// Commands that may wait for a worker that does not read; further ones mean it hangs.
const COMMANDS: usize = 64;
/// Reports that may wait for the service.
const REPORTS: usize = 256;
/// How long after the link's end the process may take to end before that is a fault.
const EXIT_GRACE: Duration = Duration::from_millis(200);
/// How long the last frames of an ended process are read.
const DRAIN: Duration = Duration::from_secs(1);

/// What comes from a worker, in order. `Exited` is the last.
#[derive(Debug)]
pub enum Incoming {
    Report(Report),
    /// The link is unusable although the process still lives.
    Lost(Failure),
    /// The process ended.
    Exited(Failure),
}

/// A worker's process and both directions of its link.
pub struct Worker {
    pub pid: u32,
    pidfd: OwnedFd,
    commands: mpsc::Sender<Command>,
    incoming: mpsc::Receiver<Incoming>,
}

impl Worker {
    /// Starts `program --config config` with `arguments` and, added to the environment, `env`.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Fault::WorkerStart`], naming the program.
    pub fn spawn<'a>(
        program: &Path,
        config: &Path,
        arguments: &[PathBuf],
        env: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self> {
        let failed =
            |e: std::io::Error| Failure::new(Fault::WorkerStart, format!("{}: {e}", program.display()));
        let (near, far) = StdStream::pair().map_err(failed)?;
        near.set_nonblocking(true).map_err(failed)?;
        let stream = UnixStream::from_std(near).map_err(failed)?;
        let child = Process::new(program)
            .arg("--config")
            .arg(config)
            .args(arguments)
            .envs(env)
            // Names sockets that the supervisor was passed.
            .env_remove("LISTEN_FDNAMES")
            .stdin(Stdio::from(OwnedFd::from(far)))
            // Ctrl-C at a terminal is for the supervisor, which then stops the worker.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return Err(failed(std::io::Error::other("ended before it could be watched")));
        };
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
        let (commands, to_send) = mpsc::channel(COMMANDS);
        let (received, incoming) = mpsc::channel(REPORTS);
        let (read, write) = stream.into_split();
        tokio::spawn(send(write, to_send));
        tokio::spawn(receive(read, child, received));
        Ok(Self { pid: pid.as_raw_pid().unsigned_abs(), pidfd, commands, incoming })
    }

    /// Queues a command.
    ///
    /// # Errors
    /// [`Fault::WorkerLink`] where the worker does not read, or is gone.
    pub fn command(&self, command: Command) -> Result<()> {
        self.commands
            .try_send(command)
            .map_err(|_| Failure::new(Fault::WorkerLink, "the worker does not take commands any more"))
    }

    /// What comes next. May be dropped and called again.
    pub async fn next(&mut self) -> Incoming {
        self.incoming.recv().await.unwrap_or_else(|| {
            Incoming::Exited(Failure::new(Fault::Internal, "the worker is no longer watched"))
        })
    }

    /// Closes the link towards the worker, which it sees as the end of its input.
    pub fn unlink(&mut self) {
        self.commands = mpsc::channel(1).0;
    }

    /// Sends SIGTERM. A process that has ended is left alone.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // The only failure is that the process is gone already.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }
}

async fn send(write: OwnedWriteHalf, mut commands: mpsc::Receiver<Command>) {
    let mut writer = AsyncWriter::<_, Command>::new(write);
    while let Some(command) = commands.recv().await {
        // A lost link is noticed and reported by the receiving side.
        if writer.send(&command).await.is_err() {
            return;
        }
    }
}

async fn receive(read: OwnedReadHalf, mut child: Child, received: mpsc::Sender<Incoming>) {
    let mut reader = AsyncReader::<_, Report>::new(read);
    let lost = loop {
        let next = tokio::select! {
            biased;
            next = reader.receive() => next,
            _ = child.wait() => {
                let _ = timeout(DRAIN, drain(&mut reader, &received)).await;
                break None;
            }
        };
        match next {
            Ok(Some(report)) => {
                if received.send(Incoming::Report(report)).await.is_err() {
                    return;
                }
            }
            Ok(None) if timeout(EXIT_GRACE, child.wait()).await.is_ok() => break None,
            Ok(None) => break Some(Failure::new(Fault::WorkerLink, "it closed its end of the link")),
            Err(failure) => break Some(failure),
        }
    };
    if let Some(lost) = lost {
        let _ = received.send(Incoming::Lost(lost)).await;
    }
    let _ = received.send(Incoming::Exited(exit(child.wait().await))).await;
}

/// Hands on what an ended process had still written.
async fn drain(reader: &mut AsyncReader<OwnedReadHalf, Report>, received: &mpsc::Sender<Incoming>) {
    while let Ok(Some(report)) = reader.receive().await {
        if received.send(Incoming::Report(report)).await.is_err() {
            return;
        }
    }
}

fn exit(status: std::io::Result<ExitStatus>) -> Failure {
    let how = match status.as_ref().map(|s| (s.code(), s.signal())) {
        Ok((Some(code), _)) => format!("exit status {code}"),
        Ok((_, Some(signal))) => format!("signal {signal}"),
        Ok((None, None)) => "unknown exit".into(),
        Err(e) => e.to_string(),
    };
    Failure::new(Fault::WorkerExit, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// A program that does what `script` says, whatever its arguments.
    fn program(dir: &Path, script: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("worker");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn ends(script: &str, then: impl FnOnce(&Worker)) -> (Vec<Incoming>, Failure) {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = Worker::spawn(&program(dir.path(), script), Path::new("x"), &[], []).unwrap();
        then(&worker);
        let mut before = Vec::new();
        loop {
            match worker.next().await {
                Incoming::Exited(failure) => return (before, failure),
                incoming => before.push(incoming),
            }
            if matches!(before.last(), Some(Incoming::Lost(_))) {
                worker.unlink();
            }
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure =
            run(async { Worker::spawn(Path::new("/no/such"), Path::new("x"), &[], []).err() }).unwrap();
        assert_eq!(failure.fault, Fault::WorkerStart);
        assert!(failure.detail.contains("/no/such"));
    }

    #[test]
    fn the_way_a_process_ends_is_told() {
        run(async {
            assert_eq!(ends("exit 3", |_| {}).await.1.detail, "exit status 3");
            assert_eq!(ends("exec sleep 1000", Worker::terminate).await.1.detail, "signal 15");
            assert_eq!(ends("trap '' TERM; read x", Worker::kill).await.1.detail, "signal 9");
        });
    }

    #[test]
    fn noise_on_the_link_is_a_fault_and_the_exit_still_follows() {
        run(async {
            let (before, end) = ends("echo this is surely not a frame >&0; read x; exit 7", |_| {}).await;
            assert!(matches!(&before[..], [Incoming::Lost(f)] if f.fault == Fault::WorkerLink), "{before:?}");
            assert_eq!(end.fault, Fault::WorkerExit);
        });
    }
}
