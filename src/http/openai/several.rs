//! Several answers to one request: `n`.

use std::iter::repeat_n;

use crate::chat::{Request, Usage};
use crate::config::Limits;
use crate::http::error::ApiError;
use crate::http::fields::{Fields, wrong_value};
use crate::sys::chance;

/// OpenAI's own bound.
const MOST: i64 = 128;
/// Spreads seeds over all numbers: 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// How many answers are asked for.
///
/// # Errors
/// 400 for what is no such number.
pub fn asked(fields: &Fields<'_>) -> Result<usize, ApiError> {
    Ok(fields.integer("n", 1..=MOST)?.and_then(|n| usize::try_from(n).ok()).unwrap_or(1))
}

/// All answers of a request have a place in the queue, or one is being given.
///
/// # Errors
/// 400 for more, naming the parameter.
pub fn bound(name: &str, count: usize, limits: &Limits) -> Result<(), ApiError> {
    let most = limits.queue.saturating_add(1);
    if count > most {
        let what =
            format_args!("asks for {count} answers, at most {most} are given (`limits.queue` and one)");
        return Err(wrong_value(name, what));
    }
    Ok(())
}

/// `n` requests that differ in their seeds; the first has the request's own. The same request
/// gives the same seeds.
pub fn spread(request: Request, n: usize) -> impl Iterator<Item = Request> + Send {
    let seed = request.sampling.seed.unwrap_or_else(chance::bits);
    repeat_n(request, n).zip(0..).map(move |(mut request, index): (Request, u64)| {
        request.sampling.seed = Some(seed.wrapping_add(index.wrapping_mul(STEP)));
        request
    })
}

/// The usage of answers of which every `n` in a row have a prompt in common: it counts once.
pub fn usage(answers: &[Usage], n: usize) -> Usage {
    let mut all = Usage::default();
    for same in answers.chunks(n.max(1)) {
        all.prompt_tokens += same.iter().map(|usage| usage.prompt_tokens).max().unwrap_or_default();
        all.cached_tokens += same.iter().map(|usage| usage.cached_tokens).min().unwrap_or_default();
        all.completion_tokens += same.iter().map(|usage| usage.completion_tokens).sum::<u32>();
        all.reasoning_tokens += same.iter().map(|usage| usage.reasoning_tokens).sum::<u32>();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Input;

    #[test]
    fn seeds_differ_and_are_the_same_again() {
        let mut request = Request::new(Input::Raw(String::new()));
        request.sampling.seed = Some(7);
        let seeds = |n| spread(request.clone(), n).map(|r| r.sampling.seed.unwrap()).collect::<Vec<_>>();
        let three = seeds(3);
        assert_eq!((three[0], &three[..2]), (7, &seeds(2)[..]));
        assert!(three[1] != three[0] && three[2] != three[1] && three[2] != three[0]);
    }

    #[test]
    fn a_prompt_counts_once_however_many_answers_it_has() {
        let usage = |prompt_tokens, cached_tokens, completion_tokens| Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            reasoning_tokens: 1,
        };
        let answers = [usage(10, 4, 5), usage(10, 9, 6), usage(20, 0, 1), usage(20, 19, 2)];
        let all = super::usage(&answers, 2);
        assert_eq!(all, Usage { reasoning_tokens: 4, ..usage(30, 4, 14) });
    }
}
