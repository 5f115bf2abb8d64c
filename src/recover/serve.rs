//! The helper's end: takes one order, has a child carry it out, watches the deadline.
//!
//! The child is this same program: whatever it does may hang in the kernel, where no
//! signal reaches it. At the deadline the order has failed; the child is sent SIGKILL and
//! never waited for.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, Signal, kill_process_group};

use super::verb::{Order, Reply, Verb};
use crate::config::Worker;
use crate::fault::{Failure, Fault, Result};
use crate::sys::lines;

/// How long a client may take to say what it wants, and to read an answer.
const CLIENT: Duration = Duration::from_secs(5);
/// How long a child may take to end once its link is closed.
const EXIT: Duration = Duration::from_secs(1);

/// How the helper starts itself.
pub struct Launch {
    pub program: PathBuf,
    pub config: PathBuf,
    /// The card is restarted in the worker's environment.
    pub worker: Worker,
}

/// Takes one order from `stream` and answers there.
///
/// # Errors
/// As answered.
pub fn serve(stream: &File, launch: &Launch) -> Result<()> {
    for way in [Timeout::Recv, Timeout::Send] {
        // Not every stream is a socket; the others are for people.
        let _ = set_socket_timeout(stream, way, Some(CLIENT));
    }
    let answer = |reply: &Reply| {
        // A client that left has its order carried out all the same.
        let _ = lines::send(stream, reply);
    };
    match lines::receive::<Order>(&mut BufReader::new(stream)) {
        Ok(Some(order)) => carry_out(&order, launch, answer),
        Ok(None) => Err(Failure::new(Fault::Helper, "no order came")),
        Err(e) => {
            let failure = Failure::new(Fault::Helper, format!("not an order: {e}"));
            answer(&Reply::Failed(failure.clone()));
            Err(failure)
        }
    }
}

/// Carries out `order` in a child and passes on what it says. One final reply is given,
/// by the deadline.
///
/// # Errors
/// As answered.
pub fn carry_out(order: &Order, launch: &Launch, mut answer: impl FnMut(&Reply)) -> Result<()> {
    let until = Instant::now() + order.deadline();
    let (mut child, replies) = match start(order, launch) {
        Ok(started) => started,
        Err(e) => {
            let failure = Failure::new(Fault::Helper, format!("{}: {e}", launch.program.display()));
            answer(&Reply::Failed(failure.clone()));
            return Err(failure);
        }
    };
    let mut last_step = "the start".to_owned();
    let mut outcome = None;
    loop {
        match replies.recv_timeout(until.saturating_duration_since(Instant::now())) {
            // Whatever follows the final reply is for the journal.
            Ok(Ok(_)) if outcome.is_some() => {}
            Ok(Ok(reply)) => {
                answer(&reply);
                match reply {
                    Reply::Step(step) => last_step = step,
                    Reply::Done(_) => outcome = Some(Ok(())),
                    Reply::Failed(failure) => outcome = Some(Err(failure)),
                }
            }
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                kill(&child);
                let late = format!("not done within {} s, at: {last_step}", order.deadline().as_secs());
                return conclude(outcome, Failure::new(order.verb.fault(), late), answer);
            }
        }
    }
    // Its link is closed: it ends now, or is made to.
    let how = end(&mut child);
    conclude(outcome, Failure::new(Fault::Helper, format!("ended with {how} at: {last_step}")), answer)
}

/// Lets a child whose link is closed end; tells how it did.
fn end(child: &mut Child) -> String {
    let until = Instant::now() + EXIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.to_string(),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            _ => break,
        }
    }
    kill(child);
    "its link closed".into()
}

fn conclude(outcome: Option<Result<()>>, otherwise: Failure, mut answer: impl FnMut(&Reply)) -> Result<()> {
    outcome.unwrap_or_else(|| {
        answer(&Reply::Failed(otherwise.clone()));
        Err(otherwise)
    })
}

fn start(order: &Order, launch: &Launch) -> io::Result<(Child, Receiver<io::Result<Reply>>)> {
    let (near, far) = UnixStream::pair()?;
    let mut command = Command::new(&launch.program);
    command.arg("--config").arg(&launch.config).args(["--act", order.verb.name()]);
    command.args(["--pace", &order.pace.to_string()]);
    if order.verb == Verb::CardReboot {
        command.envs(&launch.worker.env);
    }
    // A group of its own: at the deadline the programs it started are ended with it.
    let child =
        command.stdin(Stdio::from(OwnedFd::from(far))).stdout(Stdio::null()).process_group(0).spawn()?;
    let (sender, replies) = sync_channel(16);
    thread::spawn(move || {
        let mut stream = BufReader::new(near);
        while let Some(reply) = lines::receive::<Reply>(&mut stream).transpose() {
            let over = reply.is_err();
            if sender.send(reply).is_err() || over {
                return;
            }
        }
    });
    Ok((child, replies))
}

fn kill(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // The only failure is that all of it is gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}
