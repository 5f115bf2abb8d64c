use std::path::Path;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::access::{KeyHash, named_well};
use super::{Access, Problem};

/// What the supervisor can be asked to do instead of serving.
#[derive(clap::Args)]
pub struct Errand {
    /// Check the configuration file, print every problem, and exit.
    #[arg(long)]
    check_config: bool,
    /// Make a key with this name, print it and what to add to the configuration, and exit.
    #[arg(long, value_name = "NAME")]
    make_key: Option<String>,
}

impl Errand {
    /// Does it, where there is one. `problems` are those of `file`.
    pub fn run(&self, file: &Path, problems: &[Problem]) -> Option<ExitCode> {
        match &self.make_key {
            Some(name) => Some(make_key(name)),
            None => self.check_config.then(|| report(file, problems)),
        }
    }
}

fn report(file: &Path, problems: &[Problem]) -> ExitCode {
    if problems.is_empty() {
        println!("{}: OK", file.display());
        return ExitCode::SUCCESS;
    }
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    ExitCode::FAILURE
}

/// The key itself is printed this once and kept nowhere.
fn make_key(name: &str) -> ExitCode {
    if !named_well(name) {
        eprintln!("--make-key: a name has 1 to 64 printable characters");
        return ExitCode::FAILURE;
    }
    let mut secret = [0; 32];
    if let Err(e) = getrandom::fill(&mut secret) {
        eprintln!("--make-key: the system gives no random numbers: {e}");
        return ExitCode::FAILURE;
    }
    let key = format!("sk-{}", URL_SAFE_NO_PAD.encode(secret));
    println!("{key}\n");
    println!("This is the key: it is not shown again. These lines belong into the configuration:\n");
    println!("{}", entry(name, &key));
    ExitCode::SUCCESS
}

/// What the configuration holds of a key.
fn entry(name: &str, key: &str) -> String {
    let (name, hash) = (toml::Value::from(name), KeyHash::of(key.as_bytes()));
    format!("[[{}.key]]\nname = {name}\nsha256 = \"{hash}\"", <Access as super::section::Section>::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_printed_of_a_key_lets_it_in() {
        for name in ["wall", "\"Ärger\" & \\Söhne"] {
            let (config, problems) = Config::parse(&entry(name, "sk-x"), Path::new("c.toml"));
            assert_eq!(problems, vec![]);
            let key = config.access.find(&KeyHash::of(b"sk-x")).unwrap();
            assert_eq!((key.name.as_str(), key.admin), (name, false));
        }
    }
}
