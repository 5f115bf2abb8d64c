//! Errors as OpenAI tells them, and as Ollama does.

use std::time::Duration;

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::{Body, json};
use super::tally;
use crate::fault::{Failure, Fault};
use crate::metrics::Outcome;
use crate::service::Refused;

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    /// OpenAI's `type`.
    pub kind: &'static str,
    pub code: Option<&'static str>,
    /// The parameter it is about.
    pub param: Option<String>,
    pub message: String,
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// 400: the request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            param: None,
            message: message.into(),
            retry_after: None,
        }
    }

    /// 500: the program is wrong.
    pub fn internal(detail: impl Into<String>) -> Self {
        Failure::new(Fault::Internal, detail).into()
    }

    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// `{"error": …}`, also as the last event of a stream.
    pub fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    /// Ollama's `{"error": "…"}`, also as the last line of a stream.
    pub fn line(&self) -> Value {
        json!({"error": self.message})
    }

    /// How a request that ends with it is counted.
    pub fn outcome(&self) -> Outcome {
        tally::outcome(self.status, self.retry_after.is_some())
    }

    pub fn into_response(self) -> Response<Body> {
        self.told(&self.body())
    }

    /// In Ollama's form.
    pub fn into_line(self) -> Response<Body> {
        self.told(&self.line())
    }

    fn told(&self, body: &Value) -> Response<Body> {
        let mut response = json(self.status, body);
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let (status, kind, code) = match failure.fault {
            Fault::RequestInvalid | Fault::Template => {
                (StatusCode::BAD_REQUEST, "invalid_request_error", None)
            }
            Fault::ContextLength => {
                (StatusCode::BAD_REQUEST, "invalid_request_error", Some("context_length_exceeded"))
            }
            Fault::Busy => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full")),
            Fault::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout_error", Some("request_timeout")),
            Fault::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable_error", None),
        };
        let param = (failure.fault == Fault::ContextLength).then(|| "messages".to_owned());
        let code = code.or(Some(failure.fault.code()));
        Self { status, kind, code, param, message: failure.to_string(), retry_after: None }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self { retry_after: Some(refused.retry_after), ..Self::from(refused.failure) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_status_and_a_code() {
        for &fault in Fault::ALL {
            let error = ApiError::from(Failure::new(fault, "x"));
            assert!(error.status.is_client_error() || error.status.is_server_error(), "{fault}");
            assert!(error.code.is_some() && error.message.contains(fault.code()), "{fault}");
        }
    }

    #[test]
    fn a_refusal_tells_when_to_come_back_in_whole_seconds() {
        let failure = Failure::new(Fault::Busy, "9 requests are at hand");
        let error = ApiError::from(Refused { failure, retry_after: Duration::from_millis(2100) });
        let response = error.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
    }
}
