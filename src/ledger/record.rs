//! What is remembered: one JSON value per line.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::Fault;
use crate::machine::state::Rung;

/// Times beyond this (317 years) are nonsense.
const LATEST_S: f64 = 1e10;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Operating time: the supervisor's running time since the ledger began, over all
    /// starts. No change of the wall clock moves it.
    #[serde(serialize_with = "to_seconds", deserialize_with = "from_seconds")]
    pub at: Duration,
    /// Milliseconds since 1970, by a clock that may have been wrong: for people only.
    pub unix_ms: u64,
    /// The kernel's identifier of the boot.
    pub boot: String,
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The supervisor started. Where it is the first record of its boot, so did the host.
    Boot,
    /// A fault was noticed.
    Incident { fault: Fault, detail: String },
    /// A rung of the ladder was begun: what its budget is counted by.
    Rung {
        #[serde(deserialize_with = "rung")]
        rung: Rung,
        fault: Fault,
    },
    /// A rung's own act failed.
    RungFailed {
        #[serde(deserialize_with = "rung")]
        rung: Rung,
        fault: Fault,
    },
    /// The card answers again, after `ms`. `rung` is the last one used.
    Recovered {
        #[serde(default, deserialize_with = "maybe_rung")]
        rung: Option<Rung>,
        fault: Fault,
        ms: u64,
    },
    /// The card is left alone for `seconds`: the small model answers, or nothing.
    Resting { fault: Fault, seconds: u64 },
    /// The rest is over.
    Retrying { fault: Fault },
    /// The card became too hot, or cool again.
    Heat { hot: bool },
    /// Nothing happened: keeps the operating time.
    Mark,
    /// The supervisor ended in good order.
    Stop,
}

impl Record {
    /// From a line of the file; `None` where it is broken.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// The line that says it, with its end.
    pub fn line(&self) -> Option<String> {
        serde_json::to_string(self).ok().map(|line| line + "\n")
    }
}

/// What was recorded before this start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operating time at which this start begins.
    pub base: Duration,
    /// Oldest first.
    pub records: Vec<Record>,
}

impl History {
    /// From a ledger's text: the history, and how many lines were broken.
    pub fn parse(text: &str) -> (Self, usize) {
        let mut seen = std::collections::HashSet::new();
        let mut history = Self::default();
        let mut broken = 0;
        for line in text.lines().filter(|line| !line.is_empty()) {
            match Record::parse(line) {
                // A line was written again where its first writing was in doubt.
                Some(record) if seen.insert(line) => {
                    history.base = history.base.max(record.at);
                    history.records.push(record);
                }
                Some(_) => {}
                None => broken += 1,
            }
        }
        (history, broken)
    }

    /// When the host's boots were first seen running, oldest first.
    pub fn host_boots(&self) -> Vec<Duration> {
        let mut known = std::collections::HashSet::new();
        self.records.iter().filter(|record| known.insert(&record.boot)).map(|record| record.at).collect()
    }
}

/// To milliseconds: what [`from_seconds`] reads back unchanged.
fn to_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(whole_milliseconds(*time).as_secs_f64())
}

fn from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if !(0.0..=LATEST_S).contains(&seconds) {
        return Err(serde::de::Error::custom("not an operating time"));
    }
    let half = Duration::from_micros(500);
    Ok(whole_milliseconds(Duration::from_secs_f64(seconds) + half))
}

/// `time` without what is finer than a millisecond.
pub fn whole_milliseconds(time: Duration) -> Duration {
    Duration::new(time.as_secs(), time.subsec_millis() * 1_000_000)
}

fn rung<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rung, D::Error> {
    let name = String::deserialize(deserializer)?;
    let rung = Rung::ALL.into_iter().find(|rung| rung.to_string() == name);
    rung.ok_or_else(|| serde::de::Error::custom(format!("{name:?} is no rung")))
}

fn maybe_rung<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rung>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    let known = |name: String| Rung::ALL.into_iter().find(|rung| rung.to_string() == name);
    Ok(name.and_then(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(at: f64, boot: &str, what: What) -> Record {
        Record { at: Duration::from_secs_f64(at), unix_ms: 1_800_000_000_000, boot: boot.into(), what }
    }

    fn every_kind() -> Vec<What> {
        let (fault, detail) = (Fault::CardDead, "device 1: dead!\n\"".to_owned());
        let mut kinds = vec![
            What::Boot,
            What::Mark,
            What::Stop,
            What::Incident { fault, detail },
            What::Resting { fault, seconds: 1800 },
            What::Retrying { fault },
            What::Heat { hot: true },
            What::Recovered { rung: None, fault, ms: 7 },
        ];
        kinds.extend(Rung::ALL.map(|rung| What::Rung { rung, fault }));
        kinds.extend(Rung::ALL.map(|rung| What::RungFailed { rung, fault }));
        kinds.extend(Rung::ALL.map(|rung| What::Recovered { rung: Some(rung), fault, ms: 41 }));
        kinds
    }

    #[test]
    fn a_record_is_one_flat_line() {
        let line = record(12.5, "b", What::Rung { rung: Rung::R2, fault: Fault::CardDead }).line().unwrap();
        assert_eq!(
            line,
            "{\"at\":12.5,\"unix_ms\":1800000000000,\"boot\":\"b\",\"what\":\"rung\",\"rung\":\"R2\",\"fault\":\"E-CARD-DEAD\"}\n"
        );
    }

    #[test]
    fn every_kind_survives_writing_and_reading() {
        for what in every_kind() {
            let record = record(0.001, "b", what);
            let line = record.line().unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(Record::parse(&line), Some(record));
        }
    }

    #[test]
    fn broken_lines_are_counted_and_repeated_ones_are_not() {
        let good = record(5.0, "b", What::Boot).line().unwrap();
        let later = record(7.25, "c", What::Stop).line().unwrap();
        let bad = [
            "{\"at\":",
            "\u{fffd}\u{fffd}",
            "{}",
            "{\"at\":-1.0,\"unix_ms\":0,\"boot\":\"\",\"what\":\"mark\"}",
            "{\"at\":1e300,\"unix_ms\":0,\"boot\":\"\",\"what\":\"mark\"}",
            "{\"at\":1.0,\"unix_ms\":0,\"boot\":\"\",\"what\":\"rung\",\"rung\":\"R9\",\"fault\":\"E-CARD-DEAD\"}",
            "{\"at\":1.0,\"unix_ms\":0,\"boot\":\"\",\"what\":\"dance\"}",
        ];
        let text = format!("{good}{}\n\n{good}{later}{{\"at\":9", bad.join("\n"));
        let (history, broken) = History::parse(&text);
        assert_eq!(broken, bad.len() + 1);
        assert_eq!(history.base, Duration::from_millis(7250));
        assert_eq!(history.records.len(), 2);
        assert_eq!(history.host_boots(), [Duration::from_secs(5), Duration::from_millis(7250)]);
    }

    proptest! {
        #[test]
        fn times_survive_to_the_millisecond(millis in 0u64..10_000_000_000_000) {
            let at = Duration::from_millis(millis);
            let record = Record { at, unix_ms: 0, boot: String::new(), what: What::Mark };
            prop_assert_eq!(Record::parse(&record.line().unwrap()).unwrap().at, at);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "(?s).{0,300}") {
            let (history, _) = History::parse(&text);
            prop_assert!(history.records.is_empty());
        }
    }
}
