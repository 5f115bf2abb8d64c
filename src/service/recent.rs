//! The conversations answered last: a new worker is to have them on its card before they go on.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::chat::{Input, Request, TokenId};
use crate::link::frame::Command;

/// Conversations kept; a card keeps about as many.
const MOST: usize = 4;
/// Bytes of their requests together.
const MOST_BYTES: usize = 256 << 10;

/// A request, and the tokens it was answered with.
pub(super) struct Conversation {
    pub request: Arc<Request>,
    pub tokens: Vec<TokenId>,
}

impl Conversation {
    fn continues(&self, other: &Self) -> bool {
        let further = match (&self.request.input, &other.request.input) {
            (Input::Chat(new), Input::Chat(old)) => new.starts_with(old),
            (Input::Raw(new), Input::Raw(old)) => new.starts_with(old.as_str()),
            _ => false,
        };
        further && self.request.model == other.request.model
    }
}

/// The last is the newest.
#[derive(Default)]
pub(super) struct Recent(VecDeque<Conversation>);

impl Recent {
    /// Keeps a conversation in place of what it goes on with.
    pub fn keep(&mut self, conversation: Conversation) {
        self.0.retain(|old| !conversation.continues(old));
        self.0.push_back(conversation);
        while self.0.len() > MOST || self.size() > MOST_BYTES {
            self.0.pop_front();
        }
    }

    /// What makes a worker compute them again, the newest last. Each only once until it is answered
    /// again: should one be why workers end, no more than one does.
    pub fn commands(&mut self) -> impl Iterator<Item = Command> + use<> {
        let conversations = std::mem::take(&mut self.0).into_iter();
        conversations.map(|kept| Command::Warm { request: kept.request, resume: kept.tokens })
    }

    fn size(&self) -> usize {
        self.0.iter().map(|kept| kept.request.size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Role};

    fn talk(who: &str, turns: usize) -> Conversation {
        let messages = (0..turns).map(|n| Message::text(Role::User, format!("{who} {n}"))).collect();
        Conversation { request: Request::new(Input::Chat(messages)).into(), tokens: vec![1, 2] }
    }

    fn kept(recent: &mut Recent) -> Vec<(String, usize)> {
        let all = recent.commands().map(|command| match command {
            Command::Warm { request, resume } => {
                assert_eq!(resume, [1, 2]);
                match &request.input {
                    Input::Chat(messages) => (messages[0].content.clone(), messages.len()),
                    Input::Raw(text) => (text.clone(), 0),
                    Input::Nothing => panic!("no conversation"),
                }
            }
            other => panic!("{other:?}"),
        });
        all.collect()
    }

    #[test]
    fn a_conversation_takes_the_place_of_its_beginning() {
        let mut recent = Recent::default();
        for (who, turns) in [("a", 1), ("b", 1), ("a", 3), ("a", 3), ("b", 2)] {
            recent.keep(talk(who, turns));
        }
        assert_eq!(kept(&mut recent), [("a 0".to_owned(), 3), ("b 0".to_owned(), 2)]);
        assert!(kept(&mut recent).is_empty(), "once is enough");
        let raw = |text: &str| {
            let request = Request::new(Input::Raw(text.into())).into();
            Conversation { request, tokens: vec![1, 2] }
        };
        for text in ["one", "one and two", "two"] {
            recent.keep(raw(text));
        }
        assert_eq!(kept(&mut recent), [("one and two".to_owned(), 0), ("two".to_owned(), 0)]);
        let mut other = talk("a", 2);
        Arc::make_mut(&mut other.request).model = Some("other".into());
        recent.keep(talk("a", 1));
        recent.keep(other);
        assert_eq!(kept(&mut recent).len(), 2);
    }

    #[test]
    fn the_newest_are_kept_within_bounds() {
        let mut recent = Recent::default();
        for who in ["a", "b", "c", "d", "e"] {
            recent.keep(talk(who, 1));
        }
        let names = |list: Vec<(String, usize)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(kept(&mut recent)), ["b 0", "c 0", "d 0", "e 0"]);
        recent.keep(talk("a", 1));
        recent.keep(talk(&"x".repeat(MOST_BYTES - 1000), 1));
        recent.keep(talk("b", 1));
        assert_eq!(recent.0.len(), 3);
        recent.keep(talk(&"y".repeat(2000), 1));
        assert_eq!(names(kept(&mut recent)).len(), 2, "the oldest go until there is room");
        recent.keep(talk(&"x".repeat(MOST_BYTES), 1));
        assert!(kept(&mut recent).is_empty());
    }
}
