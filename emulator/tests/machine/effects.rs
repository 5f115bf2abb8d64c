//! What broken executes compute and cost.

use serde_json::{Value, json};

use super::host::Machine;
use super::process::Process;
use super::small_engine;

/// A process with the model of the card's costs and a small engine.
fn worker(host: &Machine) -> Process {
    let mut process = Process::start(host.dir(), "llm8850");
    process.calls(&["init", "set"]);
    process.load(&small_engine::write(host.dir()));
    process
}

/// What wrong executes leave of right outputs: the same numbers of `output`, each in the place
/// of its neighbour, everything else as it should be.
fn misplaced(right: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut wrong = right.to_vec();
    wrong[0].rotate_right(2);
    assert_ne!(wrong, right, "a shift must show");
    wrong
}

#[test]
fn a_card_that_computes_wrongly_is_wrong_in_the_same_way_each_time() {
    let host = Machine::start(&["--loaded"]);
    let mut worker = worker(&host);
    let right = worker.execute();
    assert_eq!(worker.execute(), right);
    host.break_it(json!({"kind": "wrong"}));
    for _ in 0..3 {
        assert_eq!(worker.execute(), misplaced(&right));
    }
    host.heal();
    assert_eq!(worker.execute(), right);
}

#[test]
fn spoilt_executes_are_as_many_as_told() {
    let host = Machine::start(&["--loaded"]);
    let mut worker = worker(&host);
    let right = worker.execute();
    host.rule(&json!({"call": "axclrtEngineExecute", "nth": 2, "act": {"spoil": 2}}));
    let wrong = misplaced(&right);
    let seen: Vec<_> = (0..4).map(|_| worker.execute()).collect();
    assert_eq!(seen, [right.clone(), wrong.clone(), wrong, right]);
}

/// Nanoseconds the card was busy with one execute, as the model of its costs has it.
fn cost(host: &Machine, worker: &mut Process) -> u64 {
    host.ask_card(json!({"trace": {"reset": true}})).unwrap();
    worker.execute();
    let trace: Value = host.ask_card(json!({"trace": {}})).unwrap();
    let total = &trace["trace"]["total"];
    assert_eq!(total["executes"], 1);
    total["card_busy_ns"].as_u64().unwrap()
}

#[test]
fn a_slow_card_takes_a_multiple_of_the_time() {
    let host = Machine::start(&["--loaded"]);
    let mut worker = worker(&host);
    let right = worker.execute();
    let usual = cost(&host, &mut worker);
    assert_eq!(usual, 457_000 + (1 << 20) / 25, "the engine's weights stream at 25 GB/s");
    host.break_it(json!({"kind": "slow", "factor": 4.0}));
    assert_eq!(cost(&host, &mut worker), 4 * usual);
    host.break_it(json!({"kind": "slow", "factor": 2.5}));
    assert_eq!(cost(&host, &mut worker), 10 * usual, "one comes on top of the other");
    assert_eq!(worker.execute(), right);
    host.heal();
    assert_eq!(cost(&host, &mut worker), usual);
}
