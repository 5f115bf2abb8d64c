//! Bodies: read within limits, written whole or as a stream.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::HeaderValue;
use tokio::sync::{mpsc, oneshot};
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

/// A body, and what is done when it is over: at its end, or where it is dropped before.
pub struct Followed<B> {
    body: B,
    over: Option<Box<dyn FnOnce() + Send>>,
}

impl<B: HttpBody> Followed<B> {
    pub fn new(body: B, over: impl FnOnce() + Send + 'static) -> Self {
        let mut followed = Self { body, over: Some(Box::new(over)) };
        if followed.body.is_end_stream() {
            followed.is_over();
        }
        followed
    }
}

impl<B> Followed<B> {
    fn is_over(&mut self) {
        if let Some(over) = self.over.take() {
            over();
        }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Followed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.is_over();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Followed<B> {
    fn drop(&mut self) {
        self.is_over();
    }
}

/// The next piece of a body that is not read into memory; `None` at its end. `what` it is of.
///
/// # Errors
/// 408 where none comes within `patience`, 400 where the body breaks off.
pub async fn piece<B>(
    mut body: Pin<&mut B>,
    patience: Duration,
    what: &str,
) -> Result<Option<Bytes>, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let frame = timeout(patience, body.frame()).await.map_err(|_| {
            ApiError::invalid(format!("The {what} stopped coming."))
                .status(StatusCode::REQUEST_TIMEOUT)
                .code("body_timeout")
        })?;
        let Some(frame) = frame else { return Ok(None) };
        let broken = |e: B::Error| ApiError::invalid(format!("The {what} broke off: {}.", e.into()));
        // What is no data is a trailer.
        if let Ok(piece) = frame.map_err(broken)?.into_data() {
            return Ok(Some(piece));
        }
    }
}

/// Bounds the memory of all request bodies being read at a time. What was announced but not sent
/// takes no room, and when there is no more the largest body makes some: whoever asks for little
/// waits for nobody.
pub struct BodyBudget {
    most: usize,
    bodies: Mutex<Bodies>,
}

#[derive(Default)]
struct Bodies {
    last: u64,
    total: usize,
    /// How large each is so far, and what ends it when dropped.
    read: BTreeMap<u64, (usize, oneshot::Sender<()>)>,
}

/// What a body takes of the budget. Given back when dropped.
struct Share<'a> {
    budget: &'a BodyBudget,
    number: u64,
}

impl BodyBudget {
    /// Room for a body of the largest size, and half as much.
    pub fn new(largest: usize) -> Self {
        Self { most: largest.saturating_add(largest / 2), bodies: Mutex::default() }
    }

    /// Reads a whole body of at most `limit` bytes within `time`.
    ///
    /// # Errors
    /// 413 where it is larger, 408 where it takes longer, 400 where it breaks off, 429 where it
    /// makes room for others.
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
        if usize::try_from(body.size_hint().lower()).map_or(true, |length| length > limit) {
            return Err(too_large());
        }
        let (share, ended) = self.share();
        let reading = async {
            let mut body = std::pin::pin!(Limited::new(body, limit));
            // Copied: pieces as small as a client likes would take far more room than they hold.
            let mut whole = Vec::new();
            while let Some(frame) = body.frame().await {
                if let Ok(piece) = frame?.into_data() {
                    share.grow(piece.len());
                    whole.extend_from_slice(&piece);
                }
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(whole)
        };
        let reading = async {
            tokio::select! {
                biased;
                _ = ended => Err(no_room()),
                read = reading => match read {
                    Ok(whole) => Ok(whole.into()),
                    Err(e) if e.is::<LengthLimitError>() => Err(too_large()),
                    Err(e) => Err(ApiError::invalid(format!("The request's body broke off: {e}."))),
                },
            }
        };
        timeout(time, reading).await.unwrap_or_else(|_| {
            Err(ApiError::invalid("The request's body took too long to arrive.")
                .status(StatusCode::REQUEST_TIMEOUT)
                .code("body_timeout"))
        })
    }

    fn share(&self) -> (Share<'_>, oneshot::Receiver<()>) {
        let (keep, ended) = oneshot::channel();
        let mut bodies = self.bodies();
        bodies.last += 1;
        let number = bodies.last;
        bodies.read.insert(number, (0, keep));
        (Share { budget: self, number }, ended)
    }

    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_room() -> ApiError {
    let message = "Too many large requests are being sent at a time, and this is the largest.";
    ApiError {
        kind: "rate_limit_error",
        retry_after: Some(Duration::from_secs(1)),
        ..ApiError::invalid(message).status(StatusCode::TOO_MANY_REQUESTS).code("too_many_bodies")
    }
}

impl Bodies {
    fn remove(&mut self, number: u64) {
        if let Some((size, _)) = self.read.remove(&number) {
            self.total -= size;
        }
    }
}

impl Share<'_> {
    /// The body has become larger by so many bytes.
    fn grow(&self, bytes: usize) {
        let mut bodies = self.budget.bodies();
        let Bodies { read, total, .. } = &mut *bodies;
        let Some((size, _)) = read.get_mut(&self.number) else { return };
        *size += bytes;
        *total += bytes;
        if bodies.total > self.budget.most
            && let Some((&largest, _)) = bodies.read.iter().max_by_key(|(_, (size, _))| *size)
        {
            bodies.remove(largest);
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.bodies().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_body_makes_room() {
        let budget = BodyBudget::new(20);
        let ended =
            |ended: &mut oneshot::Receiver<()>| ended.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        let ((large, mut large_ended), (small, mut small_ended)) = (budget.share(), budget.share());
        large.grow(20);
        small.grow(10);
        assert!(!ended(&mut large_ended) && !ended(&mut small_ended));
        small.grow(1);
        assert!(ended(&mut large_ended) && !ended(&mut small_ended));
        large.grow(30);
        assert_eq!(budget.bodies().total, 11, "what has ended grows no more");
        drop((large, small));
        assert_eq!(budget.bodies().total, 0);
    }
}
