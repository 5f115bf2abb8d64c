//! What is told of the settings: beside the file for who looks at the card on a computer, and
//! to the service.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use toml::Table;

use super::schema::{Host, Network, Ssh, Wifi};
use super::understand::section;
use crate::slots::TOLD;
use crate::sys::root::SysRoot;
use crate::sys::store;

/// Tells others what `program` found wrong, in place of what it found before.
pub fn problems(root: &SysRoot, program: &str, found: &[String]) {
    found.iter().for_each(|problem| tracing::error!("{problem}"));
    let path = root.path(TOLD).join("problems.json");
    let read = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut all: BTreeMap<String, Vec<String>> = read.unwrap_or_default();
    all.insert(program.into(), found.to_vec());
    let written = std::fs::create_dir_all(root.path(TOLD))
        .and_then(|()| Ok(serde_json::to_vec_pretty(&all)?))
        .and_then(|bytes| store::replace(&path, &bytes));
    if let Err(e) = written {
        tracing::error!("{}: {e}", path.display());
    }
}

/// `status.txt`. Lines end as every editor understands them.
pub fn status(root: &SysRoot, good: &Table, problems: &[String]) -> String {
    let host: Host = section(good);
    let mut lines = vec![
        "What the appliance took from appliance.toml at its last start.".to_owned(),
        String::new(),
        format!("version     {}", running(root)),
        format!("page        http://{}.local:8000", host.name),
    ];
    let network: Network = section(good);
    let address = match network.address {
        Some(own) => format!("{}/{}, and what DHCP gives", own.address, own.length),
        None => "by DHCP".into(),
    };
    lines.push(format!("Ethernet    {address}"));
    lines.push(format!("Wi-Fi       {}", section::<Wifi>(good).ssid.as_deref().unwrap_or("none")));
    lines.push(format!("time zone   {}", host.timezone.as_deref().unwrap_or("UTC")));
    lines.push(format!("ssh         {} keys", section::<Ssh>(good).authorized_keys.len()));
    let taken: Vec<String> = good
        .iter()
        .filter_map(|(name, keys)| {
            let keys: Vec<&str> = keys.as_table()?.keys().map(String::as_str).collect();
            (!keys.is_empty()).then(|| format!("[{name}] {}", keys.join(", ")))
        })
        .collect();
    lines.extend([String::new(), "Taken:".into()]);
    lines.extend(if taken.is_empty() { vec!["nothing: defaults hold".into()] } else { taken });
    lines.push(String::new());
    if problems.is_empty() {
        lines.push("No mistakes.".into());
    } else {
        lines.push("MISTAKES. What is named here was not taken:".into());
        lines.extend(problems.iter().map(|problem| format!("- {problem}")));
    }
    lines.push(String::new());
    lines.join("\r\n")
}

/// Version and slot of what runs.
fn running(root: &SysRoot) -> String {
    let bytes = std::fs::read(root.path(Path::new(TOLD).join("slots.json"))).unwrap_or_default();
    let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let slot = told.get("running").and_then(Value::as_str);
    let version = slot.and_then(|slot| told.get(slot)?.get("version")?.as_str());
    match (slot, version) {
        (Some(slot), Some(version)) => format!("{version}, slot {slot}"),
        _ => env!("CARGO_PKG_VERSION").into(),
    }
}
