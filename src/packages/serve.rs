//! Root's end: one request per run. systemd starts it with a connection of its socket as standard
//! input.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde::{Deserialize, Serialize};

use super::Place;
use super::install::Step;
use super::protocol::{Refusal, Reply, Request, Result};
use super::writable::{Patience, Writable};
use crate::slots::TOLD;
use crate::sys::root::SysRoot;
use crate::sys::{lines, program, store};

/// What is told of the last package that was put in its place, or is being.
pub(super) const NAME: &str = "models.json";
const SYSTEMCTL: &str = "usr/bin/systemctl";
/// The service gives up a client sooner.
const CLIENT: Duration = Duration::from_secs(300);
/// For the service to end its answers and to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// How putting a package in its place goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub model: String,
    pub state: State,
    /// Bytes that are as the manifest says, of how many.
    pub checked: u64,
    pub bytes: u64,
    /// Why it was not installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Told {
    pub fn new(model: &str, state: State) -> Self {
        Self { model: model.into(), state, checked: 0, bytes: 0, why: None }
    }

    /// Not installed, and why.
    pub fn failed(model: &str, why: String) -> Self {
        Self { why: Some(why), ..Self::new(model, State::Failed) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Copying,
    Checking,
    Installed,
    Failed,
}

/// What is done when there are other packages than before, for the service to know them from its
/// next start on: whether that makes a difference to it.
pub type Changed<'a> = &'a dyn Fn() -> bool;

/// Takes one request from `stream` and answers there. What goes wrong is answered.
pub fn serve(root: &SysRoot, stream: &File, changed: Changed<'_>) {
    for way in [Timeout::Recv, Timeout::Send] {
        // Not every stream is a socket; the others are for people.
        let _ = set_socket_timeout(stream, way, Some(CLIENT));
    }
    let answer = |reply: &Reply| {
        // A client that left has it done all the same.
        let _ = lines::send(stream, reply);
    };
    let mut input = BufReader::new(stream);
    let done = match lines::receive::<Request>(&mut input) {
        Ok(Some(request)) => carry_out(root, request, &mut input, &answer, changed),
        Ok(None) => Err(Refusal::invalid("No request came.")),
        Err(e) => Err(Refusal::invalid(format!("It is no request: {e}."))),
    };
    if let Err(refusal) = done {
        tracing::warn!("refused: {}", refusal.message);
        answer(&Reply::Refused(refusal));
    }
}

fn carry_out(
    root: &SysRoot,
    request: Request,
    input: &mut dyn Read,
    answer: &dyn Fn(&Reply),
    changed: Changed<'_>,
) -> Result<()> {
    let open = || Writable::open(root, Patience::Refuse);
    let reply = match request {
        Request::Look { model } => Reply::Incoming(Place::new(root).look(&model)?),
        Request::List => Reply::List(Place::new(root).list()),
        Request::Begin { model, manifest } => Reply::Incoming(open()?.place.begin(&model, &manifest)?),
        Request::Write { model, path, offset } => {
            Reply::Received(open()?.place.write(&model, &path, offset, input)?)
        }
        Request::Drop { model } => {
            let writable = open()?;
            writable.place.look(&model)?;
            writable.place.discard(&model)?;
            Reply::Done
        }
        Request::Remove { model } => {
            // The service has the files open, where it knows of them.
            let gone = || {
                answer(&Reply::Done);
                if changed() {
                    start_anew(root);
                }
            };
            open()?.place.remove(&model, gone)?;
            tracing::info!("{model} is removed");
            return Ok(());
        }
        Request::Choose { model } => {
            let served = Place::new(root).is_default(&model);
            open()?.place.choose(&model)?;
            answer(&Reply::Done);
            if !served {
                tracing::info!("{model} is served from now on");
                changed();
                start_anew(root);
            }
            return Ok(());
        }
        Request::Install { model } => {
            let writable = open()?;
            writable.place.complete(&model)?;
            // The rest takes a while; how it goes is told elsewhere, from before the answer on.
            if let Err(refusal) = install(root, &writable.place, &model, || answer(&Reply::Done), changed) {
                tracing::error!("{model} is not installed: {}", refusal.message);
            }
            return Ok(());
        }
    };
    answer(&reply);
    Ok(())
}

/// Puts what arrived in its place, and tells how it goes. The service is started anew where that
/// serves it, or may.
pub(super) fn install(
    root: &SysRoot,
    place: &Place,
    model: &str,
    begun: impl FnOnce(),
    changed: Changed<'_>,
) -> Result<()> {
    let bytes = place.look(model).map_or(0, |incoming| incoming.files.iter().map(|file| file.bytes).sum());
    let mut told = Told { bytes, ..Told::new(model, State::Checking) };
    tell(root, &told);
    begun();
    let replaces = place.is_there(model);
    let done = place.install(model, &mut |step| {
        match step {
            Step::Checked(checked) => {
                told.checked = checked;
                tell(root, &told);
            }
            Step::Placed => {
                // The service tells it on, which it can only before it is started anew.
                told.state = State::Installed;
                tell(root, &told);
                changed();
                // Before what it replaces is removed: files that are open would keep the partition
                // from being read-only.
                if replaces || place.is_default(model) {
                    start_anew(root);
                }
            }
            _ => {}
        }
        Ok(())
    });
    match &done {
        Ok(()) => tracing::info!("{model} is installed"),
        Err(refusal) => {
            (told.state, told.why) = (State::Failed, Some(refusal.message.clone()));
            tell(root, &told);
        }
    }
    done
}

/// What is loaded is loaded by the service's start.
fn start_anew(root: &SysRoot) {
    let arguments = ["try-restart", "llm8850.service"];
    let until = Some(Instant::now() + PATIENCE);
    if let Err(e) = program::run(&root.path(SYSTEMCTL), &arguments, None, until) {
        tracing::error!("the service is not started anew: {e}");
    }
}

/// Tells others how it goes.
pub(super) fn tell(root: &SysRoot, told: &Told) {
    let path = root.path(Path::new(TOLD).join(NAME));
    let written =
        serde_json::to_vec(told).map_err(Into::into).and_then(|bytes| store::replace(&path, &bytes));
    if let Err(e) = written {
        tracing::error!("{}: {e}", path.display());
    }
}

/// At each start: what a power cut left is tidied, and the partition is read-only from then on.
/// What went wrong.
pub fn start(root: &SysRoot) -> Vec<String> {
    let done = Writable::open(root, Patience::Wait).and_then(|writable| writable.place.tidy());
    done.err().map(|refusal| refusal.message).into_iter().collect()
}
