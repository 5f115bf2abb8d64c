//! Turns GGUF weights into what engines use: f32 vectors, bf16 rows, and panels (see
//! [`crate::engine::panel`]).
//!
//! Four-bit weights stay four-bit: Q4_0 and Q4_1 to the bit, Q4_K but for rounding its
//! composed scales to f16. Everything else becomes eight-bit with a scale per 32, as the
//! vendor's packages are; Q8_0 to the bit.

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
    BlockQ8_1, BlockQ8K,
};
use candle_core::quantized::{GgmlDType, GgmlType};
use half::{bf16, f16};
use rayon::prelude::*;

use super::gguf::Weights;
use crate::engine::panel::{Bytes, INPUTS, Nibbles, OUTPUTS};

/// A matrix in panels, ready to write.
pub struct Packed {
    /// Q4_1 for nibbles, Q8_0 for bytes: the sizes are the same.
    pub data_type: GgmlDType,
    /// A multiple of 8.
    pub outputs: usize,
    pub inputs: usize,
    pub bytes: Vec<u8>,
}

/// Expands a row to f32.
pub fn expand(data_type: GgmlDType, row: &[u8], to: &mut [f32]) {
    fn blocks<T: GgmlType>(row: &[u8], to: &mut [f32]) {
        // SAFETY: the block types are plain numbers, valid for any bytes.
        match unsafe { row.align_to::<T>() } {
            ([], blocks, []) => T::to_float(blocks, to),
            _ => {
                let mut copy = vec![T::zeros(); row.len() / size_of::<T>()];
                // SAFETY: as above; both sides have `row.len()` bytes, as `row` is whole blocks.
                unsafe {
                    std::ptr::copy_nonoverlapping(row.as_ptr(), copy.as_mut_ptr().cast(), row.len());
                }
                T::to_float(&copy, to);
            }
        }
    }
    match data_type {
        GgmlDType::F32 => blocks::<f32>(row, to),
        GgmlDType::F16 => blocks::<f16>(row, to),
        GgmlDType::BF16 => blocks::<bf16>(row, to),
        GgmlDType::Q4_0 => blocks::<BlockQ4_0>(row, to),
        GgmlDType::Q4_1 => blocks::<BlockQ4_1>(row, to),
        GgmlDType::Q5_0 => blocks::<BlockQ5_0>(row, to),
        GgmlDType::Q5_1 => blocks::<BlockQ5_1>(row, to),
        GgmlDType::Q8_0 => blocks::<BlockQ8_0>(row, to),
        GgmlDType::Q8_1 => blocks::<BlockQ8_1>(row, to),
        GgmlDType::Q2K => blocks::<BlockQ2K>(row, to),
        GgmlDType::Q3K => blocks::<BlockQ3K>(row, to),
        GgmlDType::Q4K => blocks::<BlockQ4K>(row, to),
        GgmlDType::Q5K => blocks::<BlockQ5K>(row, to),
        GgmlDType::Q6K => blocks::<BlockQ6K>(row, to),
        GgmlDType::Q8K => blocks::<BlockQ8K>(row, to),
    }
}

/// A whole small tensor as f32.
pub fn vector(weights: Weights) -> Vec<f32> {
    let mut values = vec![0.0; weights.outputs * weights.inputs];
    for (row, to) in values.chunks_exact_mut(weights.inputs).enumerate() {
        expand(weights.data_type, weights.row(row), to);
    }
    values
}

/// A row as bf16 bytes.
pub fn bf16_row(weights: Weights, row: usize) -> Vec<u8> {
    let mut values = vec![0.0; weights.inputs];
    expand(weights.data_type, weights.row(row), &mut values);
    values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()
}

/// 32 four-bit weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct NibbleBlock {
    scale: f16,
    offset: f16,
    quants: [u8; INPUTS],
}

/// 32 eight-bit weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ByteBlock {
    scale: f16,
    quants: [i8; INPUTS],
}

fn half(bytes: [u8; 2]) -> f16 {
    f16::from_le_bytes(bytes)
}

/// Low nibbles, then high nibbles.
fn unpack(packed: &[u8; 16]) -> [u8; INPUTS] {
    let mut quants = [0; INPUTS];
    let (low, high) = quants.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(packed) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
    quants
}

/// Splits a row of a four-bit type into blocks; `None` for other types.
fn nibble_row(data_type: GgmlDType, row: &[u8]) -> Option<Vec<NibbleBlock>> {
    match data_type {
        GgmlDType::Q4_0 => Some(
            row.as_chunks::<18>()
                .0
                .iter()
                .filter_map(|block| {
                    let (d, quants) = block.split_first_chunk::<2>()?;
                    let scale = half(*d);
                    let offset = f16::from_f32(scale.to_f32() * -8.0);
                    Some(NibbleBlock { scale, offset, quants: unpack(quants.first_chunk()?) })
                })
                .collect(),
        ),
        GgmlDType::Q4_1 => Some(
            row.as_chunks::<20>()
                .0
                .iter()
                .filter_map(|block| {
                    let (d, rest) = block.split_first_chunk::<2>()?;
                    let (m, quants) = rest.split_first_chunk::<2>()?;
                    Some(NibbleBlock {
                        scale: half(*d),
                        offset: half(*m),
                        quants: unpack(quants.first_chunk()?),
                    })
                })
                .collect(),
        ),
        GgmlDType::Q4K => Some(row.as_chunks::<144>().0.iter().flat_map(super_block).collect()),
        _ => None,
    }
}

/// The eight blocks of a Q4_K super-block: two f16 scales, twelve bytes of 6-bit scales
/// and minima, then nibbles, each 32 bytes holding two blocks.
fn super_block(bytes: &[u8; 144]) -> Vec<NibbleBlock> {
    let (Some((d, rest)), byte) = (bytes.split_first_chunk::<2>(), |i: usize| bytes.get(i).copied()) else {
        return Vec::new();
    };
    let Some((dmin, _)) = rest.split_first_chunk::<2>() else { return Vec::new() };
    let (d, dmin) = (half(*d).to_f32(), half(*dmin).to_f32());
    let six = |i: usize| byte(4 + i).unwrap_or_default();
    (0..8)
        .map(|j| {
            let (scale, minimum) = if j < 4 {
                (six(j) & 63, six(j + 4) & 63)
            } else {
                (six(j + 4) & 15 | six(j - 4) >> 6 << 4, six(j + 4) >> 4 | six(j) >> 6 << 4)
            };
            let quants = std::array::from_fn(|i| {
                let packed = byte(16 + j / 2 * 32 + i).unwrap_or_default();
                if j % 2 == 0 { packed & 15 } else { packed >> 4 }
            });
            NibbleBlock {
                scale: f16::from_f32(d * f32::from(scale)),
                offset: f16::from_f32(-dmin * f32::from(minimum)),
                quants,
            }
        })
        .collect()
}

/// A row of any other type as eight-bit blocks.
fn byte_row(data_type: GgmlDType, row: &[u8], inputs: usize) -> Vec<ByteBlock> {
    if data_type == GgmlDType::Q8_0 {
        return row
            .as_chunks::<34>()
            .0
            .iter()
            .filter_map(|block| {
                let (d, quants) = block.split_first_chunk::<2>()?;
                Some(ByteBlock { scale: half(*d), quants: quants.first_chunk::<INPUTS>()?.map(|b| b as i8) })
            })
            .collect();
    }
    let mut values = vec![0.0; inputs];
    expand(data_type, row, &mut values);
    values
        .as_chunks::<INPUTS>()
        .0
        .iter()
        .map(|values| {
            let top = values.iter().fold(0f32, |top, v| top.max(v.abs()));
            let scale = f16::from_f32(top / 127.0);
            let inverse = if scale > f16::ZERO { 1.0 / scale.to_f32() } else { 0.0 };
            ByteBlock { scale, quants: values.map(|v| (v * inverse).round().clamp(-127.0, 127.0) as i8) }
        })
        .collect()
}

fn nibble_panel(outputs: &[NibbleBlock; OUTPUTS]) -> Nibbles {
    let mut panel = [0; size_of::<Nibbles>()];
    let (scales, rest) = panel.split_at_mut(2 * OUTPUTS);
    let (offsets, quants) = rest.split_at_mut(2 * OUTPUTS);
    for (c, block) in outputs.iter().enumerate() {
        for (to, from) in [(&mut *scales, block.scale), (&mut *offsets, block.offset)] {
            to.iter_mut().skip(2 * c).zip(from.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        let (low, high) = block.quants.split_at(INPUTS / 2);
        for (k, (low, high)) in low.iter().zip(high).enumerate() {
            if let Some(byte) = quants.get_mut(k / 4 * 32 + c * 4 + k % 4) {
                *byte = low | high << 4;
            }
        }
    }
    panel
}

fn byte_panel(outputs: &[ByteBlock; OUTPUTS]) -> Bytes {
    let mut panel = [0; size_of::<Bytes>()];
    let (scales, quants) = panel.split_at_mut(2 * OUTPUTS);
    for (c, block) in outputs.iter().enumerate() {
        scales.iter_mut().skip(2 * c).zip(block.scale.to_le_bytes()).for_each(|(to, from)| *to = from);
        for (k, quant) in block.quants.iter().enumerate() {
            if let Some(byte) = quants.get_mut(k / 4 * 32 + c * 4 + k % 4) {
                *byte = *quant as u8;
            }
        }
    }
    panel
}

/// Lays eight rows beside each other, panel by panel; rows past the last are zero.
fn panels<B: Copy + Default, const N: usize>(
    weights: Weights,
    read: impl Fn(&[u8]) -> Vec<B> + Sync,
    panel: impl Fn(&[B; OUTPUTS]) -> [u8; N] + Sync,
) -> Vec<u8> {
    let depth = weights.inputs / INPUTS;
    let mut bytes = vec![0u8; weights.outputs.div_ceil(OUTPUTS) * depth * N];
    bytes.par_chunks_mut(depth * N).enumerate().for_each(|(group, to)| {
        let rows: [Vec<B>; OUTPUTS] = std::array::from_fn(|c| {
            let row = group * OUTPUTS + c;
            if row < weights.outputs { read(weights.row(row)) } else { Vec::new() }
        });
        for (i, to) in to.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            *to = panel(&std::array::from_fn(|c| {
                rows.get(c).and_then(|row| row.get(i)).copied().unwrap_or_default()
            }));
        }
    });
    bytes
}

/// Packs a matrix; `None` when its rows are not whole blocks of 32.
pub fn pack(weights: Weights) -> Option<Packed> {
    if !weights.inputs.is_multiple_of(INPUTS) {
        return None;
    }
    let data_type = weights.data_type;
    let (packed_type, bytes) = if nibble_row(data_type, &[]).is_some() {
        let read = |row: &[u8]| nibble_row(data_type, row).unwrap_or_default();
        (GgmlDType::Q4_1, panels(weights, read, nibble_panel))
    } else {
        let read = |row: &[u8]| byte_row(data_type, row, weights.inputs);
        (GgmlDType::Q8_0, panels(weights, read, byte_panel))
    };
    let outputs = weights.outputs.next_multiple_of(OUTPUTS);
    Some(Packed { data_type: packed_type, outputs, inputs: weights.inputs, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What panels stand for, output by output.
    fn unpanel(packed: &Packed) -> Vec<f32> {
        let mut values = vec![0f32; packed.outputs * packed.inputs];
        let depth = packed.inputs / INPUTS;
        let size = packed.bytes.len() / (packed.outputs / OUTPUTS * depth);
        for (i, panel) in packed.bytes.chunks(size).enumerate() {
            let at = |p: usize| half([panel[p], panel[p + 1]]).to_f32();
            for c in 0..OUTPUTS {
                for k in 0..INPUTS {
                    values[(i / depth * OUTPUTS + c) * packed.inputs + i % depth * INPUTS + k] =
                        if packed.data_type == GgmlDType::Q4_1 {
                            let byte = panel[32 + k % 16 / 4 * 32 + c * 4 + k % 4];
                            let q = if k < 16 { byte & 15 } else { byte >> 4 };
                            at(2 * c) * f32::from(q) + at(16 + 2 * c)
                        } else {
                            at(2 * c) * f32::from(panel[16 + k / 4 * 32 + c * 4 + k % 4] as i8)
                        };
                }
            }
        }
        values
    }

    fn quantised<T: GgmlType>(values: &[f32]) -> Vec<u8> {
        let mut blocks = vec![T::zeros(); values.len() / T::BLCK_SIZE];
        T::from_float(values, &mut blocks);
        // SAFETY: block types are plain bytes.
        unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), std::mem::size_of_val(&blocks[..])) }
            .to_vec()
    }

    #[test]
    fn every_type_keeps_its_weights() {
        let (outputs, inputs) = (12, 512);
        let values: Vec<f32> = (0..outputs * inputs)
            .map(|i| ((i * 7919 % 1013) as f32 / 506.0 - 1.0) * (1.0 + (i / 32 % 7) as f32) + 0.1)
            .collect();
        let cases: [(GgmlDType, Vec<u8>, f32); 13] = [
            (GgmlDType::F32, quantised::<f32>(&values), 0.005),
            (GgmlDType::F16, quantised::<f16>(&values), 0.005),
            (GgmlDType::BF16, quantised::<bf16>(&values), 0.005),
            (GgmlDType::Q4_0, quantised::<BlockQ4_0>(&values), 0.0),
            (GgmlDType::Q4_1, quantised::<BlockQ4_1>(&values), 0.0),
            (GgmlDType::Q5_0, quantised::<BlockQ5_0>(&values), 0.005),
            (GgmlDType::Q5_1, quantised::<BlockQ5_1>(&values), 0.005),
            (GgmlDType::Q8_0, quantised::<BlockQ8_0>(&values), 0.0),
            (GgmlDType::Q2K, quantised::<BlockQ2K>(&values), 0.005),
            (GgmlDType::Q3K, quantised::<BlockQ3K>(&values), 0.005),
            (GgmlDType::Q4K, quantised::<BlockQ4K>(&values), 0.002),
            (GgmlDType::Q5K, quantised::<BlockQ5K>(&values), 0.005),
            (GgmlDType::Q6K, quantised::<BlockQ6K>(&values), 0.005),
        ];
        for (data_type, bytes, tolerance) in cases {
            let weights = Weights { data_type, outputs, inputs, bytes: &bytes };
            let packed = pack(weights).unwrap();
            assert_eq!(packed.outputs, 16);
            let got = unpanel(&packed);
            let mut wanted = vector(weights);
            wanted.resize(16 * inputs, 0.0);
            for (block, (got, wanted)) in got.chunks(INPUTS).zip(wanted.chunks(INPUTS)).enumerate() {
                let top = wanted.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (got, wanted) in got.iter().zip(wanted) {
                    let error = (got - wanted).abs();
                    assert!(error <= tolerance * top, "{data_type:?} block {block}: {got} {wanted}");
                }
            }
        }
    }
}
