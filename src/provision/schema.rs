//! The sections of `appliance.toml` that are not the service's own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::{Findings, Section};

/// The host's name where none is given.
pub const HOST_NAME: &str = "llm8850";

/// `[host]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// The appliance is found as `NAME.local`.
    pub name: String,
    /// As in `Europe/Berlin`.
    pub timezone: Option<String>,
}

impl Default for Host {
    fn default() -> Self {
        Self { name: HOST_NAME.into(), timezone: None }
    }
}

impl Section for Host {
    const NAME: &'static str = "host";

    fn check(&mut self, findings: &mut Findings) {
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let edges = [self.name.bytes().next(), self.name.bytes().last()];
        if !edges.iter().all(|edge| edge.is_some_and(|byte| byte.is_ascii_alphanumeric()))
            || self.name.len() > 63
            || !self.name.bytes().all(fit)
        {
            findings
                .wrong("name", "is no host name: write 1 to 63 letters, digits and, between them, hyphens");
            self.name = HOST_NAME.into();
        }
        if self.timezone.as_ref().is_some_and(|zone| !is_zone(zone)) {
            findings.wrong("timezone", "is no time zone: write one such as \"Europe/Berlin\" or \"UTC\"");
            self.timezone = None;
        }
    }
}

/// Nothing that leads out of the directory of time zones.
fn is_zone(zone: &str) -> bool {
    let fit = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+'))
    };
    zone.len() <= 64 && zone.split('/').all(fit)
}

/// An address with the length of its network's part: `192.168.1.50/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr {
    pub address: IpAddr,
    pub length: u8,
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no address: write one with its network's length, such as \"192.168.1.50/24\""
            )
        };
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let (address, length) =
            (IpAddr::from_str(address).map_err(|_| wrong())?, u8::from_str(length).map_err(|_| wrong())?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        let fit = (1..=most).contains(&length) && !address.is_loopback() && !address.is_unspecified();
        if fit && !address.is_multicast() { Ok(Self { address, length }) } else { Err(wrong()) }
    }
}

/// `[network]`: Ethernet. DHCP is asked in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    pub address: Option<Cidr>,
    pub gateway: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
    /// Time servers, by name or address.
    pub ntp: Vec<String>,
}

impl Section for Network {
    const NAME: &'static str = "network";

    fn check(&mut self, findings: &mut Findings) {
        match (self.gateway, self.address) {
            (Some(_), None) => {
                findings.wrong("gateway", "is given without `address`: write both, or leave it to DHCP");
                self.gateway = None;
            }
            (Some(gateway), Some(own)) if gateway.is_ipv4() != own.address.is_ipv4() => {
                findings.wrong("gateway", "is of another kind than `address`: write both as IPv4 or IPv6");
                self.gateway = None;
            }
            _ => {}
        }
        let fit =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) && name.len() < 254;
        if !self.ntp.iter().all(|name| fit(name)) {
            findings.wrong("ntp", "has what is no server: write names such as \"pool.ntp.org\"");
            self.ntp.clear();
        }
    }
}

/// `[wifi]`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wifi {
    /// Whose law holds for its channels: `DE`.
    pub country: Option<String>,
    pub ssid: Option<String>,
    /// Without one the network is open.
    pub password: Option<String>,
    /// The network does not tell its name.
    pub hidden: bool,
}

impl Section for Wifi {
    const NAME: &'static str = "wifi";

    fn check(&mut self, findings: &mut Findings) {
        if self.country.as_ref().is_some_and(|c| c.len() != 2 || !c.bytes().all(|b| b.is_ascii_uppercase())) {
            findings.wrong("country", "is no country: write its two capital letters, such as \"DE\"");
            self.country = None;
        }
        let printable = |text: &str| !text.chars().any(char::is_control);
        if self.ssid.as_ref().is_some_and(|ssid| !(1..=32).contains(&ssid.len()) || !printable(ssid)) {
            findings.wrong("ssid", "is no name of a network: write 1 to 32 characters");
            self.ssid = None;
        }
        let whole_key = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let phrase =
            |text: &str| (8..=63).contains(&text.len()) && text.bytes().all(|b| (32..127).contains(&b));
        if self.password.as_ref().is_some_and(|text| !phrase(text) && !whole_key(text)) {
            findings.wrong(
                "password",
                "is no password of a Wi-Fi: write 8 to 63 letters, digits or signs of ASCII",
            );
            self.password = None;
        }
        if self.password.is_some() && self.ssid.is_none() {
            findings.wrong("password", "is of no use without a right `ssid`: write the network's name");
        }
    }
}

/// `[ssh]`: who may log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ssh {
    /// Public keys, one line each.
    pub authorized_keys: Vec<String>,
}

impl Section for Ssh {
    const NAME: &'static str = "ssh";

    fn check(&mut self, findings: &mut Findings) {
        let kinds = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp", "sk-ssh-ed25519@", "sk-ecdsa-sha2-nistp"];
        let fit = |key: &str| {
            let mut words = key.split_whitespace();
            let kind = words.next().is_some_and(|kind| kinds.iter().any(|known| kind.starts_with(known)));
            kind && words.next().is_some_and(|data| data.starts_with("AAAA"))
                && !key.chars().any(char::is_control)
        };
        if !self.authorized_keys.iter().all(|key| fit(key.trim())) {
            findings.wrong(
                "authorized_keys",
                "has what is no public key: write lines of a file such as id_ed25519.pub, never of id_ed25519; nobody gets in",
            );
            self.authorized_keys.clear();
        }
    }
}

/// `[fallback]`: what answers, on the CPU, when there is no card to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fallback {
    /// A small model's directory; empty: nothing answers. The library is the image's.
    pub model_dir: Option<PathBuf>,
}

impl Section for Fallback {
    const NAME: &'static str = "fallback";

    fn check(&mut self, findings: &mut Findings) {
        if self.model_dir.as_ref().is_some_and(|dir| !dir.as_os_str().is_empty() && !dir.is_absolute()) {
            findings.wrong("model_dir", "is no whole path: write one such as \"/models/fallback\"");
            self.model_dir = None;
        }
    }
}
