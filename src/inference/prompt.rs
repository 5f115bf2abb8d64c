//! From a request to the tokens the model continues.

use super::calls::CallFilter;
use super::constraint::Constraint;
use super::generation::{Beginning, Generation};
use super::grammar::{Grammar, Lead};
use super::sampler::Settings;
use super::stop::StopFilter;
use super::think::ThinkFilter;
use super::trim::{Size, Window, cuts, remaining};
use crate::chat::{
    Delta, Done, Finish, Input, Message, Overflow, Request, Role, Sampling, Think, TokenId, Tools,
};
use crate::fault::{Failure, Fault, Result};
use crate::model::Text;

/// What a template puts around a message where that cannot be measured.
const USUAL_OVERHEAD: u32 = 8;
/// How often a single turn that is too long is shortened before it is given up.
const SHORTENINGS: u32 = 24;

/// A request, ready for the model.
pub struct Prepared {
    /// The prompt alone; tokens generated earlier (`resume`) follow it.
    pub prompt: Vec<TokenId>,
    /// So many at its end may be others in the conversation's next prompt.
    pub cue: usize,
    /// Messages left out because the context is too short.
    pub dropped_messages: u32,
    /// The answer, with the tokens generated earlier taken over.
    pub generation: Generation,
    /// Where those tokens end the answer already: nothing is left to generate.
    pub finished: Option<Done>,
}

/// Renders, tokenizes and, where it must, trims a request. `window` is the model's; `resume` are the
/// tokens already generated for this request.
///
/// # Errors
/// [`Fault::RequestInvalid`] for parameters out of range, [`Fault::ContextLength`] where the
/// conversation is too long and may not be trimmed, [`Fault::Template`] and
/// [`Fault::Tokenizer`] from the model's side.
pub fn prepare(
    text: &Text,
    defaults: &Sampling,
    request: &Request,
    window: impl Into<Window>,
    resume: &[TokenId],
) -> Result<Prepared> {
    let settings = Settings::new(&request.sampling, defaults, text.vocabulary())?;
    let stop = StopFilter::new(&request.sampling.stop)?;
    let room = Room::of(request, window.into());
    let rendered = match &request.input {
        Input::Nothing => return Err(Failure::new(Fault::RequestInvalid, "there is nothing to answer")),
        Input::Raw(raw) => raw_prompt(text, raw, room, request.limits.overflow)?,
        Input::Chat(messages) => Chat::new(text, request, room).prompt(&text.with_system_prompt(messages))?,
    };
    let Rendered { tokens: prompt, cue, think, dropped } = rendered;
    let left = room.context.saturating_sub(length(&prompt));
    let limit = request.limits.max_tokens.map_or(left, |most| most.min(left));
    let lead = Lead::new(think.is_thinking(), think.is_closed(), request.think);
    let constraint = match Grammar::of(request, lead)? {
        Some(grammar) => Some(Constraint::new(text.guide()?, &grammar, limit)?),
        None => None,
    };
    let mut generation = Generation::new(Beginning {
        text,
        settings,
        stop,
        think,
        calls: CallFilter::new(request.tools.callable()),
        constraint,
        prompt: &prompt,
        limit,
        logprobs: request.logprobs.map(|n| n.min(20)),
    });
    let mut finished = None;
    for &token in resume {
        finished = finished.or(generation.replay(token)?);
    }
    if finished.is_none() && limit == 0 {
        finished = Some(Done { finish: Finish::Length, ..generation.cancel() });
    }
    Ok(Prepared { prompt, cue, dropped_messages: dropped, generation, finished })
}

/// A message of more bytes takes long to tokenize: nothing is worked out ahead of it.
const LONG_MESSAGE: usize = 32 << 10;

/// What the next prompt of this conversation certainly begins with, if its client goes on after the
/// answer `said`. `None` where nothing is certain.
pub fn continuation(
    text: &Text,
    request: &Request,
    window: impl Into<Window>,
    said: &Delta,
) -> Option<Vec<TokenId>> {
    let Input::Chat(messages) = &request.input else { return None };
    // After a call comes the tool's result, in a form of its own.
    if !said.calls.is_empty() || messages.iter().any(|message| message.content.len() > LONG_MESSAGE) {
        return None;
    }
    let chat = Chat::new(text, request, Room::of(request, window.into()));
    let messages = text.with_system_prompt(messages);
    // Where the conversation will be cut depends on the next question's length, too: as long as the last, probably.
    let last = messages.iter().rfind(|message| message.role == Role::User).map_or("", |m| &m.content);
    let with = |first: char| {
        let answer = Message::text(Role::Assistant, &said.content);
        let next = Message::text(Role::User, format!("{first}{last}"));
        chat.prompt(&[messages.as_slice(), &[answer, next]].concat()).ok()
    };
    // Whatever the next question is, the prompts for these two differ where it begins.
    let (one, other) = (with('a')?.tokens, with('1')?.tokens);
    let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    one.get(..common).map(<[TokenId]>::to_vec)
}

struct Rendered {
    tokens: Vec<TokenId>,
    cue: usize,
    think: ThinkFilter,
    dropped: u32,
}

/// How the context is shared between prompt and answer.
#[derive(Clone, Copy)]
struct Room {
    context: u32,
    /// What a trimmed prompt may take.
    prompt: u32,
    /// What it may take with more than its newest turn.
    quick: u32,
    /// The least distance between two cuts.
    step: u32,
}

impl Room {
    fn of(request: &Request, window: Window) -> Self {
        let context = request.limits.context.map_or(window.context, |limit| limit.min(window.context));
        let quarter = context / 4;
        let answer = request.limits.max_tokens.map_or(quarter, |most| most.min(quarter)).max(1);
        let prompt = context.saturating_sub(answer);
        Self { context, prompt, quick: prompt.min(window.quick), step: quarter }
    }

    /// The refusal of a prompt that leaves no room for an answer.
    fn too_long(self, tokens: u32) -> Failure {
        Failure::new(
            Fault::ContextLength,
            // In these words client libraries know this failure from other wrong requests.
            format!(
                "the prompt of {tokens} tokens exceeds the available context size of {}, the answer included",
                self.context
            ),
        )
    }
}

fn length(tokens: &[TokenId]) -> u32 {
    u32::try_from(tokens.len()).unwrap_or(u32::MAX)
}

fn raw_prompt(text: &Text, raw: &str, room: Room, overflow: Overflow) -> Result<Rendered> {
    let mut tokens = text.encode(raw, true)?;
    let count = length(&tokens);
    if overflow == Overflow::Error && count >= room.context {
        return Err(room.too_long(count));
    }
    if overflow == Overflow::Trim && count > room.prompt {
        // Keep the end, moving in steps as conversations do.
        let excess = count - room.prompt;
        let stepped = excess.div_ceil(room.step.max(1)).saturating_mul(room.step);
        let drop = if stepped < count { stepped } else { excess };
        let begin = text.encode("", true)?.len().min(tokens.len());
        let end = begin.saturating_add(usize::try_from(drop).unwrap_or(usize::MAX)).min(tokens.len());
        tokens.drain(begin..end);
    }
    if tokens.is_empty() {
        return Err(Failure::new(Fault::RequestInvalid, "the prompt is empty"));
    }
    // More text may make one token of its last and what follows.
    Ok(Rendered { tokens, cue: 1, think: ThinkFilter::none(), dropped: 0 })
}

/// How a conversation becomes a prompt.
struct Chat<'a> {
    text: &'a Text,
    request: &'a Request,
    room: Room,
    frame: Frame,
}

impl<'a> Chat<'a> {
    fn new(text: &'a Text, request: &'a Request, room: Room) -> Self {
        Self { text, request, room, frame: Frame::of(text, request.think) }
    }

    fn render(&self, messages: &[Message], dropped: usize) -> Result<Rendered> {
        let rendered = self.text.render(messages, &self.request.tools, self.request.think)?;
        Ok(Rendered {
            tokens: self.text.encode(&rendered, false)?,
            cue: self.frame.cue,
            think: ThinkFilter::after(&rendered),
            dropped: u32::try_from(dropped).unwrap_or(u32::MAX),
        })
    }

    fn prompt(&self, messages: &[Message]) -> Result<Rendered> {
        let Self { text, room, request, frame: Frame { overhead, .. } } = *self;
        if messages.is_empty() {
            return Err(Failure::new(Fault::RequestInvalid, "there are no messages"));
        }
        if request.limits.overflow == Overflow::Error {
            let whole = self.render(messages, 0)?;
            let count = length(&whole.tokens);
            return if count < room.context { Ok(whole) } else { Err(room.too_long(count)) };
        }
        let is_system = |m: &&Message| matches!(m.role, Role::System | Role::Developer);
        let (system, turns) = messages.split_at(messages.iter().take_while(is_system).count());
        let size = |message: &Message| -> Result<Size> {
            let mut tokens = text.count(&message.content)?.saturating_add(overhead);
            for call in &message.tool_calls {
                tokens = tokens.saturating_add(text.count(&call.arguments)?.saturating_add(overhead));
            }
            Ok(Size { tokens, begins_turn: message.role == Role::User })
        };
        let sizes: Vec<Size> = turns.iter().map(size).collect::<Result<_>>()?;
        let fixed: Vec<Size> = system.iter().map(size).collect::<Result<_>>()?;
        let places = cuts(&sizes, room.step);
        let newest = places.last().copied().unwrap_or(0);
        for &cut in &places {
            let most = if cut == newest { room.prompt } else { room.quick };
            let kept = turns.get(cut..).unwrap_or_default();
            // Estimates are near; what certainly cannot fit is not rendered.
            let estimate = remaining(&fixed, 0) + remaining(&sizes, cut);
            if estimate > u64::from(most) * 5 / 4 + 64 {
                continue;
            }
            let rendered = self.render(&[system, kept].concat(), cut)?;
            if length(&rendered.tokens) <= most {
                return Ok(rendered);
            }
        }
        let mut kept = [system, turns.get(newest..).unwrap_or_default()].concat();
        for _ in 0..SHORTENINGS {
            let rendered = self.render(&kept, newest)?;
            let count = length(&rendered.tokens);
            if count <= room.prompt {
                return Ok(rendered);
            }
            if !shorten_longest(text, &mut kept, count - room.prompt)? {
                return Err(room.too_long(count));
            }
        }
        Err(room.too_long(length(&self.render(&kept, newest)?.tokens)))
    }
}

/// Takes tokens off the longest message: a system message loses its end, any other its
/// beginning. `false` where there is nothing left to take.
fn shorten_longest(text: &Text, messages: &mut [Message], excess: u32) -> Result<bool> {
    let mut longest: Option<(u32, &mut Message)> = None;
    for message in messages.iter_mut() {
        let count = text.count(&message.content)?;
        if longest.as_ref().is_none_or(|(most, _)| count > *most) {
            longest = Some((count, message));
        }
    }
    let Some((count, message)) = longest.filter(|(count, _)| *count > 0) else { return Ok(false) };
    // One message does not pay for all: others may be as long.
    let keep = count.saturating_sub(excess.saturating_add(2)).max(count / 2);
    let tokens = text.encode(&message.content, false)?;
    let keep = usize::try_from(keep).unwrap_or(usize::MAX).min(tokens.len().saturating_sub(1));
    let part = if matches!(message.role, Role::System | Role::Developer) {
        tokens.get(..keep)
    } else {
        tokens.get(tokens.len() - keep..)
    };
    let bytes: Vec<u8> =
        part.unwrap_or_default().iter().flat_map(|&t| text.pieces().bytes(t)).copied().collect();
    // Half characters at the cut go.
    message.content = bytes.utf8_chunks().map(|chunk| chunk.valid()).collect();
    Ok(true)
}

/// What a template puts around messages, in tokens.
#[derive(Clone, Copy)]
struct Frame {
    /// Around each.
    overhead: u32,
    /// Behind the last to have it answered, as far as the answer will not have it before it.
    cue: usize,
}

impl Frame {
    fn of(text: &Text, think: Think) -> Self {
        let measure = || -> Result<Self> {
            let user = Message::text(Role::User, "a");
            let turn = [user.clone(), Message::text(Role::Assistant, "a"), user.clone()];
            let tokens = |messages: &[Message]| -> Result<Vec<TokenId>> {
                text.encode(&text.render(messages, &Tools::default(), think)?, false)
            };
            let (one, two) = (tokens(&[user])?, tokens(&turn)?);
            let overhead = (length(&two).saturating_sub(length(&one)) / 2).saturating_sub(text.count("a")?);
            let common = one.iter().zip(&two).take_while(|(a, b)| a == b).count();
            Ok(Self { overhead, cue: one.len().saturating_sub(common) })
        };
        measure().unwrap_or(Self { overhead: USUAL_OVERHEAD, cue: 0 })
    }
}

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
