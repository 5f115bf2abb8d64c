//! Counts what becomes of each request for an answer: once, however it ends.

use std::sync::{Arc, OnceLock};

use hyper::header::RETRY_AFTER;
use hyper::{Response, StatusCode};

use super::body::Body;
use super::{Context, names};
use crate::metrics::{Dialect, Outcome};

/// Which of the installed models a request asks for; `None` is the first.
pub type Asked = Arc<OnceLock<Option<String>>>;

/// A request whose end is counted. Dropped before, its client left.
pub struct Tally {
    context: Arc<Context>,
    dialect: Dialect,
    /// Who was asked, as soon as that is known.
    model: Asked,
    outcome: Outcome,
}

impl Tally {
    pub fn new(context: &Arc<Context>, dialect: Dialect, model: Asked) -> Self {
        Self { context: Arc::clone(context), dialect, model, outcome: Outcome::Abandoned }
    }

    /// The request got this response; a stream is counted when it ends.
    pub fn follow(mut self, response: &mut Response<Body>) {
        match response.extensions_mut().remove::<Ending>() {
            Some(Ending(fate)) => drop(fate.tally.set(self)),
            None => {
                let later = response.headers().contains_key(RETRY_AFTER);
                self.outcome = outcome(response.status(), later);
            }
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let model = names::told(&self.context, self.model.get().and_then(Option::as_deref));
        self.context.service.metrics().request(self.dialect, &model, self.outcome);
    }
}

/// The end of a stream, known to whoever writes it; counted when both that and the
/// response's head are done with.
#[derive(Clone, Default)]
pub struct Ending(Arc<Fate>);

#[derive(Default)]
struct Fate {
    tally: OnceLock<Tally>,
    outcome: OnceLock<Outcome>,
}

impl Ending {
    /// The stream ended so.
    pub fn is(&self, outcome: Outcome) {
        // Only its first end counts.
        let _ = self.0.outcome.set(outcome);
    }
}

impl Drop for Fate {
    fn drop(&mut self) {
        if let (Some(tally), Some(&outcome)) = (self.tally.get_mut(), self.outcome.get()) {
            tally.outcome = outcome;
        }
    }
}

/// How a response counts; `later`: it says when to try again.
pub fn outcome(status: StatusCode, later: bool) -> Outcome {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Outcome::Refused,
        status if status.is_client_error() => Outcome::ClientError,
        status if status.is_server_error() && later => Outcome::Refused,
        status if status.is_server_error() => Outcome::Failed,
        _ => Outcome::Answered,
    }
}
