use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::section::{Findings, Section};

/// `[server]`: where the service is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Addresses with ports; `0.0.0.0:8000` is every IPv4 address of the machine.
    pub listen: Vec<SocketAddr>,
}

impl Default for Server {
    fn default() -> Self {
        Self { listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8000))] }
    }
}

impl Section for Server {
    const NAME: &'static str = "server";

    fn check(&mut self, findings: &mut Findings) {
        if self.listen.is_empty() {
            findings.wrong("listen", "is empty: name at least one address, e.g. \"0.0.0.0:8000\"");
            *self = Self::default();
        }
    }
}
