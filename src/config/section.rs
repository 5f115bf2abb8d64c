//! From TOML to typed sections, gathering every problem instead of stopping at the first.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::Problem;

/// A typed section of the file.
pub(crate) trait Section: Default + DeserializeOwned {
    /// Its name in the file.
    const NAME: &'static str;

    /// Reports values out of range and puts their defaults in place.
    fn check(&mut self, findings: &mut Findings);

    /// Something in it was reported, and left out.
    fn mistaken(&mut self) {}
}

/// Gathers problems and knows which line each key stands on.
pub(crate) struct Findings {
    file: PathBuf,
    /// Byte offset of each line's start.
    starts: Vec<usize>,
    /// The section being checked, its keys and where they stand.
    section: &'static str,
    keys: Vec<(String, usize)>,
    problems: Vec<Problem>,
}

impl Findings {
    pub fn new(text: &str, file: &Path) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Self { file: file.into(), starts, section: "", keys: Vec::new(), problems: Vec::new() }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.starts.partition_point(|&start| start <= offset)
    }

    fn report(&mut self, offset: Option<usize>, key: String, what: String) {
        let line = offset.map(|o| self.line(o));
        self.problems.push(Problem { file: self.file.clone(), line, key, what });
    }

    /// Reports a key of the section being checked.
    pub fn wrong(&mut self, key: &str, what: impl Into<String>) {
        let offset = self.keys.iter().find(|(k, _)| k == key).map(|&(_, offset)| offset);
        self.report(offset, format!("{}.{key}", self.section), what.into());
    }

    /// Reports `value` and puts `default` in its place where it lies outside `range`.
    pub fn range<T>(&mut self, key: &str, value: &mut T, range: RangeInclusive<T>, default: T)
    where
        T: PartialOrd + Display,
    {
        if !range.contains(value) {
            self.wrong(key, format!("is {value}: write {} to {}", range.start(), range.end()));
            *value = default;
        }
    }

    /// As [`Findings::range`], for a key that may be left out.
    pub fn optional<T>(&mut self, key: &str, value: &mut Option<T>, range: RangeInclusive<T>)
    where
        T: PartialOrd + Display,
    {
        if let Some(given) = value.as_ref().filter(|given| !range.contains(given)) {
            self.wrong(
                key,
                format!("is {given}: write {} to {}, or leave it out", range.start(), range.end()),
            );
            *value = None;
        }
    }

    /// Whether nothing was found so far.
    pub fn none(&self) -> bool {
        self.problems.is_empty()
    }

    /// Everything found, in the order of lines.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|p| p.line);
        self.problems
    }
}

/// The parsed file, from which sections are taken one by one.
pub(crate) struct Document<'a> {
    root: DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Document<'a> {
    /// Parses as much of `text` as is TOML.
    pub fn parse(text: &'a str, findings: &mut Findings) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            findings.report(error.span().map(|s| s.start), String::new(), error.message().to_owned());
        }
        Self { root: root.into_inner(), known: Vec::new() }
    }

    /// Takes the section `S`.
    pub fn take<S: Section>(&mut self, findings: &mut Findings) -> S {
        self.known.push(S::NAME);
        findings.section = S::NAME;
        findings.keys.clear();
        let Some((key, value)) = self.root.iter().find(|(key, _)| key.get_ref() == S::NAME) else {
            return S::default();
        };
        let DeValue::Table(table) = value.get_ref() else {
            let what = format!("is of type {}: write a section `[{}]`", value.get_ref().type_str(), S::NAME);
            findings.report(Some(key.span().start), S::NAME.into(), what);
            let mut section = S::default();
            section.mistaken();
            return section;
        };
        let before = findings.problems.len();
        findings.keys =
            table.iter().map(|(key, _)| (key.get_ref().clone().into_owned(), key.span().start)).collect();
        let mut section: S = read(table.clone(), value.span(), findings);
        section.check(findings);
        if findings.problems.len() > before {
            section.mistaken();
        }
        section
    }

    /// Reports what no section claimed.
    pub fn finish(self, findings: &mut Findings) {
        for (key, value) in self.root.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref()))
        {
            let kind = if value.get_ref().is_table() { "section" } else { "key outside the sections" };
            let what = format!("is an unknown {kind}: sections are {}", self.known.join(", "));
            findings.report(Some(key.span().start), key.get_ref().clone().into_owned(), what);
        }
    }
}

/// Reads a section; keys that do not fit are reported and left out.
fn read<S: Section>(mut table: DeTable<'_>, span: Range<usize>, findings: &mut Findings) -> S {
    loop {
        let error = match S::deserialize(Deserializer::from(Spanned::new(span.clone(), table.clone()))) {
            Ok(section) => return section,
            Err(error) => error,
        };
        let at = error.span().map(|s| s.start);
        let culprit = table
            .iter()
            .filter(|(key, _)| at.is_some_and(|at| key.span().start <= at))
            .max_by_key(|(key, _)| key.span().start)
            .map(|(key, _)| key.get_ref().clone().into_owned());
        let Some(culprit) = culprit else {
            findings.report(at, S::NAME.into(), error.message().to_owned());
            return S::default();
        };
        findings.report(at, format!("{}.{culprit}", S::NAME), error.message().to_owned());
        table = table.into_iter().filter(|(key, _)| key.get_ref() != &culprit).collect();
    }
}
