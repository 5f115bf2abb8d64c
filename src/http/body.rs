//! Bodies: read within limits, written whole or as a stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::HeaderValue;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::error::ApiError;

/// A response's body.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A response with this body and type.
pub fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> hyper::Response<Body> {
    let mut response = hyper::Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A JSON response.
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> hyper::Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => response(status, "application/json", bytes),
        Err(e) => ApiError::internal(format!("an answer has no JSON form: {e}")).into_response(),
    }
}

/// A body fed from elsewhere, piece by piece; the feeder sees when the client is gone.
pub struct Pieces(pub mpsc::Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Bounds the memory of all request bodies being read at a time.
pub struct BodyBudget {
    kibibytes: Semaphore,
    total: u32,
}

impl BodyBudget {
    /// Room for four bodies of the largest size.
    pub fn new(largest: usize) -> Self {
        let total = kibibytes(largest.saturating_mul(4));
        Self { kibibytes: Semaphore::new(total as usize), total }
    }

    /// Reads a whole body of at most `limit` bytes within `time`.
    ///
    /// # Errors
    /// 413 where it is larger, 408 where it takes longer, 400 where it breaks off.
    pub async fn read<B>(&self, body: B, limit: usize, time: Duration) -> Result<Bytes, ApiError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let too_large = || {
            ApiError::invalid(format!("The request's body is larger than {limit} bytes."))
                .status(StatusCode::PAYLOAD_TOO_LARGE)
                .code("request_too_large")
        };
        let expected = body.size_hint();
        if usize::try_from(expected.lower()).map_or(true, |length| length > limit) {
            return Err(too_large());
        }
        let most = expected.upper().and_then(|upper| usize::try_from(upper).ok()).unwrap_or(limit).min(limit);
        let reading = async {
            let _room = self.kibibytes.acquire_many(kibibytes(most).min(self.total)).await;
            Limited::new(body, limit).collect().await
        };
        match timeout(time, reading).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(e)) => Err(ApiError::invalid(format!("The request's body broke off: {e}."))),
            Err(_) => Err(ApiError::invalid("The request's body took too long to arrive.")
                .status(StatusCode::REQUEST_TIMEOUT)
                .code("body_timeout")),
        }
    }
}

fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
