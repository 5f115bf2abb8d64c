use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

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
        Self { listen: listen.into(), unknown_model: UnknownModel::Answer, spoken_fallback: Vec::new() }
    }
}

impl Section for Server {
    const NAME: &'static str = "server";

    fn check(&mut self, findings: &mut Findings) {
        if self.listen.is_empty() {
            findings.wrong("listen", "is empty: name at least one address, e.g. \"0.0.0.0:8000\"");
            self.listen = Self::default().listen;
        }
        let Self { listen, spoken_fallback, .. } = self;
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
