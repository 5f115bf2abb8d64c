//! Rules from the files of a directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Armed, Rule};

/// A directory changed this recently may change again without its time showing it.
const COARSE: Duration = Duration::from_millis(50);

/// A directory with one rule per file `*.json`.
pub struct Folder {
    path: PathBuf,
    /// Its modification time when last read, once that can be relied on.
    read: Option<SystemTime>,
    /// Files that hold no rule, and why.
    pub problems: Vec<String>,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: None, problems: Vec::new() }
    }

    /// Brings `armed` up to date if the directory changed. Rules keep their counts as long
    /// as their files exist.
    pub fn refresh(&mut self, armed: &mut Vec<Armed>) {
        let changed = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        if changed.is_some() && changed == self.read {
            return;
        }
        self.read = changed.filter(|&at| at.elapsed().is_ok_and(|age| age > COARSE));
        self.problems.clear();
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.path)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        armed.retain(|rule| rule.file.as_ref().is_none_or(|file| files.contains(file)));
        for file in files {
            if armed.iter().any(|rule| rule.file.as_ref() == Some(&file)) {
                continue;
            }
            match std::fs::read_to_string(&file).map_err(|e| e.to_string()).and_then(|t| Rule::parse(&t)) {
                Ok(rule) => armed.push(Armed { rule, seen: 0, file: Some(file) }),
                Err(reason) => self.problems.push(format!("{}: {reason}", file.display())),
            }
        }
    }
}

/// Replaces a rule's file by another rule, whole.
pub fn replace(file: &Path, rule: &Rule) -> io::Result<()> {
    let draft = file.with_extension("draft");
    std::fs::write(&draft, serde_json::to_string(rule)?)?;
    std::fs::rename(draft, file)
}
