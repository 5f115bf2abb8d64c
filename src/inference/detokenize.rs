//! Tokens to text, whole characters only.

use std::sync::Arc;

use crate::chat::TokenId;
use crate::model::Pieces;

/// Collects bytes until they are characters. What is certainly no UTF-8 becomes U+FFFD; a
/// character cut off by the end of the answer is left out.
pub struct Detokenizer {
    pieces: Arc<Pieces>,
    pending: Vec<u8>,
    at_start: bool,
}

impl Detokenizer {
    /// At the beginning of an answer.
    pub fn new(pieces: Arc<Pieces>) -> Self {
        let at_start = pieces.strips_first_space();
        Self { pieces, pending: Vec::new(), at_start }
    }

    /// The text that `token` completes.
    pub fn push(&mut self, token: TokenId) -> String {
        if self.pieces.is_hidden(token) {
            return String::new();
        }
        let bytes = self.pieces.bytes(token);
        let bytes = match bytes.split_first() {
            Some((b' ', rest)) if self.at_start => rest,
            _ => bytes,
        };
        self.at_start &= self.pieces.bytes(token).is_empty();
        self.pending.extend_from_slice(bytes);
        take_characters(&mut self.pending)
    }
}

/// Removes whole characters from the front of `bytes`.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut done = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        done += chunk.valid().len();
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let unfinished = done + invalid.len() == bytes.len()
            && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
        if unfinished {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        done += invalid.len();
    }
    bytes.drain(..done);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn streamed(chunks: &[&[u8]]) -> (String, Vec<u8>) {
        let (mut text, mut pending) = (String::new(), Vec::new());
        for chunk in chunks {
            pending.extend_from_slice(chunk);
            text.push_str(&take_characters(&mut pending));
        }
        (text, pending)
    }

    #[test]
    fn half_characters_wait_and_broken_ones_are_replaced() {
        assert_eq!(streamed(&[b"caf\xc3"]), ("caf".to_owned(), vec![0xc3]));
        assert_eq!(streamed(&[b"caf\xc3", b"\xa9!"]), ("café!".to_owned(), vec![]));
        assert_eq!(streamed(&[b"a\xffb"]), ("a\u{fffd}b".to_owned(), vec![]));
        assert_eq!(streamed(&[b"\xf0\x9f", b"x"]), ("\u{fffd}x".to_owned(), vec![]));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_text(text in ".{0,40}", at in proptest::collection::vec(0usize..160, 0..8)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = at.into_iter().map(|i| i.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(streamed(&chunks), (text.clone(), vec![]));
        }

        #[test]
        fn any_bytes_in_any_split_give_what_the_whole_gives(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac)], 0..40),
            size in 1usize..5,
        ) {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            let (text, pending) = streamed(&chunks);
            prop_assert!(pending.len() < 4);
            let whole = String::from_utf8_lossy(&bytes[..bytes.len() - pending.len()]).into_owned();
            prop_assert_eq!(text, whole);
        }
    }
}
