//! Tool calls as models write them: `<tool_call>`, JSON with a name and arguments,
//! `</tool_call>`. Taken out of the answer's text piece by piece.

use serde_json::Value;

use crate::chat::{CallPiece, Delta};

pub const OPEN: &str = "<tool_call>";
pub const TAIL: &str = "}\n</tool_call>";
const CLOSE: &str = "</tool_call>";

const NAME: &str = "\n{\"name\": ";
const ARGUMENTS: &str = ", \"arguments\": ";

/// What stands between the opening marker and the arguments of a call.
pub fn head(name: &str) -> String {
    format!("{NAME}{}{ARGUMENTS}", Value::from(name))
}

#[derive(Clone, Debug)]
enum State {
    /// No tools: nothing is looked for.
    Off,
    Text,
    /// Behind the opening marker.
    Head,
    /// Inside the arguments: so many brackets are open, perhaps a string, perhaps behind a backslash.
    Arguments {
        depth: u32,
        string: bool,
        escaped: bool,
    },
    /// Behind the arguments.
    Tail,
    /// Behind a call: only blanks and further calls are expected.
    Between,
}

/// Separates calls from text.
#[derive(Clone, Debug)]
pub struct CallFilter {
    state: State,
    held: String,
    /// Calls begun.
    count: u32,
}

impl CallFilter {
    /// For an answer that may call tools, or may not.
    pub fn new(callable: bool) -> Self {
        let state = if callable { State::Text } else { State::Off };
        Self { state, held: String::new(), count: 0 }
    }

    /// Whether the answer called a tool.
    pub fn called(&self) -> bool {
        self.count > 0
    }

    /// Takes more text; returns what became certain: content and calls.
    pub fn push(&mut self, text: &str) -> Delta {
        let mut delta = Delta::default();
        self.held.push_str(text);
        while self.advance(&mut delta) {}
        delta
    }

    /// The end of the answer. What is held back was text after all; a call that had only
    /// begun is none.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        if matches!(self.state, State::Text) { held } else { String::new() }
    }

    /// One transition; `false` where more text is needed.
    fn advance(&mut self, delta: &mut Delta) -> bool {
        match &mut self.state {
            State::Off => {
                delta.content.push_str(&std::mem::take(&mut self.held));
                false
            }
            State::Text => {
                if let Some((before, behind)) = self.held.split_once(OPEN) {
                    delta.content.push_str(before.trim_end());
                    self.held = behind.to_owned();
                    self.state = State::Head;
                    return true;
                }
                let rest = self.held.split_off(certain(&self.held));
                delta.content.push_str(&std::mem::replace(&mut self.held, rest));
                false
            }
            State::Head => {
                let Some((head, arguments)) = self.held.split_once(ARGUMENTS) else { return false };
                let name = head.trim_start().strip_prefix(NAME.trim_start());
                let name = name.and_then(|name| serde_json::from_str::<String>(name).ok());
                let call = CallPiece {
                    index: self.count,
                    name: Some(name.unwrap_or_default()),
                    ..CallPiece::default()
                };
                delta.calls.push(call);
                self.count += 1;
                self.held = arguments.to_owned();
                self.state = State::Arguments { depth: 0, string: false, escaped: false };
                true
            }
            State::Arguments { depth, string, escaped } => {
                let mut end = None;
                for (at, c) in self.held.char_indices() {
                    match c {
                        _ if *escaped => *escaped = false,
                        '\\' if *string => *escaped = true,
                        '"' => *string = !*string,
                        '{' | '[' if !*string => *depth += 1,
                        '}' | ']' if !*string => *depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    if *depth == 0 {
                        end = Some(at + c.len_utf8());
                        break;
                    }
                }
                let behind = self.held.split_off(end.unwrap_or(self.held.len()));
                let arguments = std::mem::replace(&mut self.held, behind);
                append(delta, self.count.saturating_sub(1), arguments);
                if end.is_some() {
                    self.state = State::Tail;
                }
                end.is_some()
            }
            State::Tail => {
                let Some((_, behind)) = self.held.split_once(CLOSE) else { return false };
                self.held = behind.to_owned();
                self.state = State::Between;
                true
            }
            State::Between => {
                let Some((_, behind)) = self.held.split_once(OPEN) else { return false };
                self.held = behind.to_owned();
                self.state = State::Head;
                true
            }
        }
    }
}

/// Adds arguments to the call's last piece, or as a new one.
fn append(delta: &mut Delta, index: u32, arguments: String) {
    match delta.calls.last_mut() {
        Some(call) if call.index == index => call.arguments.push_str(&arguments),
        _ if arguments.is_empty() => {}
        _ => delta.calls.push(CallPiece { index, name: None, arguments }),
    }
}

/// How much of `text` certainly is neither a part of the marker nor blank before one.
fn certain(text: &str) -> usize {
    let marker = (1..OPEN.len())
        .rev()
        .filter_map(|n| OPEN.get(..n))
        .find(|start| text.ends_with(start))
        .map_or(0, str::len);
    let before = text.get(..text.len() - marker).unwrap_or_default();
    before.trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&str]) -> Delta {
        let mut filter = CallFilter::new(true);
        let mut all = Delta::default();
        let mut take = |delta: Delta| {
            all.content.push_str(&delta.content);
            for call in delta.calls {
                match call.name {
                    Some(_) => all.calls.push(call),
                    None => append(&mut all, call.index, call.arguments),
                }
            }
        };
        pieces.iter().for_each(|piece| take(filter.push(piece)));
        all.content.push_str(&filter.finish());
        all
    }

    fn call(index: u32, name: &str, arguments: &str) -> CallPiece {
        CallPiece { index, name: Some(name.into()), arguments: arguments.into() }
    }

    const TWO: &str = "Let me see.\n<tool_call>\n{\"name\": \"a \\\"b\\\"\", \"arguments\": {\"x\": \"}\\\"{\", \"y\": [1, {}]}}\n</tool_call>\n<tool_call>\n{\"name\": \"c\", \"arguments\": {}}\n</tool_call>";

    #[test]
    fn calls_are_taken_out_of_the_text() {
        let wanted = vec![call(0, "a \"b\"", "{\"x\": \"}\\\"{\", \"y\": [1, {}]}"), call(1, "c", "{}")];
        let got = split(&[TWO]);
        assert_eq!((got.content.as_str(), got.calls), ("Let me see.", wanted));
        assert_eq!(split(&["a <tool_", "box> \n"]).content, "a <tool_box> \n");
        assert_eq!(
            split(&["cut <tool_call>\n{\"name\": \"x"]),
            Delta { content: "cut".into(), ..Delta::default() }
        );
        let cut = split(&["<tool_call>\n{\"name\": \"x\", \"arguments\": {\"a\": 1"]);
        assert_eq!(cut.calls, [call(0, "x", "{\"a\": 1")]);
    }

    #[test]
    fn without_tools_the_marker_is_text() {
        let mut filter = CallFilter::new(false);
        assert_eq!(filter.push(TWO).content, TWO);
        assert!(!filter.called());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cuts in proptest::collection::vec(0usize..TWO.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.extend([0, TWO.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|w| &TWO[w[0]..w[1]]).collect();
            prop_assert_eq!(split(&pieces), split(&[TWO]));
        }
    }
}
