//! Secrets leave the card's readable part: the file then says where they are instead, and
//! everything else in it stays as it was written.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::config::{KeyHash, Problem};

/// What stands in a secret's place.
pub const KEPT: &str = "kept in the appliance";

/// The file's text in its two further lives.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// With every secret in its place, keys as their hashes: lines are where they were.
    pub whole: String,
    /// Without any; nothing where the file is so already.
    pub cleared: Option<String>,
    pub problems: Vec<Problem>,
}

/// Takes the secrets out of `text`, and puts those that were taken before, `imported`, into it.
pub fn take(text: &str, imported: &toml::Table, path: &Path) -> Taken {
    let root = DeTable::parse_recoverable(text).0.into_inner();
    let mut work = Work { text, path, whole: Vec::new(), cleared: Vec::new(), problems: Vec::new() };
    if let Some((range, value)) = root.get("wifi").and_then(|wifi| string(wifi.get_ref(), "password")) {
        let before = imported.get("wifi").and_then(|wifi| wifi.get("password")).and_then(toml::Value::as_str);
        work.secret(range, value, "wifi.password", before.map(str::to_owned), str::to_owned);
    }
    let keys = root.get("access").and_then(|access| access.get_ref().get("key"));
    for key in keys.and_then(|keys| keys.get_ref().as_array()).into_iter().flat_map(|keys| keys.iter()) {
        let Some((range, value)) = string(key.get_ref(), "secret") else { continue };
        let name = string(key.get_ref(), "name").map(|(_, name)| name);
        let before = name.and_then(|name| hash_of(imported, name));
        work.secret(range, value, "access.key", before, |secret| KeyHash::of(secret.as_bytes()).to_string());
        let named =
            key.get_ref().as_table().and_then(|table| table.iter().find(|(k, _)| k.get_ref() == "secret"));
        work.whole.extend(named.map(|(name, _)| (name.span(), "sha256".to_owned())));
    }
    let cleared = (!work.cleared.is_empty()).then(|| substitute(text, work.cleared));
    Taken { whole: substitute(text, work.whole), cleared, problems: work.problems }
}

/// The string at `key` and where it stands.
fn string<'a>(table: &'a DeValue<'_>, key: &str) -> Option<(Range<usize>, &'a str)> {
    let value = table.get(key)?;
    Some((value.span(), value.get_ref().as_str()?))
}

/// The hash that was made of the key `name`.
fn hash_of(imported: &toml::Table, name: &str) -> Option<String> {
    let keys = imported.get("access")?.get("key")?.as_array()?;
    let key = keys.iter().find(|key| key.get("name").and_then(toml::Value::as_str) == Some(name))?;
    Some(key.get("sha256")?.as_str()?.to_owned())
}

struct Work<'a> {
    text: &'a str,
    path: &'a Path,
    whole: Vec<(Range<usize>, String)>,
    cleared: Vec<(Range<usize>, String)>,
    problems: Vec<Problem>,
}

impl Work<'_> {
    /// One secret at `range`; `before` is what was kept of it, `made` makes that of a new one.
    fn secret(
        &mut self,
        range: Range<usize>,
        value: &str,
        key: &str,
        before: Option<String>,
        made: impl FnOnce(&str) -> String,
    ) {
        let kept = if value != KEPT {
            if !value.is_empty() {
                self.cleared.push((range.clone(), quoted(KEPT)));
            }
            made(value)
        } else if let Some(before) = before {
            before
        } else {
            let line = 1 + self.text.get(..range.start).map_or(0, |before| before.matches('\n').count());
            let what = "is said to be kept in the appliance, which has none: write it again";
            let (file, key) = (self.path.into(), key.to_owned());
            self.problems.push(Problem { file, line: Some(line), key, what: what.into() });
            return;
        };
        self.whole.push((range, quoted(&kept)));
    }
}

/// A string on one line.
fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// `text` with other words at these places.
fn substitute(text: &str, mut places: Vec<(Range<usize>, String)>) -> String {
    places.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut text = text.to_owned();
    for (range, words) in places {
        if text.get(range.clone()).is_some() {
            text.replace_range(range, &words);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\r\n[wifi]\r\nssid = 'x' # name\r\npassword = 'it\\'  # word\r\n\
                        [[access.key]]\r\nname = \"wall\"\r\nsecret = \"sk-1\"\r\n";

    fn taken(text: &str, imported: &str) -> Taken {
        take(text, &toml::from_str(imported).unwrap(), Path::new("a"))
    }

    #[test]
    fn secrets_are_taken_and_all_else_stays() {
        let taken = taken(FILE, "");
        let cleared = taken.cleared.unwrap();
        let expected = FILE.replace("'it\\'", "\"kept in the appliance\"").replace("sk-1", KEPT);
        assert_eq!(cleared, expected);
        let hash = KeyHash::of(b"sk-1").to_string();
        let expected = FILE
            .replace("'it\\'", "\"it\\\\\"")
            .replace("secret = \"sk-1\"", &format!("sha256 = \"{hash}\""));
        assert_eq!(taken.whole, expected);
        assert_eq!(taken.problems, []);
    }

    #[test]
    fn what_was_taken_is_put_back() {
        let first = taken(FILE, "");
        let again = taken(&first.cleared.unwrap(), &first.whole);
        assert_eq!(again.cleared, None);
        assert_eq!(toml::from_str::<toml::Table>(&again.whole), toml::from_str(&first.whole));
    }

    #[test]
    fn what_was_lost_must_be_written_again() {
        let cleared = taken(FILE, "").cleared.unwrap();
        let problems: Vec<String> = taken(&cleared, "").problems.iter().map(ToString::to_string).collect();
        let what = "is said to be kept in the appliance, which has none: write it again";
        assert_eq!(problems, [format!("a:4: wifi.password: {what}"), format!("a:7: access.key: {what}")]);
    }

    #[test]
    fn also_of_a_file_that_is_not_toml_throughout() {
        let taken = taken(&format!("{FILE}[network\r\naddress == 1\r\n"), "");
        assert!(!taken.cleared.unwrap().contains("sk-1"));
    }
}
