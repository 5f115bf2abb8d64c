//! The post engine: final norm and head.

use super::container::{Container, PostSpec};
use super::crew::Crew;
use super::matrix::{Matrix, Rows};
use super::panel::OUTPUTS;
use super::rows::{narrow_row, rms_norm, spoil, widen_row};
use super::scratch::{borrow, first};
use super::shapes::{check, post_info};
use super::shared::Shared;
use super::{Engine, EngineInfo};

/// Final norm and head over mapped weights.
pub struct PostEngine {
    spec: PostSpec,
    info: EngineInfo,
    weight_bytes: u64,
    norm: Vec<f32>,
    head: Matrix,
    pub(super) crew: Crew,
}

impl PostEngine {
    /// The post engine in `container`.
    pub fn new(container: &Container, spec: &PostSpec) -> Result<Self, String> {
        Ok(Self {
            info: post_info(spec),
            weight_bytes: container.header.weight_bytes,
            norm: container.vector("norm", spec.hidden)?,
            head: container.matrix("head", spec.vocabulary, spec.hidden)?,
            crew: Crew::Pool,
            spec: spec.clone(),
        })
    }
}

impl Engine for PostEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&self, group: usize, inputs: &[&[u8]], outputs: &mut [Vec<u8>]) -> Result<(), String> {
        check(&self.info, group, inputs, outputs)?;
        let ([input], [output]) = (inputs, outputs) else {
            return Err("wrong number of tensors".into());
        };
        let mut scratch = borrow();
        let scratch = &mut *scratch;
        let hidden = first(&mut scratch.hidden, self.spec.hidden);
        let normed = first(&mut scratch.normed, self.spec.hidden);
        widen_row(input, hidden);
        let scale = rms_norm(hidden, &self.norm, self.spec.rms_eps, normed);
        if !scale.is_finite() {
            spoil(output);
            return Ok(());
        }
        let blocks = first(&mut scratch.blocks_hidden, Rows::blocks(1, self.spec.hidden));
        let rows = Rows::new(blocks, self.spec.hidden);
        // SAFETY: no crew is at work yet.
        unsafe { rows.set(0, 0, normed) };
        let logits = Shared::new(first(&mut scratch.gate, self.head.padded()));
        let output = Shared::new(output);
        self.crew.run(|member| {
            let piece = member.piece(self.head.padded(), OUTPUTS).min(2048);
            member.all(0, self.head.padded(), piece, |outputs| {
                let real = outputs.start..outputs.end.min(self.spec.vocabulary);
                // SAFETY: every output is taken once, and `rows` no longer changes.
                unsafe {
                    self.head.multiply(1, &rows, outputs, &logits, (self.head.padded(), 0));
                    narrow_row(logits.view(real.clone()), output.part(real.start * 2..real.end * 2));
                }
            });
        });
        Ok(())
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}
