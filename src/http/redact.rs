//! The configuration as it may be shown to others.

use std::path::Path;

use toml::{Table, Value};

/// Keys whose name contains one of these hold secrets.
const SECRET: [&str; 9] =
    ["auth", "cookie", "credential", "key", "pass", "private", "secret", "sha256", "token"];
/// Whole sections of which nobody knows what they hold: the worker's environment.
const OPAQUE: [&str; 1] = ["env"];
/// Ours, although they sound secret.
const OPEN: [&str; 1] = ["max_tokens"];
const HIDDEN: &str = "(hidden)";
/// No configuration is longer.
const LONGEST: u64 = 1 << 20;

/// The file at `path`, without its secrets and comments; why not, where it cannot be shown.
pub fn file(path: &Path) -> String {
    let size = std::fs::metadata(path).map_or(0, |data| data.len());
    if size > LONGEST {
        return format!("# {}: {size} bytes\n", path.display());
    }
    match std::fs::read_to_string(path) {
        Ok(text) => redacted(&text),
        Err(e) => format!("# {}: {e}\n", path.display()),
    }
}

/// `text` without its secrets. What is not TOML is not shown at all: nobody knows what is a
/// secret in it.
fn redacted(text: &str) -> String {
    let Ok(mut table) = text.parse::<Table>() else {
        return "# not shown, for it is not TOML: see `problems` in status.json\n".into();
    };
    hide(&mut table, false);
    toml::to_string(&table).unwrap_or_default()
}

fn hide(table: &mut Table, all: bool) {
    for (key, value) in table.iter_mut() {
        let name = key.to_lowercase();
        let opaque = OPAQUE.contains(&name.as_str());
        let secret = SECRET.iter().any(|word| name.contains(word)) && !OPEN.contains(&name.as_str());
        hide_value(value, all || secret || opaque);
    }
}

fn hide_value(value: &mut Value, all: bool) {
    match value {
        Value::Table(table) => hide(table, all),
        Value::Array(values) => values.iter_mut().for_each(|value| hide_value(value, all)),
        value if all => *value = Value::String(HIDDEN.into()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_is_not() {
        let text = r#"
            # the password is hunter2
            top_secret = 1
            [server]
            listen = ["127.0.0.1:80"]
            api_keys = ["hunter2", { name = "hunter2" }]
            [worker]
            device = 2
            env = { PATH_OF = "hunter2", Deeper = { x = "hunter2" } }
            [remote]
            Password = "hunter2"
            authorization = "hunter2"
            [defaults]
            max_tokens = 7
            [access]
            public_status = false
            [[access.key]]
            name = "hunter2"
            sha256 = "hunter2"
            [[access.misnamed]]
            sha256 = "hunter2"
            [[peers]]
            url = "there"
            accessToken = "hunter2"
        "#;
        let shown = redacted(text);
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in [
            "listen = [\"127.0.0.1:80\"]",
            "device = 2",
            "max_tokens = 7",
            "url = \"there\"",
            "public_status = false",
        ] {
            assert!(shown.contains(kept), "{kept} is not in\n{shown}");
        }
        assert_eq!(shown.matches(HIDDEN).count(), 11, "{shown}");
    }

    #[test]
    fn what_cannot_be_read_is_not_shown() {
        assert!(redacted("password = hunter2").starts_with("# not shown"));
        assert!(file(Path::new("/no/such/file")).starts_with("# /no/such/file: No such file"));
    }
}
