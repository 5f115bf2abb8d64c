use super::super::firmware::Started;
use super::super::record::{State, Verdict};
use super::*;

/// A firmware that does as it is told, or not.
pub struct Obedient {
    pub started: Started,
    pub committed: Option<Slot>,
    pub breaks: bool,
    pub old: bool,
    pub restarts: Vec<Restart>,
}

impl Firmware for Obedient {
    fn started(&self) -> Option<Started> {
        Some(self.started)
    }

    fn committed(&self) -> Option<Slot> {
        self.committed
    }

    fn commit(&mut self, slot: Slot) -> Result<()> {
        if self.breaks {
            return Err(Failure::new(Fault::Setup, "worn out"));
        }
        self.committed = Some(slot);
        Ok(())
    }

    fn restart(&mut self, into: Restart) -> Result<()> {
        self.restarts.push(into);
        Ok(())
    }

    fn can_try(&self) -> Result<()> {
        if self.old { Err(Failure::new(Fault::Bootloader, "it is too old")) } else { Ok(()) }
    }
}

/// Slot A runs and is what is started.
pub fn keeper() -> (tempfile::TempDir, Keeper<Obedient>) {
    let directory = tempfile::tempdir().unwrap();
    let started = Started { slot: Slot::A, tryboot: false };
    let firmware =
        Obedient { started, committed: Some(Slot::A), breaks: false, old: false, restarts: Vec::new() };
    let keeper = Keeper::new(SysRoot::new(directory.path()), firmware);
    (directory, keeper)
}

impl Keeper<Obedient> {
    pub fn age(&mut self) {
        self.firmware.old = true;
    }

    pub fn set_started(&mut self, started: Started) {
        self.firmware.started = started;
    }
}

fn told(keeper: &Keeper<Obedient>) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(keeper.told()).unwrap()).unwrap()
}

fn try_b(keeper: &mut Keeper<Obedient>) {
    keeper.decide(|record, facts| policy::set_primary(record, facts, Slot::B)).unwrap();
    assert!(keeper.decide(policy::begin_trial).unwrap());
    keeper.firmware.started = Started { slot: Slot::B, tryboot: true };
    keeper.start().unwrap();
}

#[test]
fn an_update_is_kept_told_and_committed() {
    let (directory, mut keeper) = keeper();
    let release = directory.path().join(OS_RELEASE);
    std::fs::create_dir_all(release.parent().unwrap()).unwrap();
    std::fs::write(release, "ID=llm8850\nIMAGE_VERSION=\"7.1\"\n").unwrap();
    assert!(!keeper.start().unwrap());
    assert_eq!((&told(&keeper)["running"], &told(&keeper)["a"]["version"]), (&"a".into(), &"7.1".into()));
    keeper.tell_update(&Update { bundle: "x.raucb".into(), percent: 40, ..Update::default() }).unwrap();
    try_b(&mut keeper);
    assert_eq!(keeper.firmware.restarts, [Restart::Trial]);
    assert_eq!((&told(&keeper)["on_trial"], &told(&keeper)["update"]["percent"]), (&true.into(), &40.into()));
    assert!(keeper.on_trial().unwrap());
    keeper.decide(|r, f| Ok(policy::judged_good(r, f, Verdict::default()))).unwrap();
    assert_eq!(keeper.firmware.committed, Some(Slot::B));
    assert_eq!((&told(&keeper)["b"]["state"], &told(&keeper)["on_trial"]), (&"good".into(), &false.into()));
    assert_eq!(keeper.look(|record, _| record.b.state).unwrap(), State::Good);
}

#[test]
fn a_sector_that_cannot_be_written_leaves_the_trial_as_it_was() {
    let (_directory, mut keeper) = keeper();
    keeper.start().unwrap();
    try_b(&mut keeper);
    keeper.firmware.breaks = true;
    let judged = keeper.decide(|r, f| Ok(policy::judged_good(r, f, Verdict::default())));
    assert_eq!(judged.unwrap_err().fault, Fault::Setup);
    assert_eq!(keeper.look(|record, _| record.b.state).unwrap(), State::Untested);
}

#[test]
fn a_record_that_cannot_be_written_begins_no_trial_but_ends_one() {
    let (directory, mut keeper) = keeper();
    keeper.decide(|record, facts| policy::set_primary(record, facts, Slot::B)).unwrap();
    let (kept, aside) = (directory.path().join("var/lib/llm8850-slots"), directory.path().join("aside"));
    std::fs::rename(&kept, &aside).unwrap();
    std::fs::write(&kept, "no directory").unwrap();
    let begun = keeper.decide(|record, facts| {
        assert_eq!(record, &Record::default(), "nothing is known");
        let record = policy::set_primary(record, facts, Slot::B)?.record;
        policy::begin_trial(&record, facts)
    });
    assert_eq!(begun.unwrap_err().fault, Fault::Slots);
    assert_eq!(keeper.firmware.restarts, []);
    keeper.firmware.started = Started { slot: Slot::B, tryboot: true };
    assert!(keeper.decide(|r, f| Ok(policy::overdue(r, f, "no answer"))).unwrap());
    assert_eq!(keeper.firmware.restarts, [Restart::Plain]);
}

#[test]
fn a_lost_sector_is_written_where_it_can_be_and_is_otherwise_no_failure() {
    let (_directory, mut keeper) = keeper();
    keeper.firmware.committed = None;
    keeper.firmware.breaks = true;
    assert!(!keeper.start().unwrap());
    assert_eq!(keeper.look(|record, _| record.starts).unwrap(), 1, "the record is kept all the same");
    assert_eq!(keeper.meant().unwrap(), Slot::A);
    keeper.firmware.breaks = false;
    keeper.start().unwrap();
    assert_eq!(keeper.firmware.committed, Some(Slot::A));
}

#[test]
fn a_damaged_record_counts_as_none() {
    let (directory, mut keeper) = keeper();
    keeper.start().unwrap();
    for text in ["", "{", "[1]", "{\"a\": 7}", "{\"future\": true}"] {
        std::fs::write(directory.path().join(KEPT), text).unwrap();
        assert!(!keeper.start().unwrap(), "{text:?}");
        assert_eq!(keeper.look(|record, _| record.starts).unwrap(), 1);
    }
}
