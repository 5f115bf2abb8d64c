//! HTTP: connections, limits, routes, and one file per dialect.
//!
//! | to change | open |
//! |---|---|
//! | listening, connections, draining | [`server`] |
//! | which path leads where | [`route`] |
//! | how errors are told | [`error`] |
//! | how bodies are read and written | [`body`] |
//! | how answers are collected and streamed, whatever the dialect | [`answer`] |
//! | how wrong types and values are told | [`fields`] |
//! | what dialects have in common of messages and parameters | [`message`], [`sampling`] |
//! | liveness, readiness, status | [`health`] |
//! | the document of the interface | [`openapi`], openapi.json |
//! | the page for a person | [`page`] |
//! | the archive for who was not there | [`diagnostics`], `redact` |
//! | what is told in numbers, and how ends of requests are counted | [`metrics`], [`tally`] |
//! | OpenAI's dialect | [`openai`] |
//! | Ollama's dialect | [`ollama`] |

pub mod answer;
pub mod body;
pub mod diagnostics;
pub mod error;
pub mod fields;
pub mod health;
pub mod message;
pub mod metrics;
pub mod ollama;
pub mod openai;
pub mod openapi;
pub mod page;
mod redact;
pub mod route;
pub mod sampling;
pub mod sentences;
pub mod server;
pub mod tally;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::service::Service;
use crate::sys::recent::Recent;
use body::BodyBudget;
use diagnostics::Sources;

/// What every handler is given.
pub struct Context {
    pub service: Service,
    pub bodies: BodyBudget,
    /// Seconds since 1970 at which the service started.
    pub started: u64,
    pub sources: Sources,
}

impl Context {
    /// `config` is the configuration file, `log` this program's last lines.
    pub fn new(service: Service, config: &Path, log: Recent) -> Self {
        let bodies = BodyBudget::new(service.settings().limits.body_bytes);
        Self { service, bodies, started: unix_time(), sources: Sources::new(config, log) }
    }
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
