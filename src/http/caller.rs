//! Who asks: what holds for a request besides its path and body.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::access::{Place, Places};
use super::error::ApiError;
use super::fields::wrong_value;
use super::tally::Asked;
use crate::chat::{Priority, Request};
use crate::config::Key;
use crate::fault::{Failure, Fault};
use crate::metrics::Denial;
use crate::service::{Refused, Service};

const PRIORITY: &str = "x-priority";
const DEADLINE: &str = "x-deadline-ms";
/// When a place among a key's requests may be free again. Nobody knows: its own clients do.
const SOON: Duration = Duration::from_secs(2);

/// The sender of one request.
#[derive(Clone)]
pub struct Caller {
    service: Service,
    /// Told instead of an error of the service.
    sentence: Option<String>,
    priority: Option<Priority>,
    deadline_ms: Option<u32>,
    /// The key that came along, where one is asked for.
    key: Option<Key>,
    /// The fault instead of which it was told.
    spoken: Arc<OnceLock<Fault>>,
    asked: Asked,
}

impl Caller {
    /// Who came by `listener`, an address of the configuration.
    pub fn at(listener: SocketAddr, service: &Service) -> Self {
        let sentence = service.settings().server.sentence(listener).map(str::to_owned);
        let (priority, deadline_ms, key) = (None, None, None);
        let (spoken, asked) = (Arc::default(), Arc::default());
        Self { service: service.clone(), sentence, priority, deadline_ms, key, spoken, asked }
    }

    /// Takes in what the request's head says.
    ///
    /// # Errors
    /// 400 with the name of the wrong header.
    pub fn read(&mut self, headers: &HeaderMap) -> Result<(), ApiError> {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
        self.priority = match text(PRIORITY).map(str::trim) {
            None => None,
            Some("high") => Some(Priority::High),
            Some("normal") => Some(Priority::Normal),
            Some("low") => Some(Priority::Low),
            Some(_) => return Err(wrong_value(PRIORITY, "must be 'high', 'normal' or 'low'")),
        };
        let deadline = text(DEADLINE).map(|text| text.trim().parse::<u32>().ok().filter(|&ms| ms > 0));
        self.deadline_ms = match deadline {
            Some(None) => return Err(wrong_value(DEADLINE, "must be a number of milliseconds, from 1")),
            known => known.flatten(),
        };
        Ok(())
    }

    /// Who asks was let in with this key. Its sentence goes before the address's.
    pub fn enter(&mut self, key: Option<Key>) {
        if let Some(sentence) = key.as_ref().and_then(|key| key.spoken_fallback.clone()) {
            self.sentence = Some(sentence);
        }
        self.key = key;
    }

    /// A place among the key's requests for an answer, where those are bounded.
    ///
    /// # Errors
    /// [`Fault::KeyLimit`] where all are taken.
    pub fn place(&self, places: &Places) -> Result<Option<Place>, Refused> {
        let bounded = self.key.as_ref().and_then(|key| key.requests.map(|most| (&key.name, most)));
        let Some((name, most)) = bounded else { return Ok(None) };
        places.take(name, most).map(Some).ok_or_else(|| {
            self.service.metrics().denied(Denial::KeyLimit);
            let failure = Failure::new(Fault::KeyLimit, format!("{most} of its requests are under way"));
            Refused { failure, retry_after: SOON, position: None }
        })
    }

    /// The request with what it leaves open: its body goes before its head, that before what its
    /// key says, and that before the configuration's defaults. Twice is as good as once.
    pub fn adorn(&self, mut request: Request) -> Request {
        // All choices of an answer are of one model.
        let _ = self.asked.set(request.model.clone());
        let key = self.key.as_ref();
        let priority = self.priority.or(key.and_then(|key| key.priority));
        request.priority = priority.unwrap_or(request.priority);
        let deadline = request.limits.deadline_ms.or(self.deadline_ms);
        request.limits.deadline_ms = deadline.or(key.and_then(Key::deadline_ms));
        self.service.settings().defaults.apply(&mut request);
        if let Some(most) = key.and_then(|key| key.max_tokens) {
            let asked = request.limits.max_tokens.unwrap_or(most);
            request.limits.max_tokens = Some(asked.min(most));
        }
        request
    }

    /// Which model it asks for, as soon as that is known.
    pub fn asked(&self) -> Asked {
        Arc::clone(&self.asked)
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
