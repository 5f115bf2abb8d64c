//! Errors as OpenAI tells them, and as Ollama does.

use std::time::Duration;

use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::{Body, json};
use super::fields::set;
use super::tally;
use crate::fault::{Failure, Fault};
use crate::metrics::Outcome;
use crate::service::Refused;

/// How keys are asked for. Not `Basic`, for which browsers would put a question of their own.
const CHALLENGE: &str = "Bearer realm=\"llm8850\"";

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
    /// The place in line it would have had.
    pub position: Option<usize>,
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
            position: None,
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
        let mut error = json!({
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        });
        self.tell_wait(&mut error);
        json!({"error": error})
    }

    /// Ollama's `{"error": "…"}`, also as the last line of a stream.
    pub fn line(&self) -> Value {
        let mut line = json!({"error": self.message});
        self.tell_wait(&mut line);
        line
    }

    /// When to come back and the place in line, where they are known: for clients that show it.
    fn tell_wait(&self, object: &mut Value) {
        if let Some(seconds) = self.seconds() {
            set(object, "retry_after_s", seconds);
        }
        if let Some(position) = self.position {
            set(object, "queue_position", position);
        }
    }

    /// When to come back, in whole seconds.
    fn seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| after.as_secs_f64().ceil().max(1.0) as u64)
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
        if let Some(seconds) = self.seconds() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
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
            Fault::KeyLimit => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded"))
            }
            Fault::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout_error", Some("request_timeout")),
            Fault::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable_error", None),
        };
        let param = (failure.fault == Fault::ContextLength).then(|| "messages".to_owned());
        let code = code.or(Some(failure.fault.code()));
        let message = failure.to_string();
        Self { status, kind, code, param, message, retry_after: None, position: None }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let Refused { failure, retry_after, position } = refused;
        Self { retry_after: Some(retry_after), position, ..Self::from(failure) }
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
        let refused = Refused { failure, retry_after: Duration::from_millis(2100), position: Some(10) };
        let error = ApiError::from(refused);
        for told in [&error.body()["error"], &error.line()] {
            assert_eq!((&told["retry_after_s"], &told["queue_position"]), (&json!(3), &json!(10)));
        }
        let response = error.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
        let plain = ApiError::invalid("x");
        assert_eq!(plain.line(), json!({"error": "x"}), "what is not known is not told");
    }
}
