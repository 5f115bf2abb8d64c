//! What the image's own programs are asked for: an update, a factory reset. The service itself has
//! no right to either; it leaves an order for root.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::{Response, StatusCode};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::Context;
use super::body::{self, Body, json as reply};
use super::error::ApiError;
use super::fields::{self, Fields};
use crate::sys::store;

/// Larger than any root and its boot files.
const LARGEST: u64 = 768 << 20;
/// What an upload leaves free for the journal and everything else on that partition.
const SPARE: u64 = 128 << 20;
const BUNDLE: &str = "update.raucb";

/// `GET /v1/update`: the slots, and how far an update is.
///
/// # Errors
/// 404 where this is no image with slots.
pub fn slots(context: &Context) -> Result<Response<Body>, ApiError> {
    let slots = context.service.settings().appliance.slots();
    slots.map(|slots| reply(StatusCode::OK, &slots)).ok_or_else(no_image)
}

/// `POST /v1/factory-reset`: everything but models is forgotten; with `models` these, too.
///
/// # Errors
/// 400 for what is not understood, 404 where this is no image.
pub async fn factory_reset(context: &Context, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let value = fields::json(if body.is_empty() { b"{}" } else { body })?;
    let models = Fields::root(&value)?.flag("models")?.unwrap_or(false);
    let name = if models { "factory-reset-models" } else { "factory-reset" };
    let orders = orders(context)?;
    blocking(move || order(&orders, name, "")).await?;
    Ok(reply(StatusCode::ACCEPTED, &json!({"ordered": name})))
}

/// `POST /v1/update`: the body is an update bundle, of any length that there is room for. It is
/// checked and installed after the answer: `GET` tells how far that is.
///
/// # Errors
/// 404 where this is no image, 409 where another is being sent, 413 or 507 where there is no room,
/// 408 where it stops coming, 400 where it breaks off.
pub async fn update<B>(context: &Context, body: B) -> Result<Response<Body>, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let orders = orders(context)?;
    let _one = One::take(&context.uploading).ok_or_else(|| {
        let message = "Another update is being sent: wait until it is there.";
        ApiError::invalid(message).status(StatusCode::CONFLICT).code("update_under_way")
    })?;
    let directory = orders.parent().unwrap_or(&orders).to_owned();
    let room = blocking({
        let directory = directory.clone();
        move || rustix::fs::statvfs(&directory).map_err(io::Error::from)
    });
    let room = room.await?;
    let room = room.f_bavail.saturating_mul(room.f_frsize).saturating_sub(SPARE);
    let announced = body.size_hint().lower();
    if announced > LARGEST.min(room) {
        return Err(no_room(room));
    }
    let path = directory.join(BUNDLE);
    let limits = context.service.settings().limits;
    let length = store_body(body, path.clone(), LARGEST.min(room), limits.body_s.0).await;
    if length.is_err() {
        let part = part(&path);
        // What is left would be in the way of the next.
        let _ = blocking(move || std::fs::remove_file(part)).await;
    }
    let length = length?;
    let text = path.to_string_lossy().into_owned();
    blocking(move || order(&orders, "install-bundle", &text)).await?;
    Ok(reply(StatusCode::ACCEPTED, &json!({"ordered": "install-bundle", "bytes": length})))
}

/// Writes a body to `path`, which appears when it is whole. How long it is.
async fn store_body<B>(body: B, path: PathBuf, most: u64, patience: Duration) -> Result<u64, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let created = part(&path);
    let mut file = blocking(move || File::create(created)).await?;
    let mut length = 0;
    while let Some(piece) = body::piece(body.as_mut(), patience, "update").await? {
        length += piece.len() as u64;
        if length > most {
            return Err(no_room(most));
        }
        file = blocking(move || file.write_all(&piece).map(|()| file)).await?;
    }
    if length == 0 {
        return Err(ApiError::invalid("The request's body is empty: send an update bundle."));
    }
    blocking(move || {
        file.sync_all()?;
        std::fs::rename(part(&path), &path)?;
        store::sync_directory(&path)
    })
    .await?;
    Ok(length)
}

fn part(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// Leaves an order: it has its name only when it is whole.
fn order(orders: &Path, name: &str, text: &str) -> io::Result<()> {
    store::replace(&orders.join(name), text.as_bytes())
}

fn orders(context: &Context) -> Result<PathBuf, ApiError> {
    let orders = context.service.settings().appliance.orders;
    if orders.as_os_str().is_empty() { Err(no_image()) } else { Ok(orders) }
}

pub(super) fn no_image() -> ApiError {
    let message = "There is nothing to update, to reset or to install: the service does not run on the appliance's image.";
    ApiError::invalid(message).status(StatusCode::NOT_FOUND).code("not_an_image")
}

fn no_room(room: u64) -> ApiError {
    let message = format!("The update is larger than the {room} bytes there is room for.");
    ApiError::invalid(message).status(StatusCode::INSUFFICIENT_STORAGE).code("no_room")
}

/// What may wait for the card is not done on the event loop.
async fn blocking<T: Send + 'static>(
    deed: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |what: String| ApiError::internal(format!("the order cannot be left: {what}"));
    let done = spawn_blocking(deed).await.map_err(|e| failed(e.to_string()))?;
    done.map_err(|e| failed(e.to_string()))
}

/// One at a time.
struct One<'a>(&'a AtomicBool);

impl<'a> One<'a> {
    fn take(taken: &'a AtomicBool) -> Option<Self> {
        (!taken.swap(true, Ordering::AcqRel)).then_some(Self(taken))
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
