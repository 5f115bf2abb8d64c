//! A model directory's engines run one after the other in this process, without card or
//! host pipeline: the plainest thing that gives logits, for tests and for figures.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use half::bf16;
use serde_json::Value;

use crate::engine::{Engine, Source, load};

/// bf16 −65 536.
const MASKED: u16 = 0xc780;

/// A loaded model and its cache.
pub struct Chain {
    layers: Vec<Box<dyn Engine>>,
    post: Box<dyn Engine>,
    embeddings: memmap2::Mmap,
    hidden: usize,
    /// Rows of the cache.
    capacity: usize,
    /// Keys and values of each layer.
    caches: Vec<[Vec<u8>; 2]>,
    /// Rows in the cache.
    filled: usize,
    outputs: Vec<Vec<u8>>,
}

fn map(path: &Path) -> Result<memmap2::Mmap, String> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    // SAFETY: packed files are renamed into place whole and never written again.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|e| format!("{}: {e}", path.display()))
}

fn engine(path: &Path) -> Result<Box<dyn Engine>, String> {
    load(Source::File(Arc::new(map(path)?))).map_err(|e| format!("{}: {e}", path.display()))
}

fn bytes_of(values: impl Iterator<Item = u16>) -> Vec<u8> {
    values.flat_map(u16::to_le_bytes).collect()
}

impl Chain {
    /// Loads the model in `dir`.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let config: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let missing = |key: &str| format!("{}: {key} is missing", path.display());
        let text = |key: &str| config.get(key).and_then(Value::as_str).ok_or_else(|| missing(key));
        let count =
            config.get("axmodel_num").and_then(Value::as_u64).ok_or_else(|| missing("axmodel_num"))?;
        let template = text("template_filename_axmodel")?;
        let layers = (0..count)
            .map(|n| engine(&dir.join(template.replace("%d", &n.to_string()))))
            .collect::<Result<Vec<_>, _>>()?;
        let post = engine(&dir.join(text("filename_post_axmodel")?))?;
        let size = |tensor: usize| -> Option<[usize; 3]> {
            let dims = layers.first()?.info().inputs.get(tensor)?.dims.first()?;
            let dims: [i32; 3] = dims.as_slice().try_into().ok()?;
            Some(dims.map(|n| usize::try_from(n).unwrap_or_default()))
        };
        let (Some([_, capacity, width]), Some([_, _, hidden])) = (size(0), size(3)) else {
            return Err(format!("{}: the layer engines lack tensors", dir.display()));
        };
        Ok(Self {
            caches: (0..count).map(|_| std::array::from_fn(|_| vec![0; capacity * width * 2])).collect(),
            embeddings: map(&dir.join(text("filename_tokens_embed")?))?,
            layers,
            post,
            hidden,
            capacity,
            filled: 0,
            outputs: Vec::new(),
        })
    }

    /// Rows the cache can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all but the first `rows` rows.
    pub fn rewind(&mut self, rows: usize) {
        self.filled = self.filled.min(rows);
    }

    /// Reads `tokens`, in chunks as far as they fit, and returns the logits after the last.
    ///
    /// # Errors
    /// When the cache is full, a token is unknown, or an engine fails.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<Vec<f32>, String> {
        let chunk = self
            .layers
            .first()
            .and_then(|layer| layer.info().inputs.get(2)?.dims.get(1)?.last().copied())
            .and_then(|rows| usize::try_from(rows).ok())
            .ok_or("the layer engines have no prefill groups")?;
        let mut row = Vec::new();
        let mut rest = tokens;
        while !rest.is_empty() {
            // Near the end of the cache no prefill group sees enough: then token by token.
            let rows = if self.group(chunk).is_ok() { chunk } else { 1 };
            let (part, after) = rest.split_at(rows.min(rest.len()));
            row = self.pass(part, rows)?;
            rest = after;
        }
        self.logits(&row)
    }

    /// Reads one token through the decode group and returns the logits after it.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn decode(&mut self, token: u32) -> Result<Vec<f32>, String> {
        let row = self.pass(&[token], 1)?;
        self.logits(&row)
    }

    /// Runs all layers for up to `rows` tokens and returns the last token's hidden row.
    fn pass(&mut self, tokens: &[u32], rows: usize) -> Result<Vec<u8>, String> {
        if self.filled + tokens.len() > self.capacity {
            return Err(format!("the cache of {} rows is full", self.capacity));
        }
        let row_bytes = self.hidden * 2;
        let mut hidden = vec![0; rows * row_bytes];
        for (to, &token) in hidden.chunks_exact_mut(row_bytes).zip(tokens) {
            let at = token as usize * row_bytes;
            let from = self.embeddings.get(at..at + row_bytes);
            to.copy_from_slice(from.ok_or_else(|| format!("there is no token {token}"))?);
        }
        let (group, history) = self.group(rows)?;
        let indices: Vec<u8> = (0..rows).flat_map(|r| ((self.filled + r) as u32).to_le_bytes()).collect();
        let filled = self.filled;
        let mask = bytes_of((0..rows).flat_map(|row| {
            (0..history + rows).map(move |column| {
                let visible = if column < history { column < filled } else { column - history <= row };
                if visible { 0 } else { MASKED }
            })
        }));
        for (layer, cache) in self.layers.iter().zip(&mut self.caches) {
            let info = layer.info();
            let bytes = |n: usize| info.inputs.get(n).and_then(|t| t.bytes(group)).unwrap_or_default();
            self.outputs.resize_with(info.outputs.len(), Vec::new);
            for (output, tensor) in self.outputs.iter_mut().zip(&info.outputs) {
                output.resize(tensor.bytes(group).unwrap_or_default(), 0);
            }
            let [keys, values] = &mut *cache;
            let inputs = [
                keys.get(..bytes(0)).unwrap_or_default(),
                values.get(..bytes(1)).unwrap_or_default(),
                &indices,
                &hidden,
                &mask,
            ];
            layer.run(group, &inputs, &mut self.outputs)?;
            let [new_keys, new_values, output] = self.outputs.as_slice() else {
                return Err("a layer engine has the wrong outputs".into());
            };
            for (cache, new) in [(keys, new_keys), (values, new_values)] {
                let width = new.len() / rows;
                let (at, len) = (filled * width, tokens.len() * width);
                if let (Some(to), Some(from)) = (cache.get_mut(at..at + len), new.get(..len)) {
                    to.copy_from_slice(from);
                }
            }
            hidden.copy_from_slice(output);
        }
        self.filled += tokens.len();
        Ok(hidden.chunks_exact(row_bytes).nth(tokens.len() - 1).unwrap_or_default().to_vec())
    }

    /// The smallest group for so many rows over what is in the cache, and its history.
    fn group(&self, rows: usize) -> Result<(usize, usize), String> {
        let info = self.layers.first().ok_or("the model has no layers")?.info();
        let masks = info.inputs.get(4).map(|mask| mask.dims.as_slice()).unwrap_or_default();
        masks
            .iter()
            .enumerate()
            .filter_map(|(group, dims)| match dims.as_slice() {
                &[_, r, columns] if r as usize == rows => Some((group, columns as usize - rows)),
                _ => None,
            })
            .find(|&(_, history)| history >= self.filled)
            .ok_or_else(|| format!("no group for {rows} rows after {}", self.filled))
    }

    fn logits(&mut self, row: &[u8]) -> Result<Vec<f32>, String> {
        let bytes = self.post.info().outputs.first().and_then(|t| t.bytes(0)).unwrap_or_default();
        let mut outputs = vec![vec![0; bytes]];
        self.post.run(0, &[row], &mut outputs)?;
        let logits = outputs.first().map(Vec::as_slice).unwrap_or_default();
        Ok(logits.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect())
    }
}
