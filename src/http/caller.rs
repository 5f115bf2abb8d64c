//! Who asks: what holds for a request besides its path and body.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::error::ApiError;
use super::fields::wrong_value;
use super::tally::Asked;
use crate::chat::{Priority, Request};
use crate::fault::{Failure, Fault};
use crate::service::Service;

const PRIORITY: &str = "x-priority";
const DEADLINE: &str = "x-deadline-ms";

/// The sender of one request.
#[derive(Clone)]
pub struct Caller {
    service: Service,
    /// Told instead of an error of the service.
    sentence: Option<String>,
    priority: Option<Priority>,
    deadline_ms: Option<u32>,
    /// The fault instead of which it was told.
    spoken: Arc<OnceLock<Fault>>,
    asked: Asked,
}

impl Caller {
    /// Who came by `listener`, an address of the configuration.
    pub fn at(listener: SocketAddr, service: &Service) -> Self {
        let sentence = service.settings().server.sentence(listener).map(str::to_owned);
        let (priority, deadline_ms, spoken, asked) = (None, None, Arc::default(), Arc::default());
        Self { service: service.clone(), sentence, priority, deadline_ms, spoken, asked }
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

    /// The request with what its head says; the body goes before it.
    pub fn adorn(&self, mut request: Request) -> Request {
        // All choices of an answer are of one model.
        let _ = self.asked.set(request.model.clone());
        request.priority = self.priority.unwrap_or(request.priority);
        request.limits.deadline_ms = request.limits.deadline_ms.or(self.deadline_ms);
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
