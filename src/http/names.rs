//! Names of the model: requests may ask for it by any of them, with and without `:latest`.

use hyper::StatusCode;

use super::Context;
use super::error::ApiError;
use crate::config::UnknownModel;

/// The loaded model's, the configured one's, its aliases.
fn all(context: &Context) -> Vec<String> {
    let settings = context.service.settings();
    let loaded = context.service.status().model.map(|model| model.name);
    let mut names: Vec<String> = loaded.into_iter().collect();
    for name in settings.name.into_iter().chain(settings.aliases) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether the model goes by `name`.
pub fn knows(context: &Context, name: &str) -> bool {
    all(context).iter().any(|known| bare(known) == bare(name))
}

/// Whether a request for `name` is answered.
///
/// # Errors
/// 404 for an unknown name, where the configuration wants that.
pub fn admit(context: &Context, name: &str) -> Result<(), ApiError> {
    match context.service.settings().server.unknown_model {
        UnknownModel::Refuse if !knows(context, name) => Err(unknown(context, name)),
        _ => Ok(()),
    }
}

/// 404: the model goes by other names.
pub fn unknown(context: &Context, name: &str) -> ApiError {
    let shown: String = name.chars().take(200).collect();
    let names = all(context).join("', '");
    ApiError::invalid(format!("The model '{shown}' was not found: this server's is '{names}'."))
        .status(StatusCode::NOT_FOUND)
        .code("model_not_found")
        .param("model")
}

fn bare(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}
