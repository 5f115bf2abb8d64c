//! What is decided about slots: pure, so that every order of events can be tried.
//!
//! Whoever carries a [`Decision`] out does so in this order: what is committed, what is kept,
//! the restart. The first step that fails ends it, except that a restart which is no trial
//! needs nothing kept. The firmware's sector alone decides what is started, so a power cut
//! between two steps leaves an older record beside a newer sector, never the reverse;
//! [`settle`] brings them together again.

use super::record::{Record, Slot, State, Trial, Verdict};

/// A trial is started so often at most.
pub const ATTEMPTS: u32 = 2;
/// A slot that is started so often without being judged good is left for the other.
pub const STARTS: u32 = 3;

/// What the machine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The slot that runs.
    pub running: Slot,
    /// Whether the firmware was asked to start it this once.
    pub tryboot: bool,
    /// What the firmware starts by itself; nothing where that cannot be read.
    pub committed: Option<Slot>,
    /// The version of what runs.
    pub version: String,
    /// The oldest version that this one allows to be installed.
    pub floor: String,
}

/// How this start came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The firmware starts this slot by itself.
    Committed,
    /// This once.
    Trial,
    /// The firmware could not start the other one.
    Stray,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Into what is committed.
    Plain,
    /// Into the trial.
    Trial,
}

/// What is to become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub record: Record,
    /// What the firmware is to start by itself from now on.
    pub commit: Option<Slot>,
    pub restart: Option<Restart>,
    /// For the journal.
    pub says: Vec<String>,
}

impl Decision {
    fn keep(record: Record) -> Self {
        Self { record, ..Self::default() }
    }

    fn say(mut self, what: impl Into<String>) -> Self {
        self.says.push(what.into());
        self
    }
}

/// The record as it must be beside these facts, what the firmware starts by itself, and the
/// role of what runs.
pub fn settle(record: &Record, facts: &Facts) -> (Record, Slot, Role) {
    let mut record = record.clone();
    let running = facts.running;
    let tried = facts.tryboot || record.trial.as_ref().is_some_and(|trial| trial.slot == running);
    let committed = facts.committed.unwrap_or_else(|| match record.committed {
        Some(kept) if kept == running || record.is_good(kept) => kept,
        _ if tried => running.other(),
        _ => running,
    });
    if record.committed != Some(committed) {
        if record.committed.is_some() && facts.committed.is_some() {
            // What is started changes only to what was judged good: the record of that was lost.
            let kept = record.slot_mut(committed);
            (kept.state, kept.why) = (State::Good, String::new());
        }
        (record.committed, record.starts) = (Some(committed), 0);
    }
    record.trial = record.trial.filter(|trial| trial.slot != committed);
    let role = match running == committed {
        true => Role::Committed,
        false if tried => Role::Trial,
        false => Role::Stray,
    };
    (record, committed, role)
}

/// The system started.
pub fn start(record: &Record, facts: &Facts) -> Decision {
    let (mut record, committed, role) = settle(record, facts);
    let running = facts.running;
    record.slot_mut(running).version.clone_from(&facts.version);
    let lost = facts.committed.is_none().then_some(committed);
    let mut decision = match role {
        Role::Trial => {
            // Of a trial without a record this is the last attempt.
            record.trial.get_or_insert(Trial { slot: running, attempts: ATTEMPTS });
            Decision::keep(record).say(format!("slot {running} is on trial"))
        }
        Role::Stray => Decision::keep(record).say(format!(
            "the firmware started slot {running} in place of {committed}, which it is to start"
        )),
        Role::Committed => start_committed(record, running),
    };
    if let Some(slot) = lost {
        decision.commit.get_or_insert(slot);
        decision.says.push(format!("autoboot.txt cannot be read: it is written again for slot {slot}"));
    }
    decision
}

fn start_committed(mut record: Record, running: Slot) -> Decision {
    let mut says = Vec::new();
    if let Some(trial) = record.trial.as_mut() {
        if trial.attempts < ATTEMPTS {
            trial.attempts += 1;
            let said = format!("slot {} is tried, attempt {} of {ATTEMPTS}", trial.slot, trial.attempts);
            return Decision { restart: Some(Restart::Trial), ..Decision::keep(record) }.say(said);
        }
        let slot = trial.slot;
        record.trial = None;
        record.condemn(slot, format!("it was started {ATTEMPTS} times and came to no verdict"));
        says.push(format!("slot {slot} is bad: it was started {ATTEMPTS} times and came to no verdict"));
    }
    let mut decision = match record.slot(running).state {
        State::Bad => leave(record.clone(), running, record.slot(running).why.clone()),
        _ if record.starts >= STARTS => leave(record.clone(), running, unjudged(record.starts)),
        _ => Decision::keep(record),
    };
    if decision.restart.is_none() {
        decision.record.starts = decision.record.starts.saturating_add(1);
    }
    says.append(&mut decision.says);
    Decision { says, ..decision }
}

fn unjudged(starts: u32) -> String {
    format!("it was started {starts} times without being judged good")
}

/// Leaves the running, committed slot for the other, where that was good once.
fn leave(mut record: Record, running: Slot, why: String) -> Decision {
    let other = running.other();
    if !record.is_good(other) {
        let said = format!("slot {running} stays: {why}, but slot {other} was never judged good");
        return Decision::keep(record).say(said);
    }
    record.condemn(running, why.clone());
    (record.committed, record.starts, record.trial) = (Some(other), 0, None);
    Decision { record, commit: Some(other), restart: Some(Restart::Plain), says: Vec::new() }
        .say(format!("slot {running} is left for {other}: {why}"))
}

/// Why `verdict` is not enough for the slot that runs.
pub fn objection(record: &Record, facts: &Facts, verdict: &Verdict) -> Option<String> {
    let (record, committed, role) = settle(record, facts);
    let had_none = record.slot(committed).verdict.as_ref().is_some_and(|before| !before.network);
    (role == Role::Trial && !verdict.network && !had_none)
        .then(|| format!("it has no address on the local network, whereas slot {committed} had one"))
}

/// The running slot was judged good.
pub fn judged_good(record: &Record, facts: &Facts, verdict: Verdict) -> Decision {
    let (mut record, _, role) = settle(record, facts);
    let running = facts.running;
    let kept = record.slot_mut(running);
    kept.version.clone_from(&facts.version);
    (kept.state, kept.why, kept.verdict) = (State::Good, String::new(), Some(verdict));
    record.trial = record.trial.filter(|trial| trial.slot != running);
    (record.starts, record.committed) = (0, Some(running));
    if newer(&facts.floor, &record.floor) {
        record.floor.clone_from(&facts.floor);
    }
    let commit = (role != Role::Committed || facts.committed.is_none()).then_some(running);
    Decision { commit, ..Decision::keep(record) }.say(format!("slot {running} is good"))
}

/// The running slot was not judged good in time.
pub fn overdue(record: &Record, facts: &Facts, why: &str) -> Decision {
    let (mut record, committed, role) = settle(record, facts);
    let running = facts.running;
    match role {
        Role::Trial => {
            record.condemn(running, why);
            record.trial = None;
            Decision { restart: Some(Restart::Plain), ..Decision::keep(record) }
                .say(format!("slot {running} is bad: {why}; back to slot {committed}"))
        }
        Role::Committed if record.starts >= STARTS => {
            let starts = record.starts;
            leave(record, running, format!("{}: {why}", unjudged(starts)))
        }
        _ => Decision::keep(record).say(format!("slot {running} is not judged good: {why}")),
    }
}

/// RAUC, or a person by it, tells a slot's state.
///
/// # Errors
/// Why that cannot be.
pub fn set_state(record: &Record, facts: &Facts, slot: Slot, good: bool) -> Result<Decision, String> {
    let (mut settled, committed, role) = settle(record, facts);
    let running = facts.running;
    if good {
        let by = Verdict { by: "a person".into(), network: true, ..Verdict::default() };
        return match slot == running {
            true => Ok(judged_good(record, facts, by)),
            false => Err(format!("slot {slot} does not run: only what runs can be judged good")),
        };
    }
    if slot != running && slot == committed {
        return Err(format!("slot {slot} is started next: wait until slot {running} is judged"));
    }
    if slot == running && role != Role::Trial && !settled.is_good(running.other()) {
        return Err(format!("slot {slot} stays: slot {} was never judged good", running.other()));
    }
    if slot != running {
        spares_the_only_good(&settled, running)?;
    }
    settled.trial = settled.trial.filter(|trial| trial.slot != slot);
    let kept = settled.slot_mut(slot);
    if slot != running {
        // It is about to be written.
        (kept.version, kept.verdict) = (String::new(), None);
    }
    let why = if slot == running { "a person said so" } else { "its writing was begun and did not end" };
    settled.condemn(slot, why);
    Ok(Decision::keep(settled).say(format!("slot {slot} is marked bad: {why}")))
}

/// RAUC has written `slot`, and it is to be started.
///
/// # Errors
/// Why that cannot be.
pub fn set_primary(record: &Record, facts: &Facts, slot: Slot) -> Result<Decision, String> {
    let (mut record, committed, _) = settle(record, facts);
    if slot == committed {
        record.trial = None;
        return Ok(Decision::keep(record).say(format!("slot {slot} stays what is started")));
    }
    if slot == facts.running {
        return Err(format!("slot {slot} runs on trial: it stays when it is judged good"));
    }
    let kept = record.slot_mut(slot);
    if kept.state == State::Bad {
        (kept.state, kept.why) = (State::Untested, String::new());
    }
    record.trial = Some(Trial { slot, attempts: 0 });
    Ok(Decision::keep(record).say(format!("slot {slot} is to be tried")))
}

/// What is started next, as far as it is decided.
pub fn primary(record: &Record, facts: &Facts) -> Slot {
    let (record, committed, _) = settle(record, facts);
    record.trial.map_or(committed, |trial| trial.slot)
}

/// Begins the trial that was ordered.
///
/// # Errors
/// There is none, or this is one.
pub fn begin_trial(record: &Record, facts: &Facts) -> Result<Decision, String> {
    let (record, _, role) = settle(record, facts);
    match (role, &record.trial) {
        (Role::Committed, Some(_)) => Ok(start_committed(record, facts.running)),
        _ => Err("no slot is to be tried".into()),
    }
}

/// Why nothing may be installed now.
pub fn installable(record: &Record, facts: &Facts) -> Result<(), String> {
    let (record, committed, role) = settle(record, facts);
    let running = facts.running;
    if role != Role::Committed {
        return Err(format!("slot {committed} would be overwritten before slot {running} is judged"));
    }
    spares_the_only_good(&record, running)
}

fn spares_the_only_good(record: &Record, running: Slot) -> Result<(), String> {
    let other = running.other();
    match record.slot(running).state == State::Bad && record.is_good(other) {
        true => Err(format!("slot {other} is the only good one: restart, and slot {running} is left for it")),
        false => Ok(()),
    }
}

/// Whether version `this` is newer than `than`: numbers between dots, anything else after the
/// last of them equal to its lack.
pub fn newer(this: &str, than: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
        let mut numbers: Vec<u64> = version
            .trim()
            .trim_start_matches('v')
            .split('.')
            .map_while(|part| digits(part).parse().ok())
            .collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers
    };
    numbers(this) > numbers(than)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
