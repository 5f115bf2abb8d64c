//! Who may have what: the keys of `[access]`, as requests bring them.
//!
//! What a key is and how it is found is `config::access`'s; here is what resources ask for,
//! how keys are read from a request's head, and how many requests each has under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, StatusCode};

use super::error::ApiError;
use crate::config::{Key, KeyHash};
use crate::fault::{Failure, Fault};
use crate::metrics::Denial;
use crate::service::Service;

/// Headers that hold nothing but a key: Azure's, and one common among other services.
const PLAIN: [&str; 2] = ["api-key", "x-api-key"];
const HOW: &str = "send it as 'Authorization: Bearer KEY', 'api-key: KEY' or 'x-api-key: KEY'";

/// What a resource asks of its callers, once there are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is open to everybody.
    Nothing,
    /// A key, unless `access.public_status`.
    Status,
    /// Any key.
    Key,
    /// A key with `admin`.
    Admin,
    /// The same, even where nobody else needs a key: what it does cannot be undone.
    Owner,
}

/// Lets a request in, or not; with whose key, where one is asked for.
///
/// # Errors
/// 401 without a right key, 403 where it may not do this, 503 where no key can be right.
pub fn admit(service: &Service, need: Need, headers: &HeaderMap) -> Result<Option<Key>, ApiError> {
    let access = service.settings().access;
    if !access.locked() && need == Need::Owner {
        return Err(no_owner());
    }
    let open = !access.locked() || need == Need::Nothing || need == Need::Status && access.public_status();
    if open {
        return Ok(None);
    }
    let denied = |why, error: ApiError| {
        service.metrics().denied(why);
        Err(error)
    };
    if access.broken() {
        let detail = "`[access]` has a mistake: nobody is answered until it is corrected";
        return denied(Denial::Closed, Failure::new(Fault::Config, detail).into());
    }
    let given = match given(headers) {
        Ok(Some(given)) => given,
        Ok(None) => {
            return denied(Denial::NoKey, unauthorized(&format!("You did not provide an API key: {HOW}.")));
        }
        Err(what) => return denied(Denial::NoKey, unauthorized(&format!("{what}: {HOW}."))),
    };
    match access.find(&KeyHash::of(&given)) {
        None => denied(Denial::WrongKey, unauthorized("Incorrect API key provided.")),
        Some(key) if matches!(need, Need::Admin | Need::Owner) && !key.admin => {
            denied(Denial::NotAdmin, forbidden())
        }
        Some(key) => Ok(Some(key.clone())),
    }
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::invalid(message).status(StatusCode::UNAUTHORIZED).code("invalid_api_key")
}

fn forbidden() -> ApiError {
    let message = "This API key may not do that: use one that has `admin = true` in the configuration.";
    ApiError::invalid(message).status(StatusCode::FORBIDDEN).code("admin_key_required")
}

/// 403: what cannot be undone is done for nobody who has shown no key.
pub(super) fn no_owner() -> ApiError {
    let message = "Nobody may do that as long as there is no API key: configure one with `admin = true`.";
    ApiError::invalid(message).status(StatusCode::FORBIDDEN).code("admin_key_required")
}

/// The key that came along; an empty one is none.
///
/// # Errors
/// What is wrong with how it came, as half a sentence that does not repeat it.
fn given(headers: &HeaderMap) -> Result<Option<Vec<u8>>, &'static str> {
    let plain = PLAIN.into_iter().flat_map(|name| headers.get_all(name));
    let plain = plain.map(|value| Ok(value.as_bytes().to_vec()));
    let credentials = headers.get_all(AUTHORIZATION).iter().map(|value| credentials(value.as_bytes()));
    let mut found: Option<Vec<u8>> = None;
    for key in plain.chain(credentials) {
        let key = key?.trim_ascii().to_vec();
        match &found {
            _ if key.is_empty() => {}
            Some(other) if *other != key => return Err("The request brings two different API keys"),
            _ => found = Some(key),
        }
    }
    Ok(found)
}

/// The key in an `Authorization`; in `Basic` it is the password, whoever the user.
fn credentials(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    let value = value.trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    let rest = rest.trim_ascii();
    if scheme.is_empty() || scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err("The header 'Authorization' is of a scheme other than Bearer and Basic");
    }
    let pair = STANDARD.decode(rest).unwrap_or_default();
    let colon = pair.iter().position(|&byte| byte == b':');
    let password = colon.and_then(|colon| pair.get(colon + 1..));
    password.map(<[u8]>::to_vec).ok_or("The header 'Authorization' is no valid Basic one")
}

/// How many requests for an answer each key has under way, by its name.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<String, usize>>>);

impl Places {
    /// A place for one more request, unless `most` are under way.
    pub fn take(&self, name: &str, most: usize) -> Option<Place> {
        let mut taken = self.taken();
        let count = taken.get(name).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        taken.insert(name.to_owned(), count + 1);
        Some(Place { places: self.clone(), name: name.to_owned() })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Counts are right after every step: a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way. Dropping it makes room for another.
pub struct Place {
    places: Places,
    name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        match taken.get_mut(&self.name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.name)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
