//! Separates a leading `<think>…</think>` block from the answer.

use crate::chat::Delta;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but blanks and perhaps a part of the opening marker so far.
    Start,
    /// Inside, before anything but newlines.
    Opened,
    Inside,
    /// Behind the block, before anything but newlines.
    Closed,
    Plain,
}

/// Splits text into reasoning and content. The markers and the newlines around them belong
/// to neither.
#[derive(Clone, Debug)]
pub struct ThinkFilter {
    state: State,
    held: String,
}

impl ThinkFilter {
    /// For an answer that follows `prompt`, which may have opened or closed the block itself.
    pub fn after(prompt: &str) -> Self {
        let end = prompt.trim_end();
        let state = if end.ends_with(OPEN) {
            State::Opened
        } else if end.ends_with(CLOSE) {
            State::Closed
        } else {
            State::Start
        };
        Self { state, held: String::new() }
    }

    /// For text that has no such block.
    pub fn none() -> Self {
        Self { state: State::Plain, held: String::new() }
    }

    /// Whether the block is open.
    pub fn is_thinking(&self) -> bool {
        matches!(self.state, State::Opened | State::Inside)
    }

    /// Whether the block, or the place of one, is behind.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Plain)
    }

    /// Takes more text; returns what became certain.
    pub fn push(&mut self, text: &str) -> Delta {
        let mut delta = Delta::default();
        self.held.push_str(text);
        while self.advance(&mut delta) {}
        delta
    }

    /// The end of the answer: what is held back belongs to whatever is open.
    pub fn finish(&mut self) -> Delta {
        let rest = std::mem::take(&mut self.held);
        if self.is_thinking() {
            Delta { reasoning: rest.trim_end_matches('\n').to_owned(), ..Delta::default() }
        } else {
            Delta { content: rest, ..Delta::default() }
        }
    }

    /// One transition; `false` where more text is needed.
    fn advance(&mut self, delta: &mut Delta) -> bool {
        match self.state {
            State::Start => {
                let begun = self.held.trim_start();
                if let Some(rest) = begun.strip_prefix(OPEN) {
                    self.held = rest.to_owned();
                    self.state = State::Opened;
                } else if OPEN.starts_with(begun) {
                    return false;
                } else {
                    self.state = State::Plain;
                }
                true
            }
            State::Opened | State::Closed => {
                let rest = self.held.trim_start_matches('\n');
                if rest.is_empty() {
                    self.held.clear();
                    return false;
                }
                self.held = rest.to_owned();
                self.state = if self.state == State::Opened { State::Inside } else { State::Plain };
                true
            }
            State::Inside => {
                if let Some((inside, behind)) = self.held.split_once(CLOSE) {
                    delta.reasoning.push_str(inside.trim_end_matches('\n'));
                    self.held = behind.to_owned();
                    self.state = State::Closed;
                    return true;
                }
                let keep = (1..CLOSE.len())
                    .rev()
                    .filter_map(|n| CLOSE.get(..n))
                    .find(|start| self.held.ends_with(start))
                    .map_or(self.held.len(), |start| self.held.len() - start.len());
                let certain = self.held.get(..keep).unwrap_or_default().trim_end_matches('\n').len();
                let kept = self.held.split_off(certain);
                delta.reasoning.push_str(&std::mem::replace(&mut self.held, kept));
                false
            }
            State::Plain => {
                delta.content.push_str(&std::mem::take(&mut self.held));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(prompt: &str, pieces: &[&str]) -> (String, String) {
        let mut filter = ThinkFilter::after(prompt);
        let (mut reasoning, mut content) = (String::new(), String::new());
        let mut take = |delta: Delta| {
            reasoning.push_str(&delta.reasoning);
            content.push_str(&delta.content);
        };
        for piece in pieces {
            take(filter.push(piece));
        }
        take(filter.finish());
        (reasoning, content)
    }

    fn pair(reasoning: &str, content: &str) -> (String, String) {
        (reasoning.to_owned(), content.to_owned())
    }

    #[test]
    fn blocks_are_separated_wherever_they_were_opened() {
        let answer = "<think>\nWell.\n\nYes.\n</think>\n\nHello <think> there.\n";
        let wanted = pair("Well.\n\nYes.", "Hello <think> there.\n");
        assert_eq!(split("assistant\n", &[answer]), wanted);
        let opened = answer.strip_prefix("<think>").unwrap();
        assert_eq!(split("assistant\n<think>\n", &[opened]), wanted);
        assert_eq!(split("<think>\n\n</think>\n\n", &["Hello"]), pair("", "Hello"));
        assert_eq!(split("assistant\n", &["<think>\n\n</think>\n\nHello"]), pair("", "Hello"));
        assert_eq!(split("assistant\n", &[" \n<th", "e> is a tag"]), pair("", " \n<the> is a tag"));
        assert_eq!(split("assistant\n", &["<think>cut <", "/th\n"]), pair("cut </th", ""));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            text in "(<think>\n?)?([ab<\n]|</think>){0,12}",
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|i| i.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(split("", &pieces), split("", &[&text]));
        }
    }
}
