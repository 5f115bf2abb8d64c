//! docs/STATES.md and docs/FAULTS.md are printed from the code. After a change of either run
//! `UPDATE_DOCS=1 cargo test --test tables`.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::PathBuf;

use llm8850::fault::Fault;
use llm8850::lights::Look;
use llm8850::machine::ladder::{Call, budgets, call};
use llm8850::machine::{Rung, State, Verb};

#[track_caller]
fn assert_fresh(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/{name} is out of date: run `UPDATE_DOCS=1 cargo test --test tables`");
}

fn time(seconds: u64) -> String {
    match seconds {
        s if s >= 3600 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[test]
fn states_and_ladder_are_documented_as_they_are() {
    let mut text = String::from(
        "# States and the ladder\n\n\
         Printed from the code and checked by a test. What is told of hardware here has only run on the emulated card.\n\n\
         ## States\n\n\
         | state | meaning | new requests | answers under way | `/readyz` | status light | fault light |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for state in State::ALL {
        let name = match state {
            State::Recovering(rung) => format!("{}, {rung}", state.name()),
            _ => state.name().to_owned(),
        };
        let lamps = Look { state, ..Look::default() }.lamps();
        let (new, running) = (state.new_requests(), state.running_requests());
        let (status, fault) = (lamps.status.name, lamps.fault.name);
        let meaning = state.meaning();
        let ready = state.readiness();
        writeln!(text, "| {name} | {meaning} | {new} | {running} | {ready} | {status} | {fault} |").unwrap();
    }
    text.push_str(
        "\nA configuration file with errors does not keep the service from answering: defaults stand in, `/readyz` \
         carries a warning, and the fault light flashes six times.\n\n\
         ## The ladder\n\n\
         | rung | what is done | at most |\n|---|---|---|\n",
    );
    for rung in Rung::ALL {
        let most: Vec<String> =
            budgets(rung).iter().map(|b| format!("{} in {}", b.most, time(b.span.as_secs()))).collect();
        writeln!(text, "| {rung} | {} | {} |", rung.act(), most.join(", ")).unwrap();
    }
    text.push_str(
        "\nBudgets count in operating time, over restarts. Three boots within ten minutes end restarts of the host for \
         six hours. Each rung ends with the same proof: the model loads, and the test prompt is answered as it was \
         recorded. When no rung is left, the card rests for 30 min, 1 h, 2 h, then every 6 h, and is tried again from \
         R2 on.\n\n\
         ## The card helper's deeds\n\n| deed | given up after |\n|---|---|\n",
    );
    for verb in Verb::ALL {
        writeln!(text, "| `{}` | {} |", verb.name(), time(verb.deadline().as_secs())).unwrap();
    }
    assert_fresh("STATES.md", &text);
}

#[test]
fn faults_are_documented_as_they_are() {
    let mut text = String::from(
        "# Faults\n\n\
         Printed from the code and checked by a test. Codes are stable; journal, APIs and status carry them. \
         \"Begins at\" is the first rung of the [ladder](STATES.md) a fault calls for, \"again\" the one when it comes \
         back before the card has proved itself, \"up to\" the last one it justifies.\n\n\
         | code | meaning | begins at | again | up to | what a person can do |\n|---|---|---|---|---|---|\n",
    );
    for &fault in Fault::ALL {
        let (first, again, last) = match call(fault) {
            Call::Climb { first, again, last } => (first.to_string(), again.to_string(), last.to_string()),
            Call::Person => ("–".into(), "–".into(), "–".into()),
        };
        let (code, meaning, remedy) = (fault.code(), fault.meaning(), fault.remedy());
        writeln!(text, "| `{code}` | {meaning} | {first} | {again} | {last} | {remedy} |").unwrap();
    }
    assert_fresh("FAULTS.md", &text);
}
