//! Stop strings, also across token borders.

use crate::fault::{Failure, Fault, Result};

/// Most stop strings of one request.
pub const MOST_STOPS: usize = 16;

/// Releases text as soon as it certainly is not part of a stop string.
#[derive(Clone, Debug)]
pub struct StopFilter {
    stops: Vec<String>,
    /// A proper prefix of some stop string.
    held: String,
}

impl StopFilter {
    /// Empty stop strings stop nothing.
    ///
    /// # Errors
    /// [`Fault::RequestInvalid`] for more than [`MOST_STOPS`].
    pub fn new(stops: &[String]) -> Result<Self> {
        if stops.len() > MOST_STOPS {
            return Err(Failure::new(
                Fault::RequestInvalid,
                format!("{} stop strings, at most {MOST_STOPS} are possible", stops.len()),
            ));
        }
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Ok(Self { stops, held: String::new() })
    }

    /// Takes more text; returns what became certain, and whether a stop string was completed.
    /// Of several the one that is complete first counts, of those the longest.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        let known = self.held.len();
        self.held.push_str(text);
        let ends = text.char_indices().map(|(i, c)| known + i + c.len_utf8());
        for end in ends {
            let head = self.held.get(..end).unwrap_or_default();
            let matched =
                self.stops.iter().filter(|stop| head.ends_with(stop.as_str())).map(String::len).max();
            if let Some(length) = matched {
                let released = head.get(..end - length).unwrap_or_default().to_owned();
                self.held.clear();
                return (released, true);
            }
        }
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let first = self.held.len().saturating_sub(longest.saturating_sub(1));
        let keep = (first..=self.held.len())
            .find(|&start| {
                self.held.get(start..).is_some_and(|tail| {
                    tail.is_empty() || self.stops.iter().any(|stop| stop.starts_with(tail))
                })
            })
            .unwrap_or(self.held.len());
        let kept = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, kept), false)
    }

    /// The end of the answer: nothing can complete what is held.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, seeing the whole text and every character's end in turn.
    fn naive(text: &str, stops: &[String]) -> (String, bool) {
        for (i, c) in text.char_indices() {
            let head = &text[..i + c.len_utf8()];
            let hit =
                stops.iter().filter(|s| !s.is_empty() && head.ends_with(s.as_str())).map(String::len).max();
            if let Some(length) = hit {
                return (head[..head.len() - length].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    #[test]
    fn text_is_held_only_as_long_as_needed() {
        let mut filter = StopFilter::new(&["\nUser:".to_owned(), "#".to_owned()]).unwrap();
        assert_eq!(filter.push("Hello.\n"), ("Hello.".to_owned(), false));
        assert_eq!(filter.push("Us"), (String::new(), false));
        assert_eq!(filter.push("ually"), ("\nUsually".to_owned(), false));
        assert_eq!(filter.push(" yes\nUser"), (" yes".to_owned(), false));
        assert_eq!(filter.push(": no"), (String::new(), true));
    }

    #[test]
    fn more_than_sixteen_are_refused() {
        assert!(StopFilter::new(&vec!["x".to_owned(); 16]).is_ok());
        let failure = StopFilter::new(&vec!["x".to_owned(); 17]).unwrap_err();
        assert_eq!(failure.fault, Fault::RequestInvalid);
    }

    proptest! {
        #[test]
        fn streamed_equals_naive(
            pieces in proptest::collection::vec("[abé]{0,4}", 0..12),
            stops in proptest::collection::vec("[abé]{0,4}", 0..4),
        ) {
            let mut filter = StopFilter::new(&stops).unwrap();
            let (wanted, stopped) = naive(&pieces.concat(), &stops);
            let mut text = String::new();
            let mut hit = false;
            for piece in &pieces {
                let (released, stop) = filter.push(piece);
                text.push_str(&released);
                prop_assert!(wanted.starts_with(&text), "sent {text:?} of {wanted:?}");
                hit = stop;
                if hit {
                    break;
                }
            }
            if !hit {
                text.push_str(&filter.finish());
            }
            prop_assert_eq!((text, hit), (wanted, stopped));
        }

        #[test]
        fn nothing_is_held_that_cannot_become_a_stop(text in "[abc]{0,12}", stops in proptest::collection::vec("[ab]{1,4}", 1..4)) {
            let mut filter = StopFilter::new(&stops).unwrap();
            let (_, hit) = filter.push(&text);
            let held = filter.finish();
            prop_assert!(hit || held.is_empty() || stops.iter().any(|s| s.len() > held.len() && s.starts_with(&held)));
        }
    }
}
