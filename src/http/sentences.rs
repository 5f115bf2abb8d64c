//! Holds text back until its sentence is complete, for answers that must come in time: what
//! is said is said in whole sentences.

use crate::chat::{Event, Finish};

/// Marks that end a sentence, if what follows is not of the same word.
const MARKS: [char; 8] = ['.', '!', '?', '…', '。', '！', '？', '\n'];
/// What may stand between a mark and the next sentence.
const CLOSING: [char; 8] = ['"', '\'', ')', ']', '»', '”', '’', '*'];

/// Text on its way, sentence by sentence.
#[derive(Debug, Default)]
pub struct Sentences {
    held: String,
    released: bool,
}

impl Sentences {
    /// Takes more text; gives the sentences that are complete with it.
    fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let rest = self.held.split_off(complete(&self.held));
        let out = std::mem::replace(&mut self.held, rest);
        self.released |= !out.trim().is_empty();
        out
    }

    /// Holds back what an event says of an unfinished sentence.
    pub fn hold(&mut self, event: &mut Event) {
        match event {
            Event::Token(token) => token.delta.content = self.push(&token.delta.content),
            Event::Restart => *self = Self::default(),
            Event::Done(done) => {
                let said = self.push(&done.tail.content);
                let rest = if done.finish == Finish::Deadline { self.cut() } else { self.finish() };
                done.tail.content = said + &rest;
            }
            Event::Started(_) | Event::Failed(_) => {}
        }
    }

    /// The end of an answer that was not cut.
    fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The end of an answer that was cut: half a sentence only where nothing else was said.
    fn cut(&mut self) -> String {
        let rest = self.finish();
        if self.released { String::new() } else { rest }
    }
}

/// Where the last complete sentence ends. A mark at the very end counts: waiting for what
/// follows would cost a token's time.
fn complete(text: &str) -> usize {
    let mut ends = text.char_indices().filter(|(_, c)| MARKS.contains(c)).map(|(at, c)| at + c.len_utf8());
    ends.by_ref()
        .filter_map(|end| {
            let behind = text.get(end..)?;
            let rest = behind.trim_start_matches(CLOSING);
            let open = rest.is_empty() || rest.starts_with(char::is_whitespace) || wide(text, end);
            open.then_some(end + behind.len() - rest.len())
        })
        .last()
        .unwrap_or(0)
}

/// Whether the mark before `end` needs no blank behind it.
fn wide(text: &str, end: usize) -> bool {
    text.get(..end).is_some_and(|head| head.ends_with(['。', '！', '？', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(pieces: &[&str]) -> (Vec<String>, String) {
        let mut sentences = Sentences::default();
        let out = pieces.iter().map(|piece| sentences.push(piece)).collect();
        (out, sentences.cut())
    }

    #[test]
    fn sentences_leave_the_moment_they_are_complete() {
        let (out, rest) = say(&["The moon", " is far", ".", " It is", " 3.5 times", " as", " big!\" Yes"]);
        assert_eq!(out, ["", "", "The moon is far.", "", "", "", " It is 3.5 times as big!\""]);
        assert_eq!(rest, "");
    }

    #[test]
    fn half_a_sentence_is_better_than_none() {
        assert_eq!(say(&["The moon", " is"]), (vec![String::new(), String::new()], "The moon is".into()));
        assert_eq!(say(&["月は遠い。でも"]).0, ["月は遠い。"]);
    }

    #[test]
    fn an_answer_that_was_not_cut_is_whole() {
        let mut sentences = Sentences::default();
        assert_eq!(sentences.push("Yes. And"), "Yes.");
        assert_eq!(sentences.finish(), " And");
    }
}
