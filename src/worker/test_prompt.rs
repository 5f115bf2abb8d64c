//! The test prompt: fixed text, greedy, its tokens are compared with what they were.

use half::bf16;

use crate::axcl::{Gauge, Phase};
use crate::chat::TokenId;
use crate::fault::Result;
use crate::inference::pipeline::Pipeline;
use crate::model::ModelDir;

/// Exercises every layer with words any tokenizer knows.
const PROMPT: &str = "The quick brown fox jumps over the lazy dog. 1, 2, 3, 5, 8, 13, 21. The";
/// Tokens of the answer.
const TOKENS: usize = 8;

/// Answers the test prompt. What it overwrites of the conversation under way is computed again
/// afterwards, unless `wanted` says that a request waits.
///
/// # Errors
/// What the pipeline says.
pub fn answer(
    pipeline: &mut Pipeline,
    model: &ModelDir,
    gauge: &Gauge,
    wanted: &dyn Fn() -> bool,
) -> Result<Vec<TokenId>> {
    gauge.enter(Phase::Test);
    // From the first token on, so that everything is computed anew each time.
    let before = pipeline.set_aside();
    let mut pending = model.text().encode(PROMPT, true)?;
    let mut tokens = Vec::with_capacity(TOKENS);
    while tokens.len() < TOKENS {
        pipeline.advance_while(&pending, &|| true)?;
        let token = greedy(pipeline.logits().values());
        tokens.push(token);
        pending = vec![token];
    }
    let overwritten = before.len().min(pipeline.resident().len());
    pipeline.set_aside();
    let spoilt = before.get(..overwritten).unwrap_or_default();
    if pipeline.advance_while(spoilt, &|| !wanted())? {
        pipeline.put_back(before);
    }
    Ok(tokens)
}

/// The likeliest token; of several the first.
fn greedy(logits: &[bf16]) -> TokenId {
    let better = |best: (TokenId, bf16), next: (TokenId, bf16)| if next.1 > best.1 { next } else { best };
    (0..).zip(logits.iter().copied()).reduce(better).map_or(0, |(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_likeliest_is_taken() {
        let logits = [-3.0, 2.0, 7.0, 7.0, 1.0].map(bf16::from_f32);
        assert_eq!(greedy(&logits), 2);
        assert_eq!(greedy(&[]), 0);
    }
}
