//! The network's files: systemd-networkd's and iwd's. Whatever is set, Ethernet asks for DHCP.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::schema::{Network, Wifi};

/// Ethernet's. It goes before the image's own, which is DHCP alone.
pub(super) fn ethernet(network: &Network) -> Option<String> {
    if *network == Network::default() {
        return None;
    }
    let mut text = String::from(
        "# From appliance.toml.\n[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=yes\n\
         MulticastDNS=yes\nIPv6AcceptRA=yes\n",
    );
    // Writing to a string cannot fail.
    if let Some(own) = network.address {
        let _ = writeln!(text, "Address={}/{}", own.address, own.length);
    }
    network.dns.iter().for_each(|server: &IpAddr| _ = writeln!(text, "DNS={server}"));
    network.ntp.iter().for_each(|server| _ = writeln!(text, "NTP={server}"));
    text.push_str(
        "\n[Link]\nRequiredForOnline=no\n\n[DHCPv4]\nClientIdentifier=mac\nUseDomains=no\n\n[DHCPv6]\nDUIDType=link-layer\n",
    );
    if let Some(gateway) = network.gateway {
        // Before DHCP's, which has 1024.
        let _ = write!(text, "\n[Route]\nGateway={gateway}\nMetric=512\n");
    }
    Some(text)
}

/// iwd's file for a network: its name and contents.
pub(super) fn wifi(wifi: &Wifi) -> Option<(String, String)> {
    let ssid = wifi.ssid.as_deref()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'_' | b'-');
    let name = if ssid.bytes().all(plain) {
        ssid.to_owned()
    } else {
        ssid.bytes().fold("=".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    };
    let mut text = format!("[Settings]\nAutoConnect=true\nHidden={}\n", wifi.hidden);
    let kind = match wifi.password.as_deref() {
        None => "open",
        Some(key) if key.len() == 64 => {
            let _ = write!(text, "\n[Security]\nPreSharedKey={key}\n");
            "psk"
        }
        Some(phrase) => {
            let _ = write!(text, "\n[Security]\nPassphrase={}\n", escaped(phrase));
            "psk"
        }
    };
    Some((format!("{name}.{kind}"), text))
}

/// As ell reads values: a blank at the beginning would be lost.
fn escaped(phrase: &str) -> String {
    let text = phrase.replace('\\', "\\\\");
    match text.strip_prefix(' ') {
        Some(rest) => format!("\\s{rest}"),
        None => text,
    }
}

/// iwd's main file.
pub(super) fn iwd(wifi: &Wifi) -> String {
    let country = wifi.country.as_ref().map(|country| format!("Country={country}\n")).unwrap_or_default();
    format!(
        "# Addresses are systemd-networkd's affair.\n[General]\nEnableNetworkConfiguration=false\n{country}\n\
         [Scan]\n# A network that went away is looked for at least once a minute.\nMaximumPeriodicScanInterval=60\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::understand::section;
    use super::*;

    #[test]
    fn an_address_of_its_own_does_not_take_dhcp_away() {
        let good = toml::from_str(
            "[network]\naddress = '10.0.0.5/8'\ngateway = '10.0.0.1'\ndns = ['9.9.9.9']\nntp = ['time.example']\n",
        );
        let text = ethernet(&section(&good.unwrap())).unwrap();
        for line in ["DHCP=yes", "Address=10.0.0.5/8", "DNS=9.9.9.9", "NTP=time.example", "Gateway=10.0.0.1"]
        {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert_eq!(ethernet(&Network::default()), None);
    }

    #[test]
    fn iwds_files_are_named_and_written_as_it_reads_them() {
        let of = |ssid: &str, password: Option<&str>| {
            let password = password.map(str::to_owned);
            wifi(&Wifi { ssid: Some(ssid.into()), password, ..Wifi::default() }).unwrap()
        };
        let (name, text) = of("Studio 2", Some(" a\\b=c;d e"));
        assert_eq!(name, "Studio 2.psk");
        assert!(text.ends_with("[Security]\nPassphrase=\\sa\\\\b=c;d e\n"), "{text}");
        assert_eq!(of("Büro", None).0, "=42c3bc726f.open");
        assert_eq!(of("a/../b", None).0, "=612f2e2e2f62.open");
        assert!(of("x", Some(&"ab".repeat(32))).1.contains("PreSharedKey=abab"));
        assert_eq!(wifi(&Wifi::default()), None);
        assert!(iwd(&Wifi { country: Some("DE".into()), ..Wifi::default() }).contains("\nCountry=DE\n"));
    }
}
