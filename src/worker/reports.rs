//! The way to the supervisor, shared by the card thread and the I/O thread.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use super::inbox::Inbox;
use crate::link::frame::Report;
use crate::link::pipe::Writer;

/// Sends whole frames, one at a time.
pub struct Reports {
    writer: Mutex<Writer<UnixStream, Report>>,
    inbox: Arc<Inbox>,
}

impl Reports {
    /// Reports go to `socket`; when that fails, `inbox` is stopped.
    pub fn new(socket: UnixStream, inbox: Arc<Inbox>) -> Self {
        Self { writer: Mutex::new(Writer::new(socket)), inbox }
    }

    /// Sends one report. Without a supervisor there is nobody to work for: the worker stops.
    pub fn send(&self, report: &Report) {
        let sent = self.writer.lock().unwrap_or_else(PoisonError::into_inner).send(report);
        if let Err(failure) = sent {
            tracing::error!(%failure, "a report could not be sent");
            self.inbox.stop();
        }
    }
}
