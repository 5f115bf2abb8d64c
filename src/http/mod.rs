//! HTTP: connections, limits, routes, and one file per dialect.
//!
//! | to change | open |
//! |---|---|
//! | listening, connections, draining | [`server`] |
//! | who has a connection and who gives it up, what its bytes tell of the client | [`places`], [`wire`] |
//! | which path leads where | [`route`] |
//! | what is done with a request | [`dispatch`] |
//! | who may have what: keys | [`access`] |
//! | which pages may call | [`cors`] |
//! | how errors are told | [`error`] |
//! | how bodies are read and written | [`body`] |
//! | how answers are collected and streamed, whatever the dialect | [`answer`] |
//! | where an answer's events come from: worker, or a sentence instead of an error | [`choices`], [`caller`] |
//! | which names the model goes by | [`names`] |
//! | how wrong types and values are told | [`fields`] |
//! | what becomes of images | [`images`] |
//! | what dialects have in common of messages and parameters | [`message`], [`sampling`] |
//! | liveness, readiness, status | [`health`] |
//! | updates and factory reset of the image | [`appliance`] |
//! | models that are sent to the image | [`uploads`] |
//! | the document of the interface | [`openapi`], openapi.json |
//! | the page for a person | [`page`] |
//! | the archive for who was not there | [`diagnostics`], `redact` |
//! | what is told in numbers, and how ends of requests are counted | [`metrics`], [`tally`] |
//! | OpenAI's dialect | [`openai`] |
//! | Ollama's dialect | [`ollama`] |
//! | the calls of the vendor's runtime | [`vendor`] |

pub mod access;
pub mod answer;
pub mod appliance;
pub mod body;
pub mod caller;
pub mod choices;
pub mod cors;
pub mod diagnostics;
pub mod dispatch;
pub mod error;
pub mod fields;
pub mod form;
pub mod health;
pub mod images;
pub mod message;
pub mod metrics;
pub mod names;
pub mod ollama;
pub mod openai;
pub mod openapi;
pub mod page;
pub mod places;
mod redact;
pub mod route;
pub mod sampling;
pub mod sentences;
pub mod server;
pub mod tally;
pub mod uploads;
pub mod vendor;
pub mod wire;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use tokio::sync::{Mutex, watch};

use crate::service::{Service, Settings};
use crate::sys::recent::Recent;
use access::Places;
use body::BodyBudget;
use diagnostics::Sources;
use error::ApiError;
use vendor::polled::Polled;
use vendor::resident::Resident;

/// What every handler is given.
pub struct Context {
    pub service: Service,
    pub bodies: BodyBudget,
    /// Seconds since 1970 at which the service started.
    pub started: u64,
    pub sources: Sources,
    pub resident: Arc<Resident>,
    pub polled: Polled,
    /// What each key has under way.
    pub places: Places,
    /// Whether an update is being sent.
    pub uploading: AtomicBool,
    /// Held while a model is being pulled.
    pub pulling: Arc<Mutex<()>>,
    /// Addresses of the configuration that could not be listened on.
    unbound: Vec<String>,
    /// Whether the button is being held.
    button: watch::Receiver<bool>,
}

impl Context {
    /// `config` is the configuration file, `log` this program's last lines; `unbound` tells of
    /// addresses that could not be listened on, `button` whether it is held.
    pub fn new(
        service: Service,
        config: &Path,
        log: Recent,
        unbound: &[String],
        button: watch::Receiver<bool>,
    ) -> Self {
        let bodies = BodyBudget::new(service.settings().limits.body_bytes);
        let (resident, polled, unbound) = (Arc::default(), Polled::default(), unbound.to_vec());
        let sources = Sources::new(config, log);
        let (started, places, uploading) = (unix_time(), Places::default(), AtomicBool::new(false));
        let pulling = Arc::default();
        Self {
            service,
            bodies,
            started,
            sources,
            resident,
            polled,
            places,
            uploading,
            pulling,
            unbound,
            button,
        }
    }

    /// What is wrong in the configuration, as far as it is known, and what the image's own
    /// programs found wrong.
    pub fn problems(&self) -> Vec<String> {
        let Settings { problems, appliance, .. } = self.service.settings();
        problems.into_iter().chain(appliance.problems()).chain(self.unbound.iter().cloned()).collect()
    }

    /// Reads a request's body within the limits.
    ///
    /// # Errors
    /// 413, 408 or 400.
    pub async fn read<B>(&self, body: B) -> Result<Bytes, ApiError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limits = self.service.settings().limits;
        self.bodies.read(body, limits.body_bytes, limits.body_s.0).await
    }
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
