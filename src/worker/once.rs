//! One answer without a supervisor, for bringing up a card or a model.

use std::io::Write;
use std::sync::Arc;

use super::inbox::Job;
use super::session::{Session, Watch};
use super::settings::Settings;
use crate::axcl::Gauge;
use crate::chat::{Delta, Done, Event, Request, RequestId};
use crate::fault::{Failure, Fault, Result};
use crate::link::frame::ModelInfo;

/// What came of it.
pub struct Once {
    pub info: ModelInfo,
    pub done: Done,
}

/// Loads the model and answers `request`; text goes to `out` as it comes, progress of the
/// load to `progress`.
///
/// # Errors
/// As for a worker; nothing is sent anywhere.
pub fn answer_once(
    settings: &Settings,
    request: Request,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u32, u32, &str),
) -> Result<Once> {
    let never = || false;
    let gauge = Arc::new(Gauge::default());
    let gone = || Failure::new(Fault::Internal, "the answer did not end");
    let mut watch = Watch { stop: &never, report: progress };
    let mut session = Session::open(settings, &gauge, &mut watch)?.ok_or_else(gone)?;
    let job = Job::new(RequestId(1), Arc::new(request), Vec::new());
    let (mut done, mut written) = (None, Ok(()));
    let mut write = |delta: &Delta| {
        if written.is_ok() {
            written = write!(out, "{}{}", delta.reasoning, delta.content).and_then(|()| out.flush());
        }
    };
    session.answer(
        &job,
        &never,
        &mut |event| match event {
            Event::Token(token) => write(&token.delta),
            Event::Done(end) => {
                write(&end.tail);
                done = Some(end);
            }
            Event::Started(_) | Event::Restart | Event::Failed(_) => {}
        },
        &mut |_| {},
    )?;
    written.map_err(|e| Failure::new(Fault::Internal, format!("the answer cannot be written: {e}")))?;
    let info = session.loaded().next().cloned().ok_or_else(gone)?;
    Ok(Once { info, done: done.ok_or_else(gone)? })
}
