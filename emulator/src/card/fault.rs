//! Injected faults: rules that make chosen calls misbehave.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::code::Code;
use super::condition::{hang, unix_ms};
use crate::machine::append;

mod folder;
#[cfg(test)]
mod tests;

use folder::Folder;

/// What happens to a call instead of, or before, its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Returns this code without doing anything.
    Fail(Code),
    /// Never returns.
    Hang(bool),
    /// Does its work this many milliseconds later.
    HangMs(u64),
    /// Ends the process at once with this exit code.
    Exit(i32),
    /// Sends the process this signal, then does its work.
    Signal(i32),
    /// Does its work; the outputs of the next execute (this one, if it is one) become NaN.
    Nan(bool),
    /// Does its work; the next execute (this one, if it is one) writes no outputs.
    Stale(bool),
    /// Does its work; this many executes from the next on (this one, if it is one) compute
    /// numbers that are plausible and wrong. 0 is without end.
    Spoil(u64),
    /// Stops the whole process: only SIGKILL ends it.
    HangHard(bool),
}

const fn one() -> u64 {
    1
}

/// When to act: from the `nth` call of `call` on, `times` times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A function's name; a trailing `*` matches any rest.
    pub call: String,
    /// Counted from 1, from when this process learns of the rule.
    #[serde(default = "one")]
    pub nth: u64,
    /// 0 is without end.
    #[serde(default = "one")]
    pub times: u64,
    pub act: Act,
}

impl Rule {
    fn check(self) -> Result<Self, String> {
        let known_signal = |n| Signal::from_named_raw(n).is_some();
        match self.act {
            _ if self.call.is_empty() => Err("`call` is empty".into()),
            _ if self.nth == 0 => Err("`nth` counts from 1".into()),
            Act::Hang(false) | Act::HangHard(false) | Act::Nan(false) | Act::Stale(false) => {
                Err("an act can only be `true`".into())
            }
            Act::Signal(n) if !known_signal(n) => Err(format!("there is no signal {n}")),
            _ => Ok(self),
        }
    }

    fn matches(&self, call: &str) -> bool {
        match self.call.strip_suffix('*') {
            Some(start) => call.starts_with(start),
            None => self.call == call,
        }
    }

    /// Reads a rule and checks it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str::<Self>(text).map_err(|e| e.to_string())?.check()
    }

    /// [`Rule::parse`] for JSON already read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_value(value: serde_json::Value) -> Result<Self, String> {
        serde_json::from_value::<Self>(value).map_err(|e| e.to_string())?.check()
    }
}

/// A rule in force.
#[derive(Clone, Debug, Serialize)]
pub struct Armed {
    #[serde(flatten)]
    pub rule: Rule,
    /// Matching calls so far.
    pub seen: u64,
    /// The file it came from, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// What becomes of an execute's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taint {
    Nan,
    Stale,
    /// Plausible, and wrong.
    Wrong,
}

#[derive(Default)]
struct State {
    /// Where rules that acted are noted.
    diary: Option<PathBuf>,
    folder: Option<Folder>,
    armed: Vec<Armed>,
    taint: Option<Taint>,
    /// Executes still to be spoilt; the largest number is without end.
    spoilt: u64,
}

/// The rules in force.
#[derive(Default)]
pub struct Faults {
    state: Mutex<State>,
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes in this file, one line each, when a rule acts.
    pub fn note_in(&self, file: &Path) {
        self.state().diary = Some(file.to_owned());
    }

    /// Takes rules from the files `*.json` of `folder`, now and whenever it changes.
    pub fn watch(&self, folder: &Path) {
        let mut state = self.state();
        state.folder = Some(Folder::new(folder));
        refresh(&mut state);
    }

    /// Adds a rule.
    pub fn arm(&self, rule: Rule) {
        self.state().armed.push(Armed { rule, seen: 0, file: None });
    }

    /// The rules in force, and what is wrong with files that hold none.
    pub fn list(&self) -> (Vec<Armed>, Vec<String>) {
        let mut state = self.state();
        refresh(&mut state);
        let problems = state.folder.as_ref().map(|f| f.problems.clone()).unwrap_or_default();
        (state.armed.clone(), problems)
    }

    /// Drops every rule, with its file.
    pub fn clear(&self) {
        let mut state = self.state();
        refresh(&mut state);
        for armed in state.armed.drain(..) {
            if let Some(file) = armed.file {
                let _ = std::fs::remove_file(file);
            }
        }
        state.taint = None;
        state.spoilt = 0;
    }

    /// A call begins: what is to happen to it. A rule used up is gone, with its file,
    /// before its act can end the process.
    pub fn meet(&self, call: &str) -> Option<Act> {
        let mut state = self.state();
        refresh(&mut state);
        let mut due = None;
        for (index, armed) in state.armed.iter_mut().enumerate() {
            if armed.rule.matches(call) {
                armed.seen += 1;
                if armed.seen >= armed.rule.nth && due.is_none() {
                    due = Some(index);
                }
            }
        }
        let index = due?;
        let state = &mut *state;
        let armed = state.armed.get_mut(index)?;
        let act = armed.rule.act.clone();
        if let Some(diary) = &state.diary {
            let _ = write_down(diary, &armed.rule);
        }
        match armed.rule.times {
            0 => {}
            1 => {
                let used = state.armed.remove(index);
                if let Some(file) = used.file {
                    let _ = std::fs::remove_file(file);
                }
            }
            _ => {
                armed.rule.times -= 1;
                if let Some(file) = &armed.file {
                    let _ = folder::replace(file, &armed.rule);
                }
            }
        }
        match act {
            Act::Nan(_) => state.taint = Some(Taint::Nan),
            Act::Stale(_) => state.taint = Some(Taint::Stale),
            Act::Spoil(0) => state.spoilt = u64::MAX,
            Act::Spoil(count) => state.spoilt = count,
            _ => {}
        }
        Some(act)
    }

    /// What the execute that is submitted now suffers.
    pub fn taint(&self) -> Option<Taint> {
        let mut state = self.state();
        if state.spoilt == 0 {
            return state.taint.take();
        }
        if state.spoilt != u64::MAX {
            state.spoilt -= 1;
        }
        state.taint.take().or(Some(Taint::Wrong))
    }
}

fn refresh(state: &mut State) {
    if let Some(folder) = &mut state.folder {
        folder.refresh(&mut state.armed);
    }
}

fn write_down(diary: &Path, rule: &Rule) -> std::io::Result<()> {
    let line = json!({ "acted": rule, "unix_ms": unix_ms(), "pid": std::process::id() });
    append(diary, &line)
}

/// From now on only SIGKILL ends the process. A thread that has yet to stop would otherwise
/// take a signal, and so would all once the process is continued.
fn ignore_endings() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: valid signals; ignoring them runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Carries out what concerns the process rather than the card. Returns the code to fail
/// with, if any.
pub fn suffer(act: &Act) -> Option<Code> {
    match *act {
        Act::Fail(code) => return Some(code),
        Act::Hang(_) => hang(),
        Act::HangMs(ms) => std::thread::sleep(Duration::from_millis(ms)),
        // SAFETY: _exit takes any value and does not return.
        Act::Exit(status) => unsafe { libc::_exit(status) },
        Act::Signal(number) => {
            if let Some(signal) = Signal::from_named_raw(number) {
                let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
            }
        }
        Act::HangHard(_) => {
            ignore_endings();
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
            hang()
        }
        Act::Nan(_) | Act::Stale(_) | Act::Spoil(_) => {}
    }
    None
}
