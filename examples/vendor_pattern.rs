//! The vendor's host loop, call by call, for measurements: every tensor is sent to every layer,
//! every call waits, each goes through the queue of one thread per card, and the logits of the
//! whole vocabulary become f32 before anything is chosen. `scripts/bench` runs it in turns with
//! the appliance on a card of the same kind.
//!
//! `vendor_pattern RUNTIME MODEL_DIR` prints `ready`, then carries out each line on standard
//! input and prints the seconds it took: `prompt N` reads a new prompt of N tokens and gives
//! the first token, `tokens N` gives N more. Each is a request in the emulated card's trace.

use std::error::Error;
use std::io::{BufRead, stdin};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use half::bf16;
use llm8850::axcl::{Binding, Device, DeviceMemory, Engine, Gauge, Region, Runtime};
use llm8850::fault::{Failure, Fault, Result};
use llm8850::model::{Embeddings, ModelFiles};

const HIDDEN: u16 = 0xc780;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [runtime, directory] = arguments.as_slice() else {
        return Err("usage: vendor_pattern RUNTIME MODEL_DIR".into());
    };
    let model = ModelFiles::open(directory, None)?;
    let embeddings = model.embeddings()?;
    let (card, shape) = Card::open(runtime.clone(), model)?;
    let mut host = Host { card, shape, embeddings, requests: 0, position: 0, recent: Vec::new() };
    println!("ready");
    for line in stdin().lock().lines() {
        let line = line?;
        let (what, count) = line.split_once(' ').ok_or("a line is `prompt N` or `tokens N`")?;
        let count = count.parse()?;
        let began = Instant::now();
        host.begin()?;
        match what {
            "prompt" => host.prompt(count)?,
            "tokens" => host.tokens(count)?,
            _ => return Err(format!("{what} is no command").into()),
        }
        host.end()?;
        println!("{}", began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// What the host knows of the engines.
#[derive(Clone)]
struct Shape {
    layers: usize,
    hidden: usize,
    row: usize,
    vocabulary: usize,
    /// Tokens that the one-token group can look back on.
    capacity: usize,
    /// Number, rows and history of the groups for many tokens, by rising history.
    chunks: Vec<(usize, usize, usize)>,
}

/// One shape group of a layer with memory of its own.
struct Io {
    binding: Binding,
    indices: Region,
    mask: Region,
    input: Region,
    output: Region,
    rows: [DeviceMemory; 2],
}

struct Layer {
    caches: [DeviceMemory; 2],
    /// One-token group first.
    groups: Vec<Io>,
}

/// What the card's thread holds.
struct Model {
    layers: Vec<Layer>,
    post: Binding,
    post_input: Region,
    logits: Region,
    runtime: Runtime,
}

fn missing(what: &str) -> Failure {
    Failure::new(Fault::Internal, format!("there is no {what}"))
}

fn sizes(engine: &Engine, input: bool, name: &str) -> Result<(usize, Vec<usize>)> {
    let io = engine.io();
    let found = if input { io.input(name) } else { io.output(name) };
    found.map(|(index, tensor)| (index, tensor.bytes.clone())).ok_or_else(|| missing(name))
}

impl Layer {
    /// Each group's tensors lie at the beginning of memory as large as the largest group's;
    /// all groups share the caches.
    fn new(device: &Device, engine: &Engine) -> Result<Self> {
        let memory = |input, name: &str| -> Result<_> {
            let (index, bytes) = sizes(engine, input, name)?;
            let size = bytes.iter().copied().max().unwrap_or(0);
            Ok((index, bytes, DeviceMemory::zeroed(device, size, name)?))
        };
        let (k, v) = (memory(true, "K_cache")?, memory(true, "V_cache")?);
        let (indices, mask) = (memory(true, "indices")?, memory(true, "mask")?);
        let (input, output) = (memory(true, "input")?, memory(false, "output")?);
        let (k_out, v_out) = (memory(false, "K_cache_out")?, memory(false, "V_cache_out")?);
        let mut groups = Vec::new();
        for group in 0..engine.io().groups {
            let mut binding = engine.binding(group)?;
            let part =
                |of: &(usize, Vec<usize>, DeviceMemory)| of.2.slice(0, of.1.get(group).copied().unwrap_or(0));
            for tensor in [&k, &v, &indices, &mask, &input] {
                binding.input(tensor.0, &part(tensor)?)?;
            }
            for tensor in [&k_out, &v_out, &output] {
                binding.output(tensor.0, &part(tensor)?)?;
            }
            groups.push(Io {
                binding,
                indices: part(&indices)?,
                mask: part(&mask)?,
                input: part(&input)?,
                output: part(&output)?,
                rows: [k_out.2.clone(), v_out.2.clone()],
            });
        }
        Ok(Self { caches: [k.2, v.2], groups })
    }
}

impl Shape {
    fn read(layer: &Engine, post: &Engine, layers: usize) -> Result<Self> {
        let (_, row) = sizes(layer, false, "K_cache_out")?;
        let (_, hidden) = sizes(layer, true, "input")?;
        let (_, mask) = sizes(layer, true, "mask")?;
        let (_, indices) = sizes(layer, true, "indices")?;
        let (_, logits) = sizes(post, false, "output")?;
        let first = |of: &[usize]| of.first().copied().unwrap_or(0);
        let group = |(number, (mask, indices)): (usize, (&usize, &usize))| {
            let rows = (indices / 4).max(1);
            (number, rows, mask / 2 / rows - rows)
        };
        let mut chunks: Vec<_> = mask.iter().zip(&indices).enumerate().map(group).skip(1).collect();
        chunks.sort_by_key(|&(_, _, history)| history);
        let (row, hidden, capacity) = (first(&row), first(&hidden), first(&mask) / 2 - 1);
        Ok(Self { layers, hidden, row, vocabulary: first(&logits) / 2, capacity, chunks })
    }
}

impl Model {
    fn load(runtime: &Path, model: &ModelFiles) -> Result<(Self, Shape)> {
        let runtime = Runtime::open(runtime, None, Arc::new(Gauge::default()))?;
        let device = Device::open(&runtime, 0)?;
        let engine = Engine::load(&device, &model.post_file())?;
        let mut post = engine.binding(0)?;
        let (input, input_bytes) = sizes(&engine, true, "input")?;
        let (output, output_bytes) = sizes(&engine, false, "output")?;
        let whole = |bytes: &[usize], what: &str| -> Result<Region> {
            Ok(DeviceMemory::zeroed(&device, bytes.iter().copied().sum(), what)?.whole())
        };
        let (post_input, logits) = (whole(&input_bytes, "post input")?, whole(&output_bytes, "logits")?);
        post.input(input, &post_input)?;
        post.output(output, &logits)?;
        let (mut layers, mut shape) = (Vec::new(), None);
        for index in 0..model.layers() {
            let layer = Engine::load(&device, &model.layer_file(index))?;
            if shape.is_none() {
                shape = Some(Shape::read(&layer, &engine, model.layers() as usize)?);
            }
            layers.push(Layer::new(&device, &layer)?);
        }
        let shape = shape.ok_or_else(|| missing("layer"))?;
        Ok((Self { layers, post, post_input, logits, runtime }, shape))
    }

    fn layer(&self, index: usize) -> Result<&Layer> {
        self.layers.get(index).ok_or_else(|| missing("such layer"))
    }

    fn io(&self, layer: usize, group: usize) -> Result<&Io> {
        self.layer(layer)?.groups.get(group).ok_or_else(|| missing("such group"))
    }

    /// Where a layer's hidden state goes.
    fn input_behind(&self, layer: usize) -> Result<&Region> {
        if layer + 1 == self.layers.len() { Ok(&self.post_input) } else { Ok(&self.io(layer + 1, 0)?.input) }
    }
}

type Work = Box<dyn FnOnce(&Model) + Send>;

/// The card's thread, as the host sees it.
struct Card {
    work: mpsc::Sender<Work>,
}

impl Card {
    fn open(runtime: PathBuf, model: ModelFiles) -> Result<(Self, Shape)> {
        let (work, queue) = mpsc::channel::<Work>();
        let (loaded, shape) = mpsc::channel();
        std::thread::spawn(move || match Model::load(&runtime, &model) {
            Ok((model, shape)) => {
                let _ = loaded.send(Ok(shape));
                queue.iter().for_each(|work| work(&model));
            }
            Err(failure) => drop(loaded.send(Err(failure))),
        });
        let shape = shape.recv().map_err(|_| missing("thread for the card"))??;
        Ok((Self { work }, shape))
    }

    /// Has one call made, and waits for it.
    fn call<T: Send + 'static>(&self, call: impl FnOnce(&Model) -> Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        let work: Work = Box::new(move |model| drop(answer.send(call(model))));
        self.work.send(work).map_err(|_| missing("thread for the card"))?;
        answered.recv().map_err(|_| missing("answer of the card's thread"))?
    }
}

struct Host {
    card: Card,
    shape: Shape,
    embeddings: Embeddings,
    requests: u64,
    position: usize,
    /// The answer so far.
    recent: Vec<u32>,
}

impl Host {
    fn prompt(&mut self, count: u32) -> Result<()> {
        let prompt: Vec<u32> = (0..count).map(|i| 1000 + i * 7919 % 50_000).collect();
        self.recent.clear();
        self.position = prompt.len();
        let logits = self.prefill(&prompt)?;
        self.recent.push(choose(&logits, &self.recent));
        Ok(())
    }

    fn tokens(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            let token = self.recent.last().copied().unwrap_or(0);
            let logits = self.decode(self.position, token)?;
            self.position += 1;
            self.recent.push(choose(&logits, &self.recent));
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        self.requests += 1;
        let request = self.requests;
        self.card.call(move |m| {
            m.runtime.mark_begin(request);
            Ok(())
        })
    }

    fn end(&self) -> Result<()> {
        let request = self.requests;
        self.card.call(move |m| {
            m.runtime.mark_end(request);
            Ok(())
        })
    }

    fn embedding(&self, token: u32) -> Result<&[u8]> {
        self.embeddings.row(token).ok_or_else(|| missing("such token"))
    }

    fn decode(&self, position: usize, token: u32) -> Result<Vec<bf16>> {
        let Shape { layers, row, capacity, .. } = self.shape;
        let embedding: Arc<[u8]> = self.embedding(token)?.into();
        self.card.call(move |m| m.io(0, 0)?.input.upload(&embedding))?;
        let visible = |column: usize| if column < position || column == capacity { 0 } else { HIDDEN };
        let mask: Arc<[u16]> = (0..=capacity).map(visible).collect();
        let index = position as u32;
        for layer in 0..layers {
            let mask = Arc::clone(&mask);
            self.card.call(move |m| m.io(layer, 0)?.indices.upload(&[index]))?;
            self.card.call(move |m| m.io(layer, 0)?.mask.upload(&mask))?;
            self.card.call(move |m| m.io(layer, 0)?.binding.execute())?;
            self.keep_rows(layer, 0, position * row, row)?;
            self.card.call(move |m| m.input_behind(layer)?.copy_from(&m.io(layer, 0)?.output))?;
        }
        self.logits()
    }

    /// Copies new K and V rows into the caches.
    fn keep_rows(&self, layer: usize, group: usize, offset: usize, bytes: usize) -> Result<()> {
        for which in 0..2 {
            self.card.call(move |m| {
                let cache = m.layer(layer)?.caches.get(which).ok_or_else(|| missing("cache"))?;
                let rows = m.io(layer, group)?.rows.get(which).ok_or_else(|| missing("rows"))?;
                cache.slice(offset, bytes)?.copy_from(&rows.slice(0, bytes)?)
            })?;
        }
        Ok(())
    }

    fn logits(&self) -> Result<Vec<bf16>> {
        self.card.call(|m| m.post.execute())?;
        let mut logits = vec![bf16::ZERO; self.shape.vocabulary];
        self.card.call(move |m| m.logits.download(&mut logits).map(|()| logits))
    }

    fn prefill(&self, prompt: &[u32]) -> Result<Vec<bf16>> {
        let Shape { hidden, .. } = self.shape;
        let (mut position, mut last) = (0, Vec::new());
        while position < prompt.len() {
            let group = self.shape.chunks.iter().find(|&&(_, _, history)| history >= position);
            let &(group, rows, history) = group.ok_or_else(|| missing("group that sees so much"))?;
            let tokens = prompt.get(position..).unwrap_or_default();
            let tokens = tokens.get(..rows).unwrap_or(tokens);
            let mut states = Vec::with_capacity(rows * hidden);
            for &token in tokens {
                states.extend_from_slice(self.embedding(token)?);
            }
            states.resize(rows * hidden, 0);
            let states = self.chunk(group, rows, history, position, tokens.len(), states)?;
            let end = tokens.len() * hidden;
            last = states.get(end - hidden..end).unwrap_or_default().to_vec();
            position += tokens.len();
        }
        self.card.call(move |m| m.post_input.upload(&last))?;
        self.logits()
    }

    /// The hidden states cross the bus twice for every layer.
    fn chunk(
        &self,
        group: usize,
        rows: usize,
        history: usize,
        position: usize,
        tokens: usize,
        mut states: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let Shape { layers, row, capacity, .. } = self.shape;
        let index = |r: usize| (position + r).min(capacity.saturating_sub(1)) as u32;
        let indices: Arc<[u32]> = (0..rows).map(index).collect();
        let visible = |r: usize, column: usize| match column.checked_sub(history) {
            None => column < position,
            Some(own) => own <= r,
        };
        let columns = history + rows;
        let mask = (0..rows * columns).map(|i| if visible(i / columns, i % columns) { 0 } else { HIDDEN });
        let mask: Arc<[u16]> = mask.collect();
        for layer in 0..layers {
            let (indices, mask) = (Arc::clone(&indices), Arc::clone(&mask));
            self.card.call(move |m| m.io(layer, group)?.indices.upload(&indices))?;
            self.card.call(move |m| m.io(layer, group)?.mask.upload(&mask))?;
            states = self.card.call(move |m| m.io(layer, group)?.input.upload(&states).map(|()| states))?;
            self.card.call(move |m| m.io(layer, group)?.binding.execute())?;
            self.keep_rows(layer, group, position * row, tokens * row)?;
            states =
                self.card.call(move |m| m.io(layer, group)?.output.download(&mut states).map(|()| states))?;
        }
        Ok(states)
    }
}

/// Temperature and penalty over the vocabulary as f32, then a partial sort of all of it.
fn choose(logits: &[bf16], recent: &[u32]) -> u32 {
    const TEMPERATURE: f32 = 0.9;
    const PENALTY: f32 = 1.1;
    const WINDOW: usize = 20;
    const TOP_K: usize = 10;
    let mut logits: Vec<f32> = logits.iter().map(|logit| logit.to_f32()).collect();
    logits.iter_mut().for_each(|logit| *logit /= TEMPERATURE);
    for token in recent.iter().rev().take(WINDOW) {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit = if *logit > 0.0 { *logit / PENALTY } else { *logit * PENALTY };
        }
    }
    let mut pairs: Vec<(f32, u32)> = logits.into_iter().zip(0..).collect();
    let (likeliest, ..) = pairs.select_nth_unstable_by(TOP_K, |a, b| b.0.total_cmp(&a.0));
    likeliest.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let best = likeliest.first().map_or(0.0, |&(logit, _)| logit);
    let weights: Vec<f32> = likeliest.iter().map(|&(logit, _)| (logit - best).exp()).collect();
    // A fixed point of the distribution instead of chance: the work is the same.
    let mut target = weights.iter().sum::<f32>() / 2.0;
    let drawn = likeliest.iter().zip(weights).find(|(_, weight)| {
        target -= weight;
        target <= 0.0
    });
    drawn.map_or(0, |((_, token), _)| *token)
}
