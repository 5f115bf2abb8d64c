//! What the card does with all this: rows must be those of the tokens they are taken for.

use proptest::prelude::*;

use super::tests::{SYSTEM, answer, talk};
use super::*;

/// For each token what stands for its K and V rows, which depend on all tokens before it.
type Rows = Vec<u64>;

fn rows(tokens: &[TokenId]) -> Rows {
    let next = |row: &mut u64, &token: &TokenId| {
        *row = row.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(token) + 1);
        Some(*row)
    };
    tokens.iter().scan(0, next).collect()
}

/// Card and host.
struct Machine {
    prefixes: Prefixes<Rows>,
    caches: Vec<Rows>,
}

impl Machine {
    fn new(slots: usize, saved: usize) -> Self {
        let mut prefixes = Prefixes::new(128);
        (1..slots).for_each(|_| prefixes.add());
        prefixes.save_at_most(saved);
        Self { prefixes, caches: vec![Vec::new(); slots] }
    }

    /// As the pipeline does it; at most so many pieces are saved.
    fn save(&mut self, slot: usize, room: Room, pieces: usize) {
        if !self.prefixes.save(slot, room, || Some(Rows::new())) {
            return;
        }
        for _ in 0..pieces {
            let Some((tokens, saved)) = self.prefixes.unsaved(slot, 256) else { break };
            saved.resize(tokens.end.max(saved.len()), 0);
            saved[tokens.clone()].copy_from_slice(&self.caches[slot][tokens.clone()]);
            self.prefixes.saved(slot, tokens);
        }
    }

    fn save_ahead(&mut self, pieces: usize) {
        self.save(self.prefixes.least().unwrap(), Room::OfStale, pieces);
    }

    fn compute(&mut self, prompt: &[TokenId], purpose: Purpose) -> Choice {
        let choice = self.prefixes.choose(prompt);
        if let Some(slot) = self.prefixes.replaced(choice, purpose) {
            self.save(slot, Room::OfOthers(choice.needs()), usize::MAX);
        }
        self.prefixes.begin(choice, purpose);
        match choice.from {
            Source::Here => {}
            Source::Slot(from) => {
                assert_ne!(from, choice.slot);
                self.caches[choice.slot] = self.caches[from][..choice.reused].to_vec();
            }
            Source::Saved { number, here } => {
                let saved = &self.prefixes.rows(number).expect("the rows are needed")[here..choice.reused];
                self.caches[choice.slot].truncate(here);
                self.caches[choice.slot].extend_from_slice(saved);
            }
        }
        self.prefixes.begun(choice, prompt, purpose);
        let (cache, right) = (&mut self.caches[choice.slot], rows(prompt));
        assert!(cache[..choice.reused] == right[..choice.reused], "{choice:?}");
        *cache = right;
        self.prefixes.extend(&prompt[choice.reused..]);
        choice
    }

    fn answer(&mut self, answer: &[TokenId]) {
        self.prefixes.extend(answer);
        self.caches[self.prefixes.current()] = rows(self.prefixes.tokens());
    }

    /// A question of a conversation and its answer; how much of it had to be computed.
    fn ask(&mut self, who: TokenId, turns: TokenId) -> usize {
        let prompt = talk(who, turns);
        let choice = self.compute(&prompt, Purpose::Answer { cue: 5 });
        self.answer(&answer(who, turns));
        prompt.len() - choice.reused
    }
}

#[test]
fn conversations_in_turns_stay_warm_in_one_slot_if_the_host_keeps_them() {
    let mut machine = Machine::new(1, 3000);
    for turns in 3..18 {
        for who in [1, 2, 3] {
            let computed = machine.ask(who, turns);
            assert!(turns == 3 || computed == 20, "{computed} of turn {turns} of {who}");
        }
    }
    // What there is no room for is computed as if nothing had been saved.
    machine.prefixes.save_at_most(0);
    assert_eq!(machine.ask(1, 18), 920 - 50);
}

#[test]
fn what_is_computed_at_once_anyway_is_not_brought_back() {
    let mut machine = Machine::new(1, 3000);
    machine.ask(1, 2);
    machine.ask(2, 2);
    // Behind what both begin with one run is enough for all, and then it is not any more.
    assert_eq!(machine.ask(1, 3), 150 + 20 - 50);
    assert_eq!(machine.ask(2, 3), 150 + 20 - 50);
    assert_eq!(machine.ask(1, 4), 20);
}

#[test]
fn the_one_asked_longest_ago_is_not_saved_any_longer() {
    let mut machine = Machine::new(1, 1000);
    for who in 1..=5 {
        machine.ask(who, 6);
    }
    // Three of 350 tokens were too many.
    assert_eq!(machine.ask(1, 7), 350 + 20 - 50);
    assert_eq!(machine.ask(5, 7), 20);
    assert_eq!(machine.ask(1, 8), 20);
}

#[test]
fn what_is_brought_back_is_not_given_up_for_what_leaves() {
    let mut machine = Machine::new(1, 400);
    machine.ask(1, 6);
    machine.ask(2, 6);
    assert_eq!(machine.ask(1, 7), 20);
    // There was room for one of them only.
    assert_eq!(machine.ask(2, 7), 350 + 20 - 50);
}

#[test]
fn what_leaves_next_is_saved_ahead_where_nothing_is_lost_for_it() {
    let mut machine = Machine::new(2, 1400);
    for who in 1..=2 {
        machine.ask(who, 6);
    }
    assert!(machine.prefixes.unsaved(0, 256).is_none());
    machine.save_ahead(usize::MAX);
    assert!(machine.prefixes.unsaved(0, 256).is_none() && machine.prefixes.slots[0].copy.is_some());
    assert_eq!(machine.prefixes.slots[1].copy, None);
    machine.ask(3, 6);
    machine.save_ahead(1);
    // Interrupted: what there is of it counts.
    assert_eq!(machine.prefixes.unsaved(1, 256).unwrap().0, 256..350);
    machine.ask(4, 6);
    assert_eq!((machine.ask(1, 7), machine.ask(2, 7)), (20, 20));
}

#[test]
fn only_what_nobody_went_on_with_for_long_makes_room_ahead() {
    let mut machine = Machine::new(1, 800);
    for who in [1, 2, 3, 3, 3, 3, 3, 3, 3] {
        machine.ask(who, 6);
        // Two are saved, the third is on the card: each goes on where it was.
        machine.save_ahead(usize::MAX);
    }
    assert_eq!(machine.prefixes.slots[0].copy, None);
    machine.ask(3, 6);
    machine.save_ahead(usize::MAX);
    assert!(machine.prefixes.unsaved(0, 256).is_none() && machine.prefixes.slots[0].copy.is_some());
    // It took the place of the older one.
    assert_eq!((machine.ask(2, 7), machine.ask(3, 7), machine.ask(1, 7)), (20, 20, 320));
}

#[test]
fn what_is_too_short_or_cut_is_not_saved() {
    let mut machine = Machine::new(1, 3000);
    machine.ask(1, 1);
    machine.ask(2, 1);
    assert_eq!(machine.ask(1, 6), 320 - 50);
    machine.save_ahead(usize::MAX);
    // Nobody comes back to what was before a cut.
    let cut: Vec<TokenId> = SYSTEM.chain(9000..9200).collect();
    machine.compute(&cut, Purpose::Ahead);
    assert_eq!(machine.ask(1, 7), 370 - 50);
}

#[test]
fn a_copy_outlives_the_test_prompt() {
    let mut machine = Machine::new(1, 3000);
    machine.ask(1, 10);
    machine.save_ahead(usize::MAX);
    // A request came before what the test prompt had overwritten was computed again.
    machine.prefixes.replace(Vec::new());
    machine.caches[0] = rows(&[7777; 40]);
    machine.save_ahead(usize::MAX);
    assert_eq!(machine.ask(1, 11), 20);
}

#[derive(Clone, Debug)]
enum Act {
    /// The last part of so many words is the answer.
    Answer {
        words: Words,
        answer: usize,
    },
    Ahead {
        words: Words,
    },
    SaveAhead {
        pieces: usize,
    },
    TestPrompt {
        put_back: bool,
    },
    Room {
        tokens: usize,
    },
    Shrink,
}

fn acts() -> impl Strategy<Value = Act> {
    let words = || {
        (1..4u32, 1..14usize, 2..14usize, 0..3u32).prop_map(|(who, parts, other, how)| Words {
            who,
            parts,
            other,
            how,
        })
    };
    prop_oneof![
        8 => (words(), 0..3usize).prop_map(|(words, answer)| Act::Answer { words, answer }),
        2 => words().prop_map(|words| Act::Ahead { words }),
        4 => (0..3usize).prop_map(|pieces| Act::SaveAhead { pieces }),
        2 => any::<bool>().prop_map(|put_back| Act::TestPrompt { put_back }),
        1 => (0..2000usize).prop_map(|tokens| Act::Room { tokens }),
        1 => Just(Act::Shrink),
    ]
}

/// What visitors say, in parts of 50 words. All share the first; one part may have other words.
#[derive(Clone, Debug)]
struct Words {
    who: TokenId,
    parts: usize,
    other: usize,
    how: TokenId,
}

impl Words {
    fn tokens(&self) -> Vec<TokenId> {
        let mut words: Vec<TokenId> = SYSTEM.chain(1000 * self.who..).take(50 * self.parts).collect();
        words.iter_mut().skip(50 * self.other).take(50).for_each(|word| *word += 50_000 * self.how);
        words
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_reused_is_there(
        slots in 1usize..5,
        saved in 0usize..2000,
        acts in proptest::collection::vec(acts(), 1..60),
    ) {
        let (mut machine, mut most) = (Machine::new(slots, saved), saved);
        for act in acts {
            match act {
                Act::Answer { words, answer } => {
                    let words = words.tokens();
                    let (prompt, answer) = words.split_at(words.len().saturating_sub(50 * answer).max(50));
                    // Compares what is reused with the prompt.
                    let choice = machine.compute(prompt, Purpose::Answer { cue: 5 });
                    prop_assert!(choice.reused < prompt.len());
                    machine.answer(answer);
                }
                Act::Ahead { words } => {
                    machine.compute(&words.tokens(), Purpose::Ahead);
                }
                Act::SaveAhead { pieces } => machine.save_ahead(pieces),
                Act::TestPrompt { put_back } => {
                    let before = machine.prefixes.replace(Vec::new());
                    let current = machine.prefixes.current();
                    if put_back {
                        machine.prefixes.replace(before);
                    } else {
                        machine.caches[current].clear();
                    }
                }
                Act::Room { tokens } => {
                    most = tokens;
                    machine.prefixes.save_at_most(tokens);
                }
                Act::Shrink => {
                    let current = machine.prefixes.current();
                    for slot in (0..machine.prefixes.len()).filter(|&slot| slot != current) {
                        machine.save(slot, Room::OfOthers(None), usize::MAX);
                    }
                    machine.prefixes.keep_current();
                    machine.caches.swap(0, current);
                    machine.caches.truncate(1);
                }
            }
            let current = machine.prefixes.current();
            prop_assert_eq!(rows(machine.prefixes.tokens()), &machine.caches[current][..]);
            prop_assert!(machine.prefixes.saved.taken() <= most);
        }
    }
}
