//! The card with a small engine of its own: doubles bytes, so that results are known.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::allocator::{BASELINE, SIZE};
use super::condition::Condition;
use super::npu::Binding;
use super::*;
use crate::engine::{DataType, EngineInfo, Tensor};
use fault::Taint;

const WEIGHTS: u64 = 25_000_000; // 1 ms under the profile llm8850

struct Doubler(EngineInfo);

impl Engine for Doubler {
    fn info(&self) -> &EngineInfo {
        &self.0
    }

    fn run(&self, _: usize, inputs: &[&[u8]], outputs: &mut [Vec<u8>]) -> Result<(), String> {
        for (output, input) in outputs.iter_mut().zip(inputs) {
            output.iter_mut().zip(*input).for_each(|(to, from)| *to = from.wrapping_mul(2));
        }
        Ok(())
    }

    fn weight_bytes(&self) -> u64 {
        WEIGHTS
    }
}

/// Accepts files that begin with "engine". Two groups, of 4 and 8 elements.
fn load(source: Source) -> Result<Box<dyn Engine>, String> {
    if !source.bytes().starts_with(b"engine") {
        return Err("not an engine".into());
    }
    let tensor = |name: &str| Tensor {
        name: name.into(),
        data_type: DataType::Bf16,
        dims: vec![vec![1, 4], vec![2, 4]],
    };
    Ok(Box::new(Doubler(EngineInfo {
        inputs: vec![tensor("input"), tensor("mask")],
        outputs: vec![tensor("output"), tensor("rest")],
        groups: 2,
    })))
}

struct Bench {
    card: Card,
    loaded: Arc<Loaded>,
    inputs: Vec<Binding>,
    outputs: Vec<Binding>,
}

impl Bench {
    fn new() -> Self {
        let card = Card::with_loader(load);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"engine").unwrap();
        let id = card.load_file(&file).unwrap();
        let loaded = card.engine(id).unwrap();
        let new = |_| Binding { address: card.memory.allocate(16).unwrap(), size: 8 };
        let (inputs, outputs) = ((0..2).map(new).collect(), (0..2).map(new).collect());
        let bench = Self { card, loaded, inputs, outputs };
        for (index, binding) in bench.inputs.iter().enumerate() {
            bench.card.memory.range(binding.address, 16).unwrap().fill(index as u8 + 1);
        }
        bench
    }

    fn request(&self) -> Request {
        Request {
            loaded: Arc::clone(&self.loaded),
            group: 0,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            taint: None,
        }
    }

    fn run(&self, request: &Request) -> Result<Instant, String> {
        self.card.execute(Instant::now(), request, 0).map_err(|(code, reason)| {
            assert_eq!(code, Code::ENGINE_FAILED);
            reason
        })
    }

    fn bytes(&self, binding: Binding, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.card.memory.range(binding.address, len).unwrap().read(&mut out);
        out
    }
}

#[test]
fn outputs_land_where_they_are_bound_and_nowhere_else() {
    let bench = Bench::new();
    bench.run(&bench.request()).unwrap();
    assert_eq!(bench.bytes(bench.outputs[0], 16), [[2; 8], [0xFF; 8]].concat());
    assert_eq!(bench.bytes(bench.outputs[1], 8), [4; 8]);
    let mut request = bench.request();
    request.outputs[1].address += 8;
    bench.run(&request).unwrap();
    assert_eq!(bench.bytes(bench.outputs[1], 16), [4; 16]);
}

#[test]
fn wrong_bindings_are_refused_by_name() {
    let bench = Bench::new();
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = bench.request();
        change(&mut request);
        bench.run(&request).unwrap_err()
    };
    assert!(refused(&|r| r.inputs[1] = Binding::default()).contains("mask is not bound"));
    assert!(refused(&|r| r.outputs[0].size = 16).contains("16 bytes, not 8"));
    assert!(refused(&|r| r.group = 1).contains("8 bytes, not 16"));
    assert!(refused(&|r| r.group = 2).contains("no shape group 2"));
    assert!(refused(&|r| r.inputs[0].address += 9).contains("not card memory"));
    assert!(refused(&|r| r.inputs[0].address = 0x7fff_0000_0000).contains("not card memory"));
    assert!(refused(&|r| r.outputs.truncate(1)).contains("rest is not bound"));
    assert_eq!(bench.bytes(bench.outputs[0], 8), [0xFF; 8], "nothing was written");
}

#[test]
fn a_hidden_state_written_over_what_is_read_is_garbage_but_a_cache_row_is_not() {
    let bench = Bench::new();
    let mut request = bench.request();
    request.outputs[0] = request.inputs[0];
    request.outputs[1] = request.inputs[1];
    bench.run(&request).unwrap();
    assert_eq!(bench.bytes(bench.inputs[0], 8), [0xFF; 8]);
    assert_eq!(bench.bytes(bench.inputs[1], 8), [4; 8]);
}

#[test]
fn tainted_executes_leave_nan_or_nothing() {
    let bench = Bench::new();
    let request = |taint| Request { taint: Some(taint), ..bench.request() };
    bench.card.memory.range(bench.outputs[0].address, 8).unwrap().fill(7);
    bench.run(&request(Taint::Stale)).unwrap();
    assert_eq!(bench.bytes(bench.outputs[0], 8), [7; 8]);
    bench.run(&request(Taint::Nan)).unwrap();
    assert_eq!(bench.bytes(bench.outputs[0], 8), [0xFF; 8]);
}

#[test]
fn wrong_executes_misplace_the_values_of_the_hidden_state_and_touch_nothing_else() {
    let bench = Bench::new();
    let values = [1, 2, 3, 4, 5, 6, 7, 8];
    bench.card.memory.range(bench.inputs[0].address, 8).unwrap().write(&values);
    let request = Request { taint: Some(Taint::Wrong), ..bench.request() };
    for _ in 0..3 {
        bench.run(&request).unwrap();
        let wrong = [14, 16, 2, 4, 6, 8, 10, 12];
        assert_eq!(bench.bytes(bench.outputs[0], 16), [wrong, [0xFF; 8]].concat());
        assert_eq!(bench.bytes(bench.outputs[1], 16), [[4; 8], [0xFF; 8]].concat());
    }
    assert_eq!(bench.bytes(bench.inputs[0], 8), values);
}

/// Computing takes less, however busy the computer is: an execute costs a good second.
fn unhurried() -> Latency {
    Latency { weights_gb_per_s: 0.025, ..Latency::default() }
}

#[test]
fn a_slow_card_is_busy_a_multiple_of_what_the_model_says() {
    let bench = Bench::new();
    bench.card.set_latency(Some(unhurried()));
    let cost = unhurried().execute(WEIGHTS);
    let start = Instant::now() + Duration::from_secs(1000);
    let end = || bench.card.execute(start, &bench.request(), 0).unwrap();
    assert_eq!(end(), start + cost);
    bench.card.condition.set(Condition { slow: 3.0, ..Condition::default() });
    assert_eq!(end(), start + cost * 4);
    let busy = bench.card.trace.snapshot(start).total.card_busy_ns;
    assert_eq!(u128::from(busy), (cost * 4).as_nanos());
}

#[test]
fn the_timeline_is_exact_and_shared_by_all_streams() {
    let bench = Bench::new();
    bench.card.set_latency(Some(unhurried()));
    let cost = unhurried().execute(WEIGHTS);
    let start = Instant::now() + Duration::from_secs(1000);
    let request = bench.request();
    let end = |ready| bench.card.execute(ready, &request, 0).unwrap();
    assert_eq!(end(start), start + cost);
    assert_eq!(end(start), start + cost * 2, "the second waits for the first");
    let idle = start + Duration::from_secs(10);
    assert_eq!(end(idle), idle + cost);
    let total = bench.card.trace.snapshot(start).total;
    assert_eq!((total.executes, u128::from(total.card_busy_ns)), (3, (cost * 3).as_nanos()));
}

#[test]
fn loading_accounts_a_transient_copy_and_the_engine() {
    let card = Card::with_loader(load);
    let room = SIZE - BASELINE;
    let sparse = |size: u64| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"engine").unwrap();
        file.set_len(size).unwrap();
        file
    };
    let gib = 1 << 30;
    let id = card.load_file(&sparse(gib)).unwrap();
    let taken = room - card.memory.free();
    assert!((gib * 129 / 100..gib * 131 / 100).contains(&taken), "{taken}");
    // 1.3 × 2.4 fits into what is left, but not beside the copy it is made from.
    let big = sparse(gib * 24 / 10);
    assert_eq!(card.load_file(&big).unwrap_err().0, Code::MEMORY_FAILED);
    assert_eq!(room - card.memory.free(), taken, "nothing is left of the attempt");
    assert!(card.unload(id) && !card.unload(id));
    assert_eq!(card.memory.free(), room);
    card.load_file(&big).unwrap();
    card.reset();
    assert_eq!(card.memory.free(), room);
}

#[test]
fn engines_load_from_card_memory_only() {
    let card = Card::with_loader(load);
    let host = *b"engine";
    let at = host.as_ptr().addr() as u64;
    assert_eq!(card.load_memory(at, 6).unwrap_err().0, Code::ENGINE_FAILED);
    let base = card.memory.allocate(6).unwrap();
    assert_eq!(card.load_memory(base, 6).unwrap_err().0, Code::ENGINE_FAILED, "full of NaN");
    card.memory.range(base, 6).unwrap().write(&host);
    let id = card.load_memory(base, 6).unwrap();
    assert!(card.memory.release(base), "the engine needs the upload no more");
    assert!(card.engine(id).is_some());
}

#[test]
fn executes_and_copies_crossing_in_many_threads_neither_tear_nor_deadlock() {
    let bench = Bench::new();
    let [forth, mut back] = [bench.request(), bench.request()];
    std::mem::swap(&mut back.inputs, &mut back.outputs);
    let (a, b) = (bench.inputs[0], bench.outputs[0]);
    let bench = &bench;
    std::thread::scope(|scope| {
        for request in [&forth, &back] {
            scope.spawn(move || {
                for _ in 0..500 {
                    bench.run(request).unwrap();
                }
            });
        }
        for (to, from) in [(a, b), (b, a)] {
            scope.spawn(move || {
                let range = |at: Binding| bench.card.memory.range(at.address, 8).unwrap();
                (0..500).for_each(|_| range(to).copy_from(&range(from)));
            });
        }
    });
    for binding in [a, b] {
        let bytes = bench.bytes(binding, 8);
        assert!(bytes.iter().all(|&byte| byte == bytes[0]), "whole writes only: {bytes:?}");
    }
}
