//! The decoder layer: norm, attention, residual, norm, SwiGLU, residual.

use super::attention::{Columns, Head, Scores, attend, poisoned};
use super::container::{Container, LayerSpec};
use super::crew::{Crew, Member};
use super::matrix::{Matrix, Rows};
use super::panel::{INPUTS, OUTPUTS};
use super::rows::{
    add, halves, narrow, narrow_row, rms_norm, rms_norm_here, rotate, spoil, sum_into_bf16, swiglu, widen_row,
};
use super::scratch::{borrow, first};
use super::shapes::{Group, check, layer_groups, layer_info};
use super::shared::Shared;
use super::{Engine, EngineInfo};

/// Work lists of the region, in the order of their use.
mod list {
    pub const NORM: usize = 0;
    pub const Q: usize = 1;
    pub const K: usize = 2;
    pub const V: usize = 3;
    pub const ROTATE: usize = 4;
    pub const ATTEND: usize = 5;
    pub const QUANTISE: usize = 6;
    pub const PROJECT: usize = 7;
    pub const NORM_FFN: usize = 8;
    pub const GATE: usize = 9;
    pub const DOWN: usize = 10;
    pub const OUTPUT: usize = 11;
}

/// A decoder layer over mapped weights.
pub struct LayerEngine {
    spec: LayerSpec,
    info: EngineInfo,
    groups: Vec<Group>,
    weight_bytes: u64,
    /// Rotation per position of each pair of elements.
    frequencies: Vec<f32>,
    attn_norm: Vec<f32>,
    ffn_norm: Vec<f32>,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    o: Matrix,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
    /// Added to queries, keys and values.
    bias: Option<Vec<f32>>,
    q_norm: Option<Vec<f32>>,
    k_norm: Option<Vec<f32>>,
    pub(super) crew: Crew,
}

/// The inputs and sizes of one call.
struct Call<'a> {
    rows: usize,
    history: usize,
    cache_k: &'a [u16],
    cache_v: &'a [u16],
    indices: &'a [[u8; 4]],
    input: &'a [u8],
    mask: &'a [u8],
}

/// The working memory of one call, lent to the crew.
struct Desk<'a> {
    hidden: Shared<'a, f32>,
    normed: Shared<'a, f32>,
    qkv: Shared<'a, f32>,
    angles: Shared<'a, f32>,
    new_k: Shared<'a, u16>,
    new_v: Shared<'a, u16>,
    attended: Shared<'a, f32>,
    projected: Shared<'a, f32>,
    gate: Shared<'a, f32>,
    up: Shared<'a, f32>,
    rows_hidden: Rows<'a>,
    rows_attended: Rows<'a>,
    rows_ffn: Rows<'a>,
    spoilt: Shared<'a, f32>,
    out_k: Shared<'a, u8>,
    out_v: Shared<'a, u8>,
    output: Shared<'a, u8>,
}

impl LayerEngine {
    /// The layer in `container`.
    pub fn new(container: &Container, spec: &LayerSpec) -> Result<Self, String> {
        let spec = spec.clone();
        let (hidden, q, kv) = (spec.hidden, spec.q_width(), spec.kv_width());
        let half = spec.rope_dims / 2;
        let factors = container.optional_vector("rope_factors", half)?.unwrap_or_else(|| vec![1.0; half]);
        let frequencies = factors
            .iter()
            .enumerate()
            .map(|(i, factor)| {
                let exponent = -2.0 * i as f64 / spec.rope_dims as f64;
                (f64::from(spec.rope_base).powf(exponent) / (f64::from(*factor) * f64::from(spec.rope_scale)))
                    as f32
            })
            .collect();
        Ok(Self {
            info: layer_info(&spec),
            groups: layer_groups(&spec),
            weight_bytes: container.header.weight_bytes,
            frequencies,
            attn_norm: container.vector("attn_norm", hidden)?,
            ffn_norm: container.vector("ffn_norm", hidden)?,
            q: container.matrix("q", q, hidden)?,
            k: container.matrix("k", kv, hidden)?,
            v: container.matrix("v", kv, hidden)?,
            o: container.matrix("o", hidden, q)?,
            gate: container.matrix("gate", spec.ffn, hidden)?,
            up: container.matrix("up", spec.ffn, hidden)?,
            down: container.matrix("down", hidden, spec.ffn)?,
            bias: container.optional_vector("qkv_bias", q + 2 * kv)?,
            q_norm: container.optional_vector("q_norm", spec.head_dim)?,
            k_norm: container.optional_vector("k_norm", spec.head_dim)?,
            crew: Crew::Pool,
            spec,
        })
    }

    /// Everything one thread does in a call.
    fn work(&self, member: &Member, call: &Call, desk: &Desk) {
        let spec = &self.spec;
        let rows = call.rows;
        // Each piece of a list is one thread's, and what a list writes is read by others only
        // after it is settled: that is the safety of every part and view in this file.
        member.all(list::NORM, rows, 1, |row| self.enter_row(row.start, call, desk));
        let width = spec.q_width() + 2 * spec.kv_width();
        let parts = [
            (&self.q, list::Q, 0),
            (&self.k, list::K, spec.q_width()),
            (&self.v, list::V, spec.q_width() + spec.kv_width()),
        ];
        let piece = member.piece(width, 2 * OUTPUTS);
        for (matrix, list, offset) in parts {
            member.share(list, matrix.padded(), piece, |outputs| {
                // SAFETY: see above.
                unsafe { matrix.multiply(rows, &desk.rows_hidden, outputs, &desk.qkv, (width, offset)) };
            });
        }
        for (matrix, list, _) in parts {
            member.settle(list, matrix.padded());
        }
        let vectors = spec.heads + 2 * spec.kv_heads;
        member.all(list::ROTATE, rows * vectors, member.piece(rows * vectors, 1), |items| {
            for item in items {
                self.finish_vector(item / vectors, item % vectors, desk);
            }
        });
        self.attend_all(member, call, desk);
        member.all(list::QUANTISE, rows, 1, |row| {
            let (row, width) = (row.start, spec.q_width());
            // SAFETY: see above.
            unsafe {
                desk.rows_attended.set(row, 0, desk.attended.view(row * width..(row + 1) * width));
            }
        });
        // SAFETY: see above.
        unsafe { self.o.multiply_all(member, list::PROJECT, rows, &desk.rows_attended, &desk.projected) };
        member.all(list::NORM_FFN, rows, 1, |row| self.enter_ffn(row.start, desk));
        member.all(list::GATE, spec.ffn, member.piece(spec.ffn, INPUTS), |outputs| {
            // SAFETY: see above.
            unsafe {
                self.gate.multiply(rows, &desk.rows_hidden, outputs.clone(), &desk.gate, (spec.ffn, 0));
                self.up.multiply(rows, &desk.rows_hidden, outputs.clone(), &desk.up, (spec.ffn, 0));
                for row in 0..rows {
                    let part = row * spec.ffn + outputs.start..row * spec.ffn + outputs.end;
                    let gate = desk.gate.part(part.clone());
                    swiglu(gate, desk.up.view(part));
                    desk.rows_ffn.set(row, outputs.start, gate);
                }
            }
        });
        // SAFETY: see above.
        unsafe { self.down.multiply_all(member, list::DOWN, rows, &desk.rows_ffn, &desk.projected) };
        member.all(list::OUTPUT, rows, 1, |row| self.leave_row(row.start, desk));
    }

    /// Reads, normalises and quantises a row, and computes its rotation.
    fn enter_row(&self, row: usize, call: &Call, desk: &Desk) {
        let hidden = self.spec.hidden;
        let part = row * hidden..(row + 1) * hidden;
        let input = call.input.get(part.start * 2..part.end * 2).unwrap_or_default();
        let position = call.indices.get(row).map_or(0, |b| u32::from_le_bytes(*b));
        let half = self.frequencies.len();
        // SAFETY: see `work`.
        unsafe {
            let to = desk.hidden.part(part.clone());
            widen_row(input, to);
            let normed = desk.normed.part(part);
            let scale = rms_norm(to, &self.attn_norm, self.spec.rms_eps, normed);
            desk.spoilt.part(row..row + 1).fill(if scale.is_finite() { 0.0 } else { f32::NAN });
            desk.rows_hidden.set(row, 0, normed);
            let angles = desk.angles.part(row * 2 * half..(row + 1) * 2 * half);
            let (cos, sin) = angles.split_at_mut(half);
            for ((frequency, cos), sin) in self.frequencies.iter().zip(cos).zip(sin) {
                (*sin, *cos) = (position as f32 * frequency).sin_cos();
            }
        }
    }

    /// Bias, head norm and rotation of one head's query, key or value; keys and values are
    /// rounded to bf16 here, so that this call sees what later calls will find in the cache.
    fn finish_vector(&self, row: usize, vector: usize, desk: &Desk) {
        let (spec, size) = (&self.spec, self.spec.head_dim);
        let width = spec.q_width() + 2 * spec.kv_width();
        let half = self.frequencies.len();
        let start = vector * size;
        // SAFETY: see `work`.
        let (values, angles) = unsafe {
            (
                desk.qkv.part(row * width + start..row * width + start + size),
                desk.angles.view(row * 2 * half..(row + 1) * 2 * half),
            )
        };
        if let Some(bias) = self.bias.as_ref().and_then(|bias| bias.get(start..start + size)) {
            add(values, bias);
        }
        // Quantising hid the input's NaN from the projections.
        // SAFETY: see `work`; written before this step.
        if unsafe { desk.spoilt.view(row..row + 1) }.iter().any(|x| x.is_nan()) {
            values.fill(f32::NAN);
        }
        let key = vector.checked_sub(spec.heads);
        let value = key.and_then(|key| key.checked_sub(spec.kv_heads));
        if value.is_none() {
            let norm = if key.is_some() { &self.k_norm } else { &self.q_norm };
            if let Some(norm) = norm {
                rms_norm_here(values, norm, spec.rms_eps);
            }
            rotate(values, angles, spec.rope_kind);
        }
        let (rounded, bytes, head) = match (key, value) {
            (_, Some(value)) => (&desk.new_v, &desk.out_v, value),
            (Some(key), None) => (&desk.new_k, &desk.out_k, key),
            (None, None) => return,
        };
        let at = row * spec.kv_width() + head * size;
        // SAFETY: see `work`.
        unsafe {
            for (to, from) in rounded.part(at..at + size).iter_mut().zip(values.iter()) {
                *to = narrow(*from);
            }
            narrow_row(values, bytes.part(2 * at..2 * (at + size)));
        }
    }

    /// Attention of every row. With few rows, heads are shared out singly.
    fn attend_all(&self, member: &Member, call: &Call, desk: &Desk) {
        let spec = &self.spec;
        let width = spec.q_width() + 2 * spec.kv_width();
        let columns = call.history + call.rows;
        let split = if call.rows == 1 { spec.heads } else { 1 };
        let heads = spec.heads / split;
        let sharing = spec.heads / spec.kv_heads;
        let (mut visible, mut scores) = (Columns::default(), Scores::default());
        // SAFETY: see `work`; nobody writes keys and values any more.
        let (new_k, new_v) = unsafe {
            let len = call.rows * spec.kv_width();
            (desk.new_k.view(0..len), desk.new_v.view(0..len))
        };
        member.all(list::ATTEND, call.rows * split, 1, |items| {
            let (row, mut query) = (items.start / split, items.start % split * heads);
            let mask = call.mask.get(row * columns * 2..(row + 1) * columns * 2).unwrap_or_default();
            visible.read(mask, call.history);
            let last = query + heads;
            while query < last {
                let shared = (sharing - query % sharing).min(last - query);
                let head = Head {
                    cache_k: call.cache_k,
                    cache_v: call.cache_v,
                    new_k,
                    new_v,
                    stride: spec.kv_width(),
                    start: query / sharing * spec.head_dim,
                    size: spec.head_dim,
                };
                let (from, to) = (query * spec.head_dim, (query + shared) * spec.head_dim);
                // SAFETY: see `work`.
                unsafe {
                    let queries = desk.qkv.view(row * width + from..row * width + to);
                    let out = desk.attended.part(row * spec.q_width() + from..row * spec.q_width() + to);
                    if !attend(queries, &head, &visible, &mut scores, out) {
                        out.fill(f32::NAN);
                    }
                }
                query += shared;
            }
        });
    }

    /// Residual, norm and quantisation before the feed-forward part.
    fn enter_ffn(&self, row: usize, desk: &Desk) {
        let hidden = self.spec.hidden;
        let (part, padded) = (row * hidden..(row + 1) * hidden, self.o.padded());
        // SAFETY: see `work`.
        unsafe {
            let to = desk.hidden.part(part.clone());
            add(to, desk.projected.view(row * padded..row * padded + hidden));
            let normed = desk.normed.part(part);
            let scale = rms_norm(to, &self.ffn_norm, self.spec.rms_eps, normed);
            let attended = desk.attended.view(row * self.spec.q_width()..(row + 1) * self.spec.q_width());
            // Quantising hides a NaN, so it is looked for before.
            if !scale.is_finite() || attended.iter().any(|x| x.is_nan()) {
                desk.spoilt.part(row..row + 1).fill(f32::NAN);
            }
            desk.rows_hidden.set(row, 0, normed);
        }
    }

    /// Residual and output of a row.
    fn leave_row(&self, row: usize, desk: &Desk) {
        let hidden = self.spec.hidden;
        let (part, padded) = (row * hidden..(row + 1) * hidden, self.down.padded());
        // SAFETY: see `work`.
        unsafe {
            let from = desk.hidden.part(part.clone());
            if desk.spoilt.view(row..row + 1).iter().any(|x| x.is_nan()) {
                from.fill(f32::NAN);
            }
            let ffn = desk.projected.view(row * padded..row * padded + hidden);
            sum_into_bf16(from, ffn, desk.output.part(part.start * 2..part.end * 2));
        }
    }
}

impl Engine for LayerEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&self, group: usize, inputs: &[&[u8]], outputs: &mut [Vec<u8>]) -> Result<(), String> {
        check(&self.info, group, inputs, outputs)?;
        let (Some(group), [cache_k, cache_v, indices, input, mask], [out_k, out_v, output]) =
            (self.groups.get(group), inputs, outputs)
        else {
            return Err("wrong number of tensors".into());
        };
        let call = Call {
            rows: group.rows,
            history: group.history,
            cache_k: halves(cache_k)?,
            cache_v: halves(cache_v)?,
            indices: indices.as_chunks().0,
            input,
            mask,
        };
        if poisoned(call.cache_k, call.cache_v, call.history, self.spec.kv_width()) {
            for bytes in [out_k, out_v, output] {
                spoil(bytes);
            }
            return Ok(());
        }
        let (spec, rows) = (&self.spec, group.rows);
        let mut scratch = borrow();
        let scratch = &mut *scratch;
        let (q, kv, ffn) = (spec.q_width(), spec.kv_width(), spec.ffn);
        let projected = rows * self.o.padded().max(self.down.padded());
        let desk = Desk {
            hidden: Shared::new(first(&mut scratch.hidden, rows * spec.hidden)),
            normed: Shared::new(first(&mut scratch.normed, rows * spec.hidden)),
            qkv: Shared::new(first(&mut scratch.qkv, rows * (q + 2 * kv))),
            angles: Shared::new(first(&mut scratch.angles, rows * 2 * self.frequencies.len())),
            new_k: Shared::new(first(&mut scratch.new_k, rows * kv)),
            new_v: Shared::new(first(&mut scratch.new_v, rows * kv)),
            attended: Shared::new(first(&mut scratch.attended, rows * q)),
            projected: Shared::new(first(&mut scratch.projected, projected)),
            gate: Shared::new(first(&mut scratch.gate, rows * ffn)),
            up: Shared::new(first(&mut scratch.up, rows * ffn)),
            rows_hidden: Rows::new(
                first(&mut scratch.blocks_hidden, Rows::blocks(rows, spec.hidden)),
                spec.hidden,
            ),
            rows_attended: Rows::new(first(&mut scratch.blocks_attended, Rows::blocks(rows, q)), q),
            rows_ffn: Rows::new(first(&mut scratch.blocks_ffn, Rows::blocks(rows, ffn)), ffn),
            spoilt: Shared::new(first(&mut scratch.spoilt, rows)),
            out_k: Shared::new(out_k),
            out_v: Shared::new(out_v),
            output: Shared::new(output),
        };
        self.crew.run(|member| self.work(member, &call, &desk));
        Ok(())
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}
