//! Figures of a packed model on this machine: the engines alone, without card or host.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::chain::Chain;
use crate::processor;

/// A speed.
#[derive(Clone, Copy)]
pub struct Rate {
    /// Tokens per second by the clock.
    pub wall: f64,
    /// Tokens per second of processor time: what a machine that does other things too
    /// cannot spoil.
    pub processor: f64,
}

/// Speeds of a model.
pub struct Figures {
    /// Prompt of 128 and of 512 tokens.
    pub prefill: [Rate; 2],
    /// After a short prompt, and after 1000 tokens.
    pub decode: [Rate; 2],
}

fn timed(tokens: usize, work: impl FnOnce() -> Result<(), String>) -> Result<Rate, String> {
    let (wall, spent) = (Instant::now(), processor::of_all());
    work()?;
    let rate = |time: Duration| tokens as f64 / time.as_secs_f64();
    Ok(Rate { wall: rate(wall.elapsed()), processor: rate(processor::of_all() - spent) })
}

/// The middle of `runs` measurements.
fn median(runs: usize, mut run: impl FnMut() -> Result<Rate, String>) -> Result<Rate, String> {
    let rates = (0..runs.max(1)).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    let middle = |of: fn(&Rate) -> f64| {
        let mut sorted: Vec<f64> = rates.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    };
    Ok(Rate { wall: middle(|r| r.wall), processor: middle(|r| r.processor) })
}

/// Measures the model in `dir`, the median of `runs` each.
///
/// # Errors
/// When the model cannot be used, or is too short for a prompt.
pub fn measure(dir: &Path, runs: usize) -> Result<Figures, String> {
    let mut chain = Chain::open(dir)?;
    let tokens: Vec<u32> = (0..1024).map(|i| 100 + i * 37 % 9000).collect();
    let prompt = |len: usize| tokens.get(..len).unwrap_or_default();
    let mut prefill = |len: usize| {
        median(runs, || {
            chain.rewind(0);
            timed(len, || chain.prefill(prompt(len)).map(drop))
        })
    };
    let prefill = [prefill(128)?, prefill(512)?];
    let mut decode = |depth: usize| {
        chain.rewind(0);
        chain.prefill(prompt(depth))?;
        median(runs, || {
            chain.rewind(depth);
            timed(32, || prompt(32).iter().try_for_each(|&token| chain.decode(token).map(drop)))
        })
    };
    Ok(Figures { prefill, decode: [decode(16)?, decode(1000)?] })
}
