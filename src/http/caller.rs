//! Who asks: what holds for a request besides its path and body.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use super::error::ApiError;
use crate::fault::{Failure, Fault};
use crate::service::Service;

/// The sender of one request.
#[derive(Clone)]
pub struct Caller {
    service: Service,
    /// Told instead of an error of the service.
    sentence: Option<String>,
    /// The fault instead of which it was told.
    spoken: Arc<OnceLock<Fault>>,
}

impl Caller {
    /// Who came by `listener`, an address of the configuration.
    pub fn at(listener: SocketAddr, service: &Service) -> Self {
        let sentence = service.settings().server.sentence(listener).map(str::to_owned);
        Self { service: service.clone(), sentence, spoken: Arc::default() }
    }

    /// The sentence to tell instead of `failure`. Where the request itself is wrong there is none.
    pub fn instead_of(&self, failure: &Failure) -> Option<&str> {
        let status = ApiError::from(failure.clone()).status;
        let sentence = self.sentence.as_deref();
        let sentence = sentence.filter(|_| status.is_server_error() || status.as_u16() == 429)?;
        if self.spoken.set(failure.fault).is_ok() {
            self.service.spoken();
        }
        Some(sentence)
    }

    /// The fault instead of which a sentence was told.
    pub fn spoken(&self) -> Option<Fault> {
        self.spoken.get().copied()
    }
}

#[cfg(test)]
mod tests;
