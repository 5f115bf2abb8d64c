//! How a prompt is cut into runs of the engines. Pure.

use std::time::Duration;

use super::geometry::Geometry;

/// One run of all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One token, through this decode group (index into [`Geometry::decode`]).
    Token { group: usize },
    /// The next `tokens` tokens, through this chunk group (index into [`Geometry::chunks`]).
    Chunk { group: usize, tokens: usize },
}

impl Step {
    /// Tokens it takes.
    pub fn tokens(self) -> usize {
        match self {
            Step::Token { .. } => 1,
            Step::Chunk { tokens, .. } => tokens,
        }
    }
}

/// The next run for `pending` tokens behind `position` cached ones; `None` if there is
/// nothing to do or no room. Chunks are used from `break_even` tokens on.
pub fn next(geometry: &Geometry, position: usize, pending: usize, break_even: Option<usize>) -> Option<Step> {
    let pending = pending.min(geometry.capacity().saturating_sub(position));
    if pending == 0 {
        return None;
    }
    if break_even.is_some_and(|least| pending >= least.max(2)) {
        let mut fitting = geometry.chunks.iter().enumerate().filter(|(_, g)| g.history >= position);
        if let Some((group, shape)) = fitting.next() {
            let tokens = pending.min(shape.rows);
            // The last chunk of all begins as late as it can.
            let deepest = deepest(geometry).saturating_sub(position);
            let beyond = tokens < pending && tokens > deepest && deepest > 0;
            return Some(Step::Chunk { group, tokens: if beyond { deepest } else { tokens } });
        }
    }
    geometry.decode_group(position).map(|group| Step::Token { group })
}

/// Behind how many tokens the last chunk can begin.
fn deepest(geometry: &Geometry) -> usize {
    geometry.chunks.last().map_or(0, |group| group.history)
}

/// Prompts up to so many tokens can be computed in chunks.
pub fn reach(geometry: &Geometry) -> usize {
    geometry.chunks.last().map_or(0, |group| group.history + group.rows)
}

/// From which token on a prompt of so many tokens is computed, of which `reused` need not be. Behind
/// the last chunk's place tokens are computed one by one: a chunk is faster, though it computes some again.
pub fn start(geometry: &Geometry, reused: usize, prompt: usize, break_even: Option<usize>) -> usize {
    let deepest = deepest(geometry);
    let pays = break_even.is_some_and(|least| prompt.saturating_sub(reused) >= least.max(2));
    if pays && reused > deepest && prompt <= reach(geometry) { deepest } else { reused }
}

/// How long runs take, learnt while they are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    token: Option<Duration>,
    chunk: Option<Duration>,
}

impl Costs {
    /// A token without logits took `time`.
    pub fn token_took(&mut self, time: Duration) {
        self.token = Some(blend(self.token, time));
    }

    /// A chunk took `time`; it takes about as long whether full or not.
    pub fn chunk_took(&mut self, time: Duration) {
        self.chunk = Some(blend(self.chunk, time));
    }

    /// From how many tokens on a chunk is the faster way.
    pub fn break_even(&self) -> usize {
        const UNKNOWN: usize = 4;
        let (Some(token), Some(chunk)) = (self.token, self.chunk) else { return UNKNOWN };
        let tokens = chunk.as_nanos().div_ceil(token.as_nanos().max(1));
        usize::try_from(tokens).unwrap_or(usize::MAX).max(2)
    }
}

fn blend(old: Option<Duration>, new: Duration) -> Duration {
    old.map_or(new, |old| (old * 3 + new) / 4)
}

#[cfg(test)]
mod tests {
    use super::super::geometry::tests::layer;
    use super::*;
    use proptest::prelude::*;

    fn geometry() -> Geometry {
        Geometry::read(&layer(&[0, 128, 256, 512]), "l").unwrap()
    }

    #[test]
    fn the_smallest_group_that_sees_the_history_is_taken() {
        let geometry = geometry();
        let step = |position, pending| next(&geometry, position, pending, Some(4));
        assert_eq!(step(0, 500), Some(Step::Chunk { group: 0, tokens: 128 }));
        assert_eq!(step(1, 500), Some(Step::Chunk { group: 1, tokens: 128 }));
        assert_eq!(step(300, 5), Some(Step::Chunk { group: 3, tokens: 5 }));
        assert_eq!(step(300, 3), Some(Step::Token { group: 0 }));
        // Behind the largest history, one by one.
        assert_eq!(step(513, 500), Some(Step::Token { group: 0 }));
        assert_eq!(step(2559, 1), None);
        assert_eq!(next(&geometry, 0, 500, None), Some(Step::Token { group: 0 }));
    }

    #[test]
    fn the_last_chunk_begins_as_late_as_it_can() {
        let geometry = geometry();
        let step = |position, pending| next(&geometry, position, pending, Some(4)).unwrap();
        assert_eq!(step(500, 140), Step::Chunk { group: 3, tokens: 12 });
        assert_eq!(step(512, 128), Step::Chunk { group: 3, tokens: 128 });
        assert_eq!(step(500, 128), Step::Chunk { group: 3, tokens: 128 });
        // What is already there behind it is computed once more, if that pays.
        assert_eq!(start(&geometry, 560, 600, Some(20)), 512);
        assert_eq!(start(&geometry, 590, 600, Some(20)), 590);
        assert_eq!(start(&geometry, 500, 600, Some(20)), 500);
        assert_eq!(start(&geometry, 600, 641, Some(20)), 600);
        assert_eq!(start(&geometry, 560, 600, None), 560);
    }

    #[test]
    fn chunks_pay_from_where_they_are_faster() {
        let mut costs = Costs::default();
        assert_eq!(costs.break_even(), 4);
        costs.token_took(Duration::from_millis(10));
        costs.chunk_took(Duration::from_millis(45));
        assert_eq!(costs.break_even(), 5);
        costs.chunk_took(Duration::from_millis(5));
        assert_eq!(costs.break_even(), 4);
    }

    proptest! {
        #[test]
        fn every_prompt_that_fits_is_covered_once(start in 0usize..2559, length in 1usize..2559, least in 2usize..200) {
            let geometry = geometry();
            let length = length.min(geometry.capacity() - start);
            let (mut position, end) = (start, start + length);
            while position < end {
                let step = next(&geometry, position, end - position, Some(least)).unwrap();
                if let Step::Chunk { group, tokens } = step {
                    let group = geometry.chunks[group];
                    prop_assert!(group.history >= position && tokens <= group.rows && tokens >= 1);
                }
                position += step.tokens();
            }
            prop_assert_eq!(position, end);
        }
    }
}
