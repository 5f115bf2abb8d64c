//! `POST /v1/responses`: an answer whole, or as server-sent events. Nothing is kept of it.
//!
//! | to change | open |
//! |---|---|
//! | which parameters and items are understood | [`request`] |
//! | what answers look like | [`reply`] |
//! | the events of a stream | [`events`] |

pub mod events;
pub mod reply;
pub mod request;

use bytes::Bytes;
use hyper::{Response, StatusCode};

use self::events::Events;
use self::reply::Reply;
use self::request::Asked;
use crate::http::answer;
use crate::http::body::{Body, json};
use crate::http::caller::Caller;
use crate::http::choices::Choices;
use crate::http::error::ApiError;
use crate::http::{Context, names};

/// Answers a request. Dropping the future, or the body of a stream, gives it up.
///
/// # Errors
/// Everything that is known to be wrong before the answer begins.
pub async fn create(context: &Context, caller: &Caller, body: Bytes) -> Result<Response<Body>, ApiError> {
    let settings = context.service.settings();
    let Asked { model, mut request, stream, told } = request::parse(&body, settings.limits.messages)?;
    drop(body);
    request.model = names::admit(context, &model)?;
    // The answer tells what was in force.
    let request = caller.adorn(request);
    let (sampling, model) = (request.sampling.clone(), request.model.clone());
    let choices = Choices::submit(context, caller, [request]).await?;
    let model = names::told(context, model.as_deref());
    let reply = Reply::new(model, told, &sampling);
    if stream {
        let events = Events::new(reply);
        return answer::stream(choices, events, settings.limits.keepalive_comment_s.0).await;
    }
    let whole = answer::collect_one(choices).await?;
    Ok(json(StatusCode::OK, &reply.ended(&whole.said, &whole.done)))
}

/// 404: answers of the past are not kept.
pub fn forgotten() -> ApiError {
    let message =
        "No response is found by any id: this server keeps none. Send the whole conversation as `input`.";
    ApiError::invalid(message).status(StatusCode::NOT_FOUND).code("response_not_found")
}

#[cfg(test)]
mod tests;
