//! The shapes of a model, read from its engines: never from constants.

use crate::axcl::{ElementType, IoInfo, TensorInfo};
use crate::fault::{Failure, Fault, Result};

/// Numbers under which a layer's tensors are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub k_cache: usize,
    pub v_cache: usize,
    pub indices: usize,
    pub input: usize,
    pub mask: usize,
    pub k_out: usize,
    pub v_out: usize,
    pub output: usize,
}

/// One shape group: how many tokens it takes and how much of the cache it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number in the engine.
    pub number: usize,
    /// Tokens per run.
    pub rows: usize,
    /// Cached tokens it can look back on.
    pub history: usize,
}

impl Group {
    /// Columns of its mask.
    pub fn columns(&self) -> usize {
        self.history + self.rows
    }
}

/// The geometry all layers of a model share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub ports: Ports,
    /// Bytes of one token's K (and V) in one layer.
    pub row_bytes: usize,
    /// Bytes of one token's hidden state.
    pub hidden_bytes: usize,
    /// Groups for one token, by rising history.
    pub decode: Vec<Group>,
    /// Groups for many tokens, by rising history, then rising rows.
    pub chunks: Vec<Group>,
}

impl Geometry {
    /// Reads the geometry of a layer engine; `name` names it in failures.
    ///
    /// # Errors
    /// [`Fault::ModelInvalid`] if it is not a decoder layer with K/V caches as this
    /// program knows them.
    pub fn read(io: &IoInfo, name: &str) -> Result<Self> {
        let invalid = |what: String| Failure::new(Fault::ModelInvalid, format!("{name}: {what}"));
        let input = |tensor: &str| {
            io.input(tensor).ok_or_else(|| invalid(format!("the engine has no input `{tensor}`")))
        };
        let output = |tensor: &str| {
            io.output(tensor).ok_or_else(|| invalid(format!("the engine has no output `{tensor}`")))
        };
        if io.inputs.len() != 5 || io.outputs.len() != 3 {
            let names: Vec<_> = io.inputs.iter().chain(&io.outputs).map(|t| t.name.as_str()).collect();
            return Err(invalid(format!("a layer has 5 inputs and 3 outputs, this one {names:?}")));
        }
        let tensors = Tensors {
            k_cache: input("K_cache")?,
            v_cache: input("V_cache")?,
            indices: input("indices")?,
            input: input("input")?,
            mask: input("mask")?,
            k_out: output("K_cache_out")?,
            v_out: output("V_cache_out")?,
            output: output("output")?,
        };
        tensors.check_types().map_err(invalid)?;
        let (row_bytes, hidden_bytes) = tensors
            .row_sizes()
            .ok_or_else(|| invalid("shape group 0 does not take exactly one token".to_owned()))?;
        let (mut decode, mut chunks) = (Vec::new(), Vec::new());
        for number in 0..io.groups {
            let group = tensors
                .group(number, row_bytes, hidden_bytes)
                .ok_or_else(|| invalid(format!("the tensors of shape group {number} do not fit together")))?;
            if group.rows == 1 { decode.push(group) } else { chunks.push(group) }
        }
        decode.sort_by_key(|g| g.history);
        chunks.sort_by_key(|g| (g.history, g.rows));
        Ok(Self { ports: tensors.ports(), row_bytes, hidden_bytes, decode, chunks })
    }

    /// Tokens the cache has room for: the longest conversation.
    pub fn capacity(&self) -> usize {
        self.decode.last().map_or(0, |g| g.history)
    }

    /// The smallest one-token group for a token behind `position` others, if there is room.
    pub fn decode_group(&self, position: usize) -> Option<usize> {
        let fits = |group: &Group| group.history >= position;
        self.decode.iter().position(fits).filter(|_| position < self.capacity())
    }

    /// Rows a layer's K (and V) cache has in card memory.
    pub fn cache_rows(&self) -> usize {
        let deepest_chunk = self.chunks.last().map_or(0, |g| g.history);
        self.capacity().max(deepest_chunk).max(1)
    }

    /// Rows of the largest chunk group; 1 where there is none.
    pub fn chunk_rows(&self) -> usize {
        self.chunks.iter().map(|g| g.rows).max().unwrap_or(1)
    }

    /// Bytes of card memory for the caches of `layers` layers: those of one prefix slot.
    pub fn cache_bytes(&self, layers: usize) -> u64 {
        (layers * 2 * self.row_bytes * self.cache_rows()) as u64
    }

    /// Bytes of card memory for buffers of `layers` layers and one prefix slot, engines not included.
    pub fn buffer_bytes(&self, layers: usize) -> u64 {
        let chunk_rows = self.chunk_rows();
        let chunks = layers * 2 * self.row_bytes * chunk_rows;
        // One-token groups have two of each.
        let masks: usize = self
            .decode
            .iter()
            .chain(&self.decode)
            .chain(&self.chunks)
            .map(|g| 2 * g.rows * g.columns() + 4 * g.rows)
            .sum();
        let hidden = 2 * self.hidden_bytes * (1 + chunk_rows) + 2 * self.row_bytes;
        self.cache_bytes(layers) + (chunks + masks + hidden) as u64
    }
}

type Found<'a> = (usize, &'a TensorInfo);

struct Tensors<'a> {
    k_cache: Found<'a>,
    v_cache: Found<'a>,
    indices: Found<'a>,
    input: Found<'a>,
    mask: Found<'a>,
    k_out: Found<'a>,
    v_out: Found<'a>,
    output: Found<'a>,
}

impl Tensors<'_> {
    fn ports(&self) -> Ports {
        Ports {
            k_cache: self.k_cache.0,
            v_cache: self.v_cache.0,
            indices: self.indices.0,
            input: self.input.0,
            mask: self.mask.0,
            k_out: self.k_out.0,
            v_out: self.v_out.0,
            output: self.output.0,
        }
    }

    fn check_types(&self) -> std::result::Result<(), String> {
        let expected = [
            (self.k_cache, ElementType::Bf16),
            (self.v_cache, ElementType::Bf16),
            (self.indices, ElementType::Int32),
            (self.input, ElementType::Bf16),
            (self.mask, ElementType::Bf16),
            (self.k_out, ElementType::Bf16),
            (self.v_out, ElementType::Bf16),
            (self.output, ElementType::Bf16),
        ];
        match expected.iter().find(|((_, tensor), element)| tensor.element != *element) {
            None => Ok(()),
            Some(((_, tensor), element)) => {
                Err(format!("`{}` has elements {:?}, not {element:?}", tensor.name, tensor.element))
            }
        }
    }

    /// Bytes of a K row and of a hidden row, from group 0.
    fn row_sizes(&self) -> Option<(usize, usize)> {
        let (indices, row, hidden) = (bytes(self.indices, 0)?, bytes(self.k_out, 0)?, bytes(self.input, 0)?);
        (indices == 4 && row > 0 && hidden > 0).then_some((row, hidden))
    }

    fn group(&self, number: usize, row: usize, hidden: usize) -> Option<Group> {
        let of = |tensor| bytes(tensor, number);
        let rows = of(self.indices)? / 4;
        let columns = (of(self.mask)? / 2).checked_div(rows)?;
        let history = columns.checked_sub(rows)?;
        // A group without history still has one (unused) row of cache.
        let cache = history.max(1) * row;
        let fits = of(self.indices)? == rows * 4
            && of(self.mask)? == rows * columns * 2
            && of(self.k_cache)? == cache
            && of(self.v_cache)? == cache
            && of(self.input)? == rows * hidden
            && of(self.output)? == rows * hidden
            && of(self.k_out)? == rows * row
            && of(self.v_out)? == rows * row;
        fits.then_some(Group { number, rows, history })
    }
}

fn bytes(tensor: Found<'_>, group: usize) -> Option<usize> {
    tensor.1.bytes.get(group).copied()
}

/// What the engine behind the last layer takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostGeometry {
    pub input: usize,
    pub logits: usize,
    /// Values in `logits`.
    pub vocabulary: usize,
}

impl PostGeometry {
    /// Reads the geometry of the post engine for hidden states of `hidden_bytes`.
    ///
    /// # Errors
    /// [`Fault::ModelInvalid`] if it does not turn one hidden state into bf16 logits.
    pub fn read(io: &IoInfo, name: &str, hidden_bytes: usize) -> Result<Self> {
        let invalid = |what: &str| Failure::new(Fault::ModelInvalid, format!("{name}: {what}"));
        let (input, tensor) = match io.inputs.as_slice() {
            [only] => (0, only),
            _ => return Err(invalid("a post engine has one input")),
        };
        if tensor.bytes.first() != Some(&hidden_bytes) || tensor.element != ElementType::Bf16 {
            return Err(invalid("its input is not one hidden state of the layers"));
        }
        let (logits, tensor) = io.output("output").ok_or_else(|| invalid("it has no output `output`"))?;
        if tensor.element != ElementType::Bf16 {
            return Err(invalid("its logits are not bf16"));
        }
        let vocabulary = tensor.bytes.first().map_or(0, |b| b / 2);
        Ok(Self { input, logits, vocabulary })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A layer as the vendor describes it: cap 2559, K row 1024, hidden 2560 values.
    pub fn layer(histories: &[usize]) -> IoInfo {
        let shapes: Vec<(usize, usize)> =
            std::iter::once((1, 2559)).chain(histories.iter().map(|&h| (128, h))).collect();
        let tensor = |name: &str, element, bytes: &dyn Fn(usize, usize) -> usize| TensorInfo {
            name: name.to_owned(),
            element,
            bytes: shapes.iter().map(|&(rows, history)| bytes(rows, history)).collect(),
        };
        let (bf16, row, hidden) = (ElementType::Bf16, 2048, 5120);
        IoInfo {
            groups: shapes.len(),
            inputs: vec![
                tensor("input", bf16, &|r, _| r * hidden),
                tensor("K_cache", bf16, &|_, h| h.max(1) * row),
                tensor("V_cache", bf16, &|_, h| h.max(1) * row),
                tensor("indices", ElementType::Int32, &|r, _| r * 4),
                tensor("mask", bf16, &|r, h| r * (h + r) * 2),
            ],
            outputs: vec![
                tensor("output", bf16, &|r, _| r * hidden),
                tensor("K_cache_out", bf16, &|r, _| r * row),
                tensor("V_cache_out", bf16, &|r, _| r * row),
            ],
        }
    }

    #[test]
    fn the_vendors_layer_is_understood() {
        let geometry = Geometry::read(&layer(&[0, 256, 128]), "l0").unwrap();
        assert_eq!(geometry.capacity(), 2559);
        assert_eq!((geometry.row_bytes, geometry.hidden_bytes), (2048, 5120));
        let histories: Vec<_> = geometry.chunks.iter().map(|g| (g.number, g.rows, g.history)).collect();
        assert_eq!(histories, [(1, 128, 0), (3, 128, 128), (2, 128, 256)]);
        assert_eq!(geometry.ports.k_cache, 1);
        // 2 caches of 2559 rows and 2 chunk outputs of 128 rows per layer dominate.
        assert!(geometry.buffer_bytes(36) > 36 * 2 * 2048 * (2559 + 128));
    }

    #[test]
    fn other_kinds_of_layers_are_refused_by_name() {
        let mut hybrid = layer(&[0]);
        hybrid.inputs[1].name = "conv_state".to_owned();
        let failure = Geometry::read(&hybrid, "x_l3.axmodel").unwrap_err();
        assert_eq!(failure.fault, Fault::ModelInvalid);
        assert!(failure.detail.contains("x_l3.axmodel: the engine has no input `K_cache`"), "{failure}");

        let mut mrope = layer(&[0]);
        mrope.inputs[3].bytes[1] *= 3;
        assert!(Geometry::read(&mrope, "l").unwrap_err().detail.contains("shape group 1"));

        let mut float = layer(&[0]);
        float.inputs[4].element = ElementType::Other(15);
        assert!(Geometry::read(&float, "l").unwrap_err().detail.contains("`mask` has elements"));
    }
}
