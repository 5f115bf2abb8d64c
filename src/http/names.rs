//! The installed models and their names: requests may ask for one by any of them, with and
//! without `:latest`.

use hyper::StatusCode;

use super::Context;
use super::error::ApiError;
use crate::config::UnknownModel;
use crate::service::{ModelInfo, Status};

/// An installed model.
pub struct Model {
    /// As clients are told first.
    pub name: String,
    /// Further names clients are told.
    pub aliases: Vec<String>,
    /// The first's name in the configuration, where it was loaded under another.
    configured: Option<String>,
    /// As it was when it was last loaded, if ever.
    pub info: Option<ModelInfo>,
    pub loaded: bool,
    /// Until it is unloaded, if nobody uses it.
    pub expires_s: Option<u64>,
}

impl Model {
    /// What clients are told it is called.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(&self.aliases)
    }

    fn goes_by(&self, name: &str) -> bool {
        self.names().chain(&self.configured).any(|known| bare(known) == bare(name))
    }
}

/// Every installed model. The first is the one that is loaded from the start, or what stands
/// in for it.
pub fn all(context: &Context) -> Vec<Model> {
    let Status { model, models, degraded, .. } = context.service.status();
    let mut installed = context.service.settings().models;
    if installed.is_empty() {
        installed.push(Default::default());
    }
    let mut states = models.into_iter();
    let known = installed.into_iter().map(|known| {
        let state = states.next();
        let (loaded, expires_s) = state.as_ref().map_or((false, None), |s| (s.loaded, s.expires_s));
        let info = state.and_then(|state| state.info);
        Model { name: known.name, aliases: known.aliases, configured: None, info, loaded, expires_s }
    });
    let mut all: Vec<Model> = known.collect();
    if let (Some(first), Some(info)) = (all.first_mut(), model) {
        first.loaded |= degraded;
        first.configured = Some(std::mem::replace(&mut first.name, info.name.clone()));
        first.aliases.retain(|alias| *alias != info.name);
        first.info = Some(info);
    }
    all
}

/// The installed model that goes by `name`.
pub fn find(context: &Context, name: &str) -> Option<Model> {
    all(context).into_iter().find(|model| model.goes_by(name))
}

/// Which model a request for `name` is answered by: `None` is the first.
///
/// # Errors
/// 404 for an unknown name, where the configuration wants that.
pub fn admit(context: &Context, name: &str) -> Result<Option<String>, ApiError> {
    let mut models = all(context).into_iter();
    let first = models.next().is_some_and(|first| first.goes_by(name));
    let other = models.filter(|_| !first).find(|model| model.goes_by(name));
    match context.service.settings().server.unknown_model {
        UnknownModel::Refuse if !first && other.is_none() => Err(unknown(context, name)),
        _ => Ok(other.map(|model| model.name)),
    }
}

/// What clients are told the model is called that answers them, when they asked for `model`.
pub fn told(context: &Context, model: Option<&str>) -> String {
    let Status { model: first, degraded, .. } = context.service.status();
    let other = model.filter(|_| !degraded).map(str::to_owned);
    other.or(first.map(|first| first.name)).unwrap_or_default()
}

/// 404: no model goes by this name.
pub fn unknown(context: &Context, name: &str) -> ApiError {
    let shown: String = name.chars().take(200).collect();
    let all = all(context);
    let names = all.iter().flat_map(|model| model.names().chain(&model.configured));
    let mut known: Vec<&str> = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !known.contains(&name.as_str()) {
            known.push(name);
        }
    }
    let whose = if all.len() > 1 { "this server has" } else { "this server's is" };
    let known = known.join("', '");
    ApiError::invalid(format!("The model '{shown}' was not found: {whose} '{known}'."))
        .status(StatusCode::NOT_FOUND)
        .code("model_not_found")
        .param("model")
}

/// A name without Ollama's word for the only edition there is.
pub fn bare(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}
