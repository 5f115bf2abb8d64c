use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize};

use super::section::{Findings, Section};

/// What becomes of a request for a model of another name than the loaded one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownModel {
    /// The loaded model answers.
    #[default]
    Answer,
    /// 404.
    Refuse,
}

/// `[[server.spoken_fallback]]`: what clients of one address are told instead of an error
/// of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpokenFallback {
    /// One of the addresses of `server.listen`.
    pub listen: SocketAddr,
    /// The sentence.
    pub text: String,
}

/// `[server]`: where and how the service is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Addresses with ports; `0.0.0.0:8000` is every IPv4 address of the machine.
    pub listen: Vec<SocketAddr>,
    pub unknown_model: UnknownModel,
    pub spoken_fallback: Vec<SpokenFallback>,
    /// The origins whose pages may call; `*` is any.
    #[serde(deserialize_with = "origins")]
    pub cors_origins: Vec<String>,
}

/// What is no list of texts is an origin that nobody has: it is reported, and lets no page in.
fn origins<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let value = toml::Value::deserialize(from)?;
    Ok(value.try_into().unwrap_or_else(|_| vec![String::new()]))
}

/// Whether this is an origin as browsers tell it: scheme and host, perhaps a port.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
    let fit = |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    matches!(text, "*" | "null") || host.is_some_and(fit)
}

impl Server {
    /// Ollama's port.
    pub const OLLAMA: u16 = 11434;

    /// What clients of the address `listen` are told instead of an error of the service.
    pub fn sentence(&self, listen: SocketAddr) -> Option<&str> {
        let fallback = self.spoken_fallback.iter().find(|fallback| fallback.listen == listen);
        fallback.map(|fallback| fallback.text.as_str())
    }
}

impl Default for Server {
    fn default() -> Self {
        let listen = [8000, Self::OLLAMA].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self {
            listen: listen.into(),
            unknown_model: UnknownModel::Answer,
            spoken_fallback: Vec::new(),
            cors_origins: vec!["*".into()],
        }
    }
}

impl Section for Server {
    const NAME: &'static str = "server";

    fn check(&mut self, findings: &mut Findings) {
        if self.listen.is_empty() {
            findings.wrong("listen", "is empty: name at least one address, e.g. \"0.0.0.0:8000\"");
            self.listen = Self::default().listen;
        }
        let Self { listen, spoken_fallback, cors_origins, .. } = self;
        // Browsers write them so.
        cors_origins.iter_mut().for_each(|origin| origin.make_ascii_lowercase());
        cors_origins.retain(|origin| {
            let fit = is_origin(origin);
            if !fit {
                let what = "is no origin: write \"*\", or those such as \"https://example.org:8443\"";
                findings.wrong("cors_origins", format!("has {origin:?}, which {what}"));
            }
            fit
        });
        spoken_fallback.retain(|SpokenFallback { listen: address, text }| {
            let wrong = if !listen.contains(address) {
                Some(format!("names {address}, which is not in `server.listen`: write one that is"))
            } else if text.trim().is_empty() {
                Some(format!("has no `text` for {address}: write a sentence"))
            } else {
                None
            };
            wrong.is_none_or(|what| {
                findings.wrong("spoken_fallback", what);
                false
            })
        });
    }
}
