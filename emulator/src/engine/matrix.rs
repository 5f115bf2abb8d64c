//! A weight matrix inside an engine file, and the rows it multiplies.

use std::ops::Range;

use candle_core::quantized::GgmlDType;

use super::Source;
use super::crew::Member;
use super::panel::{Block, Bytes, INPUTS, Kernel, Nibbles, OUTPUTS, dot_bytes, dot_nibbles, quantise};
use super::shared::Shared;

/// Rows that share one pass over a panel.
const TILE: usize = 4;

/// Weights in panels; see [`super::panel`]. They stay where the source has them.
#[derive(Clone)]
pub struct Matrix {
    source: Source,
    place: Range<usize>,
    nibbles: bool,
    /// Without the padding to whole panels.
    pub outputs: usize,
    pub inputs: usize,
}

impl Matrix {
    /// The matrix at `place` of `source`, `outputs` (after padding a multiple of 8) by `inputs`.
    ///
    /// # Errors
    /// When type, shape and size do not fit together.
    pub fn new(
        source: Source,
        place: Range<usize>,
        data_type: GgmlDType,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, String> {
        let nibbles = match data_type {
            GgmlDType::Q4_1 => true,
            GgmlDType::Q8_0 => false,
            other => return Err(format!("matrices of type {other:?} are not supported")),
        };
        let matrix = Self { source, place, nibbles, outputs, inputs };
        let bytes = matrix.padded().checked_mul(inputs / INPUTS).map(|n| n / OUTPUTS * matrix.panel());
        if inputs == 0 || outputs == 0 || !inputs.is_multiple_of(INPUTS) || bytes != Some(matrix.place.len())
        {
            return Err(format!("a matrix of {outputs} × {inputs} does not fit its data"));
        }
        if matrix.source.bytes().get(matrix.place.clone()).is_none() {
            return Err(format!("a matrix of {outputs} × {inputs} lies outside the file"));
        }
        Ok(matrix)
    }

    /// Outputs including padding: the width of a result row.
    pub fn padded(&self) -> usize {
        self.outputs.next_multiple_of(OUTPUTS)
    }

    /// Bytes that one use streams.
    pub fn bytes(&self) -> u64 {
        self.place.len() as u64
    }

    fn panel(&self) -> usize {
        if self.nibbles { size_of::<Nibbles>() } else { size_of::<Bytes>() }
    }

    /// Computes `outputs` (whole panels) of the first `rows` rows into `to`, whose rows are
    /// `stride` wide and take this matrix's output 0 at `offset`.
    ///
    /// # Safety
    /// Nobody else uses these elements of `to`, or changes `from`, until the list is settled.
    // Panel and row indices follow from the sizes checked on construction; the slices they
    // make are checked by the slicing itself.
    #[allow(clippy::indexing_slicing)]
    pub unsafe fn multiply(
        &self,
        rows: usize,
        from: &Rows,
        outputs: Range<usize>,
        to: &Shared<f32>,
        (stride, offset): (usize, usize),
    ) {
        let depth = self.inputs / INPUTS;
        let data = &self.source.bytes()[self.place.clone()];
        for panel in outputs.start / OUTPUTS..outputs.end.div_ceil(OUTPUTS) {
            let size = depth * self.panel();
            let weights = &data[panel * size..(panel + 1) * size];
            let store = |row: usize, result: &[f32; OUTPUTS]| {
                let at = row * stride + offset + panel * OUTPUTS;
                // SAFETY: as the caller promises.
                unsafe { to.part(at..at + OUTPUTS) }.copy_from_slice(result);
            };
            let mut row = 0;
            while row + TILE <= rows {
                // SAFETY: as the caller promises.
                let tile: [&[Block]; TILE] = std::array::from_fn(|r| unsafe { from.row(row + r) });
                for (r, result) in self.dot(weights, tile).iter().enumerate() {
                    store(row + r, result);
                }
                row += TILE;
            }
            while row < rows {
                // SAFETY: as the caller promises.
                let [result] = self.dot(weights, [unsafe { from.row(row) }]);
                store(row, &result);
                row += 1;
            }
        }
    }

    fn dot<const R: usize>(&self, weights: &[u8], rows: [&[Block]; R]) -> [[f32; OUTPUTS]; R] {
        if self.nibbles {
            dot_nibbles(weights.as_chunks().0, rows, Kernel::Best)
        } else {
            dot_bytes(weights.as_chunks().0, rows, Kernel::Best)
        }
    }

    /// Computes all outputs together with the crew, through work list `list`.
    ///
    /// # Safety
    /// Nobody else uses `to`, or changes `from`, until the list is settled.
    pub unsafe fn multiply_all(
        &self,
        member: &Member,
        list: usize,
        rows: usize,
        from: &Rows,
        to: &Shared<f32>,
    ) {
        member.all(list, self.padded(), member.piece(self.padded(), OUTPUTS), |outputs| {
            // SAFETY: every output is taken once; the rest as the caller promises.
            unsafe { self.multiply(rows, from, outputs, to, (self.padded(), 0)) };
        });
    }
}

/// Quantised rows, shared by a crew.
pub struct Rows<'a> {
    blocks: Shared<'a, Block>,
    depth: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `inputs` values each.
    pub fn new(blocks: &'a mut [Block], inputs: usize) -> Self {
        Self { blocks: Shared::new(blocks), depth: inputs / INPUTS }
    }

    /// Blocks that `rows` rows of `inputs` values take.
    pub fn blocks(rows: usize, inputs: usize) -> usize {
        rows * (inputs / INPUTS)
    }

    /// Quantises `values` into `row`, from its input `start` on (a multiple of 32).
    ///
    /// # Safety
    /// Nobody else uses this part of the row until the list is settled.
    pub unsafe fn set(&self, row: usize, start: usize, values: &[f32]) {
        let at = row * self.depth + start / INPUTS;
        // SAFETY: as the caller promises.
        quantise(values, unsafe { self.blocks.part(at..at + values.len() / INPUTS) });
    }

    unsafe fn row(&self, row: usize) -> &[Block] {
        // SAFETY: as the caller promises.
        unsafe { self.blocks.view(row * self.depth..(row + 1) * self.depth) }
    }
}
