//! Which keys hold, and what is wrong with the others.

use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, Deserializer};
use toml::{Spanned, Table, Value};

use super::schema::{Fallback, Host, Network, Ssh, Wifi};
use super::secrets::{self, Taken};
use super::text;
use crate::config::{
    Access, Button, Config, Defaults, Document, Findings, Lights, Limits, Log, Model, Problem, Resident,
    Section, Server,
};

/// What a file means.
#[derive(Debug, PartialEq)]
pub struct Understood {
    /// Its good keys, with their secrets.
    pub good: Table,
    pub problems: Vec<Problem>,
    /// The file without its secrets, where it has any. The bytes, for not all of them are text.
    pub cleared: Option<Vec<u8>>,
    /// Whether it is TOML from its beginning to its end: what is not in it is meant to be left out.
    pub whole: bool,
}

/// Set in [`Understood::good`] where somebody may have meant to ask for keys, but none is left.
pub const CLOSED: &str = "closed";

/// Understands the file's `bytes`. `imported` is what was understood before.
pub fn understand(bytes: &[u8], imported: &Table, path: &Path) -> Understood {
    let (text, mut problems) = text::read(bytes, path);
    let read = problems.is_empty();
    let Taken { whole: text, cleared, problems: lost } = secrets::take(&text, imported, path);
    let cleared = cleared.map(|cleared| splice(bytes, &cleared));
    let mut findings = Findings::new(&text, path);
    let mut document = Document::parse(&text, &mut findings);
    let whole = read && findings.none();
    let broken = check(&mut document, &mut findings);
    document.finish(&mut findings);
    problems.extend(findings.into_problems().into_iter().map(discreet));
    // One word on a key is enough: what stands for a lost one is no hash.
    let lost_key = lost.iter().any(|problem| problem.key == "access.key");
    problems.retain(|problem| !lost_key || problem.key != "access.key" || !problem.what.contains("sha256"));
    let mut good = good(&text, &problems);
    let asked = good.get("access").is_some();
    if broken || !whole && !asked && Access::meant(&text) {
        close(&mut good);
    }
    if lost_key {
        close(&mut good);
    }
    problems.extend(lost);
    problems.sort_by_key(|problem| problem.line);
    if problems.iter().any(|problem| problem.key == "wifi.password") {
        // Without its password a network would count as an open one.
        if let Some(wifi) = good.get_mut("wifi").and_then(Value::as_table_mut) {
            wifi.remove("ssid");
            wifi.remove("password");
        }
    }
    Understood { good, problems, cleared, whole }
}

/// Says that nobody is to get in who has none of the keys.
fn close(good: &mut Table) {
    let closed = Table::from_iter([(CLOSED.to_owned(), true.into())]);
    *good = overlay(good, &Table::from_iter([("access".to_owned(), closed.into())]));
}

/// Checks every section there is; whether `[access]` has a mistake that leaves no key.
fn check(document: &mut Document<'_>, findings: &mut Findings) -> bool {
    document.take::<Host>(findings);
    document.take::<Network>(findings);
    document.take::<Wifi>(findings);
    document.take::<Ssh>(findings);
    document.take::<Fallback>(findings);
    document.take::<Server>(findings);
    let access: Access = document.take(findings);
    document.take::<Model>(findings);
    document.take::<Defaults>(findings);
    document.take::<Limits>(findings);
    document.take::<Resident>(findings);
    document.take::<Lights>(findings);
    document.take::<Button>(findings);
    document.take::<Log>(findings);
    access.broken()
}

/// What a deserializer says of a wrong value may repeat it.
fn discreet(mut problem: Problem) -> Problem {
    let typed = problem.what.starts_with("invalid type");
    if problem.key == "wifi.password" && typed {
        problem.what = "is no text: write it in quotes".into();
    }
    if problem.key == "access.key" && problem.what.contains("unknown field `secret`") {
        problem.what = "has a `secret` that is no text: write it in quotes; nobody gets in with it".into();
    }
    problem
}

/// The keys that nothing was found wrong with.
fn good(text: &str, problems: &[Problem]) -> Table {
    let wrong = |key: &str| problems.iter().any(|problem| problem.key == key);
    let mut good = Table::new();
    for (section, value) in DeTable::parse_recoverable(text).0.into_inner() {
        let (section, span) = (section.into_inner().into_owned(), value.span());
        let toml::de::DeValue::Table(table) = value.into_inner() else { continue };
        if wrong(&section) {
            continue;
        }
        let mut kept = Table::new();
        for (key, value) in table {
            let name = format!("{section}.{}", key.get_ref());
            let one: DeTable<'_> = std::iter::once((key, value)).collect();
            let one = Table::deserialize(Deserializer::from(Spanned::new(span.clone(), one)));
            let Ok(mut one) = one else { continue };
            if name == "access.key" {
                one.iter_mut().for_each(|(_, keys)| keep_keys(keys));
            } else if wrong(&name) {
                continue;
            }
            kept.extend(one);
        }
        good.insert(section, kept.into());
    }
    good
}

/// Of `[[access.key]]` a mistake in one takes no other along.
fn keep_keys(keys: &mut Value) {
    let Value::Array(keys) = keys else {
        *keys = Value::Array(Vec::new());
        return;
    };
    keys.retain(|key| {
        let access = Table::from_iter([("key".to_owned(), Value::Array(vec![key.clone()]))]);
        let file = Table::from_iter([("access".to_owned(), access.into())]);
        toml::to_string(&file).is_ok_and(|text| Config::parse(&text, Path::new("")).1.is_empty())
    });
}

/// Puts the changed lines of `cleared` in place of those of `bytes`: others keep what is no text.
fn splice(bytes: &[u8], cleared: &str) -> Vec<u8> {
    let old = bytes.split_inclusive(|&byte| byte == b'\n');
    let mut new = cleared.as_bytes().split_inclusive(|&byte| byte == b'\n');
    if old.clone().count() != new.clone().count() {
        // A secret over several lines.
        return cleared.into();
    }
    let marker = secrets::KEPT.as_bytes();
    let holds = |line: &[u8]| line.windows(marker.len()).any(|part| part == marker);
    old.flat_map(|line| {
        let other = new.next().unwrap_or(line);
        if holds(other) { other } else { line }
    })
    .copied()
    .collect()
}

/// One of the system's sections, of keys that are good.
pub(super) fn section<S: Section>(good: &Table) -> S {
    let text = toml::to_string(good).unwrap_or_default();
    let mut findings = Findings::new(&text, Path::new(""));
    let mut document = Document::parse(&text, &mut findings);
    document.take(&mut findings)
}

/// `over` in place of, or beside, what is in `base`: key by key.
pub fn overlay(base: &Table, over: &Table) -> Table {
    let mut both = base.clone();
    for (section, value) in over {
        match (both.get_mut(section), value) {
            (Some(Value::Table(below)), Value::Table(above)) => {
                below.extend(above.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            _ => {
                both.insert(section.clone(), value.clone());
            }
        }
    }
    both
}

#[cfg(test)]
#[path = "understand_tests.rs"]
mod tests;
