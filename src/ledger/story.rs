//! The records of incidents, told one by one.

use serde::Serialize;

use super::record::{Record, What};
use crate::fault::Fault;

/// Incidents told.
const MOST: usize = 50;

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    UnderWay,
    /// The card answers again.
    Recovered,
    /// Supervisor or host started anew.
    Restarted,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Story {
    /// When it began: milliseconds since 1970, by a clock that may have been wrong.
    pub unix_ms: u64,
    /// What was seen last.
    pub code: &'static str,
    pub meaning: &'static str,
    pub remedy: &'static str,
    /// What it began with, and the particulars of that.
    pub first: &'static str,
    pub detail: String,
    /// What was done about it, in order.
    pub acts: Vec<&'static str>,
    pub outcome: Outcome,
    /// Seconds until the card answered again.
    pub recovered_s: Option<f64>,
}

impl Story {
    fn new(record: &Record, fault: Fault, detail: &str) -> Self {
        Self {
            unix_ms: record.unix_ms,
            code: fault.code(),
            meaning: fault.meaning(),
            remedy: fault.remedy(),
            first: fault.code(),
            detail: detail.to_owned(),
            acts: Vec::new(),
            outcome: Outcome::UnderWay,
            recovered_s: None,
        }
    }

    fn see(&mut self, fault: Fault) {
        (self.code, self.meaning, self.remedy) = (fault.code(), fault.meaning(), fault.remedy());
    }
}

/// The incidents that `records`, oldest first, tell of; newest first.
pub fn stories<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    for record in records {
        let open = stories.last_mut().filter(|story| story.outcome == Outcome::UnderWay);
        match (&record.what, open) {
            (What::Incident { fault, detail }, _) => stories.push(Story::new(record, *fault, detail)),
            (What::Rung { rung, fault }, Some(story)) => {
                story.see(*fault);
                story.acts.push(rung.act());
            }
            (What::RungFailed { fault, .. } | What::Resting { fault, .. }, Some(story)) => story.see(*fault),
            (What::Recovered { ms, .. }, Some(story)) => {
                story.outcome = Outcome::Recovered;
                story.recovered_s = Some(*ms as f64 / 1000.0);
            }
            (What::Boot | What::Stop, Some(story)) => story.outcome = Outcome::Restarted,
            _ => {}
        }
    }
    stories.reverse();
    stories.truncate(MOST);
    stories
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::state::Rung;

    #[test]
    fn records_become_incidents_newest_first() {
        let fault = Fault::CardDead;
        let incident = || What::Incident { fault, detail: "device 1".into() };
        let whats = [
            What::Boot,
            incident(),
            What::Rung { rung: Rung::R1, fault },
            What::RungFailed { rung: Rung::R1, fault },
            What::Rung { rung: Rung::R2, fault: Fault::CardStall },
            What::Recovered { rung: Some(Rung::R2), fault, ms: 1500 },
            What::Mark,
            incident(),
            What::Rung { rung: Rung::R5, fault },
            What::Boot,
            What::Rung { rung: Rung::R1, fault },
            incident(),
            What::Resting { fault, seconds: 9 },
        ];
        let stamped = |(at, what)| Record { at: Duration::ZERO, unix_ms: at, boot: "b".into(), what };
        let records: Vec<Record> = (0..).zip(whats).map(stamped).collect();
        let told = stories(&records);
        let outcomes: Vec<_> =
            told.iter().map(|story| (story.unix_ms, story.outcome, story.acts.len())).collect();
        let expected = [(11, Outcome::UnderWay, 0), (7, Outcome::Restarted, 1), (1, Outcome::Recovered, 2)];
        assert_eq!(outcomes, expected);
        let last = serde_json::to_value(&told[2]).unwrap();
        assert_eq!((&last["first"], &last["code"]), (&"E-CARD-DEAD".into(), &"E-CARD-STALL".into()));
        assert_eq!((&last["detail"], &last["outcome"]), (&"device 1".into(), &"recovered".into()));
        assert_eq!((&last["acts"][1], &last["recovered_s"]), (&"the card is restarted".into(), &1.5.into()));
        let many: Vec<Record> = (0..200).map(|at| stamped((at, incident()))).collect();
        assert_eq!((stories(&many).len(), stories(&many)[0].unix_ms), (MOST, 199));
    }
}
