//! One request's answer, from messages to the last token.

use std::time::{Duration, Instant};

use super::inbox::Job;
use crate::axcl::{Gauge, Phase};
use crate::chat::{Done, Event, Started, Timings, TokenId};
use crate::fault::Result;
use crate::inference::pipeline::{Pipeline, Purpose};
use crate::inference::{Prepared, Step, prepare};
use crate::model::ModelDir;

/// Answers `job`, handing each event to `send`. A cancellation takes effect within one
/// token, one chunk of the prompt or one layer's rows that move; so does `stop`, after which
/// nothing more is sent: the next worker resumes the answer. `between` is called between two
/// chunks and while the card computes a token.
///
/// # Errors
/// What `prepare` and the pipeline say; nothing is sent about it.
pub fn answer(
    pipeline: &mut Pipeline,
    model: &ModelDir,
    gauge: &Gauge,
    job: &Job,
    stop: &dyn Fn() -> bool,
    send: &mut dyn FnMut(Event),
    between: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    gauge.enter(Phase::Prefill);
    let began = Instant::now();
    let prepared = prepare(
        model.text(),
        model.files().sampling_defaults(),
        &job.request,
        pipeline.window(),
        &job.resume,
    )?;
    let Prepared { prompt, cue, dropped_messages, mut generation, finished } = prepared;
    let prompt_tokens = count(&prompt);
    let mut tokens = prompt;
    tokens.extend_from_slice(&job.resume);
    let purpose = Purpose::Answer { cue: cue + job.resume.len() };
    let begun = pipeline.begin(&tokens, purpose, &|| !stop() && !job.is_cancelled())?;
    let reused = begun.unwrap_or_default();
    let mut clock = Clock { cached_tokens: narrow(reused).min(prompt_tokens), ..Clock::default() };
    send(Event::Started(Started { prompt_tokens, cached_tokens: clock.cached_tokens, dropped_messages }));
    if let Some(done) = finished {
        send(Event::Done(clock.complete(done)));
        return Ok(());
    }

    let mut pending = tokens.get(reused..).unwrap_or_default();
    while !pending.is_empty() {
        if stop() {
            return Ok(());
        }
        if begun.is_none() || job.is_cancelled() {
            clock.prefill = began.elapsed();
            send(Event::Done(clock.complete(generation.cancel())));
            return Ok(());
        }
        let computed = pipeline.advance(pending)?;
        pending = pending.get(computed..).unwrap_or_default();
        between()?;
    }
    clock.prefill = began.elapsed();

    gauge.enter(Phase::Decode);
    let began = Instant::now();
    let done = loop {
        let token = match generation.next(pipeline.logits())? {
            Step::Done(done) => break done,
            Step::Last(token, done) => {
                send(Event::Token(token));
                break done;
            }
            Step::Token(token) => token,
        };
        if stop() {
            send(Event::Token(token));
            return Ok(());
        }
        if job.is_cancelled() {
            send(Event::Token(token));
            break generation.cancel();
        }
        // The card first: what needs no logits is done while it computes.
        pipeline.start(token.id)?;
        send(Event::Token(token));
        // Whatever comes of it, what the card was given is waited for.
        let meanwhile = generation.prepare().and_then(|()| between());
        pipeline.finish()?;
        meanwhile?;
    };
    clock.decode = began.elapsed();
    send(Event::Done(clock.complete(done)));
    Ok(())
}

/// What the generation cannot know about its end.
#[derive(Default)]
struct Clock {
    cached_tokens: u32,
    prefill: Duration,
    decode: Duration,
}

impl Clock {
    fn complete(&self, mut done: Done) -> Done {
        done.usage.cached_tokens = self.cached_tokens;
        done.timings = Timings { prefill_us: micros(self.prefill), decode_us: micros(self.decode) };
        done
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn count(tokens: &[TokenId]) -> u32 {
    narrow(tokens.len())
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
