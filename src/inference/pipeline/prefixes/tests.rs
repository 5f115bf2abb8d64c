use super::*;

fn with(slots: usize) -> Prefixes<()> {
    let mut prefixes = Prefixes::new(128);
    (1..slots).for_each(|_| prefixes.add());
    prefixes
}

/// Answers `prompt` with `answer`; how many tokens were there already, and where.
fn turn(prefixes: &mut Prefixes<()>, prompt: &[TokenId], answer: &[TokenId]) -> Choice {
    let choice = prefixes.choose(prompt);
    prefixes.begin(choice, Purpose::Answer { cue: 5 });
    prefixes.begun(choice, prompt, Purpose::Answer { cue: 5 });
    assert_eq!(prefixes.tokens(), &prompt[..choice.reused]);
    prefixes.extend(&prompt[choice.reused..]);
    prefixes.extend(answer);
    choice
}

pub const SYSTEM: std::ops::Range<TokenId> = 0..50;

/// A conversation of `turns` questions of 20 tokens, answered with 30 each; ends with a question.
pub fn talk(who: TokenId, turns: TokenId) -> Vec<TokenId> {
    let first = 1000 * who;
    SYSTEM.chain(first..first + 50 * turns - 30).collect()
}

pub fn answer(who: TokenId, turns: TokenId) -> Vec<TokenId> {
    let end = 1000 * who + 50 * turns;
    (end - 30..end).collect()
}

fn ask(prefixes: &mut Prefixes<()>, who: TokenId, turns: TokenId) -> Choice {
    turn(prefixes, &talk(who, turns), &answer(who, turns))
}

#[test]
fn a_conversation_stays_where_it_is() {
    let mut prefixes = with(3);
    let first = ask(&mut prefixes, 1, 1);
    assert_eq!((first.slot, first.reused, first.from), (0, 0, Source::Here));
    let second = ask(&mut prefixes, 1, 2);
    assert_eq!((second.slot, second.reused, second.from), (0, 50 + 50, Source::Here));
    // Asked the same again, or answered in other words meanwhile.
    let again = ask(&mut prefixes, 1, 2);
    assert_eq!((again.slot, again.reused), (0, 119));
    let mut other = talk(1, 2);
    other.truncate(115);
    other.extend(7000..7100);
    assert_eq!(turn(&mut prefixes, &other, &[]).reused, 115);
    assert_eq!(prefixes.current, 0);
}

#[test]
fn conversations_in_turns_stay_warm_and_share_their_beginning() {
    let mut prefixes = with(3);
    ask(&mut prefixes, 1, 1);
    for who in [2, 3] {
        let choice = ask(&mut prefixes, who, 1);
        assert!(choice.reused == 50 && matches!(choice.from, Source::Slot(_)), "{who}: {choice:?}");
    }
    for turns in 2..15 {
        for who in [1, 3, 2] {
            let choice = ask(&mut prefixes, who, turns);
            assert_eq!((choice.reused, choice.from), (50 * turns as usize, Source::Here), "{who} {turns}");
        }
    }
}

#[test]
fn questions_without_a_past_leave_a_conversation_alone_for_long() {
    let mut prefixes = with(2);
    ask(&mut prefixes, 1, 1);
    ask(&mut prefixes, 1, 2);
    for who in 2..8 {
        ask(&mut prefixes, who, 1);
    }
    assert_eq!(ask(&mut prefixes, 1, 3).reused, 150);
    // Not for ever.
    for who in 2..20 {
        ask(&mut prefixes, who, 1);
    }
    assert_eq!(ask(&mut prefixes, 1, 4).reused, 50);
}

#[test]
fn questions_that_differ_in_a_word_are_two_conversations() {
    let mut prefixes = with(2);
    ask(&mut prefixes, 1, 1);
    let mut other = talk(1, 1);
    let at = other.len() - 6;
    other[at] = 7777;
    assert_eq!(turn(&mut prefixes, &other, &[]).slot, 1);
    assert_eq!(ask(&mut prefixes, 1, 2).reused, 100);
}

fn ahead(prefixes: &mut Prefixes<()>, prefix: &[TokenId]) -> Choice {
    let choice = prefixes.choose(prefix);
    prefixes.begin(choice, Purpose::Ahead);
    prefixes.begun(choice, prefix, Purpose::Ahead);
    prefixes.extend(&prefix[choice.reused..]);
    choice
}

#[test]
fn what_is_ahead_of_a_conversation_may_come_otherwise() {
    let mut prefixes = with(2);
    ask(&mut prefixes, 1, 1);
    // The answer in its template's form, which no client has to keep.
    let prefix: Vec<TokenId> = talk(1, 1).into_iter().chain(8000..8040).collect();
    assert_eq!(
        ahead(&mut prefixes, &prefix),
        Choice { slot: 0, reused: 70, from: Source::Here, continues: true }
    );
    let mut next = prefix.clone();
    next.truncate(100);
    next.extend(8500..8520);
    assert_eq!((prefixes.choose(&next).slot, prefixes.choose(&next).reused), (0, 100));
    // After a cut only the beginning is the same: the other slot is as good.
    let cut: Vec<TokenId> = SYSTEM.chain(9000..9100).collect();
    assert_eq!(ahead(&mut prefixes, &cut).slot, 1);
    let next: Vec<TokenId> = cut.into_iter().chain(9500..9520).collect();
    assert_eq!((prefixes.choose(&next).slot, prefixes.choose(&next).reused), (1, 150));
    // Nobody misses what was before the cut.
    assert_eq!(ask(&mut prefixes, 2, 1).slot, 0);
}

#[test]
fn one_slot_serves_all() {
    let mut prefixes = with(1);
    for who in [1, 2, 1] {
        let choice = ask(&mut prefixes, who, 1);
        assert_eq!((choice.slot, choice.from), (0, Source::Here));
    }
    assert_eq!(ask(&mut prefixes, 2, 1).reused, 50);
}

#[test]
fn at_least_one_token_is_computed() {
    let reused = |tokens: &[TokenId], prompt: &[TokenId]| {
        let mut prefixes = with(1);
        prefixes.replace(tokens.to_vec());
        prefixes.choose(prompt).reused
    };
    assert_eq!(reused(&[1, 2, 3], &[1, 2, 3]), 2);
    assert_eq!(reused(&[1, 2, 3], &[1, 2, 4, 5]), 2);
    assert_eq!(reused(&[1, 2, 3, 4], &[1, 2]), 1);
    assert_eq!((reused(&[], &[1]), reused(&[1], &[])), (0, 0));
}

#[test]
fn what_is_short_is_not_copied() {
    let mut prefixes = with(2);
    turn(&mut prefixes, &(0..60).collect::<Vec<_>>(), &[]);
    let other: Vec<TokenId> = (0..15).chain(100..200).collect();
    let choice = turn(&mut prefixes, &other, &[]);
    assert_eq!((choice.slot, choice.reused, choice.from), (1, 0, Source::Here));
}

#[test]
fn the_current_slot_is_kept_when_the_others_go() {
    let mut prefixes = with(3);
    ask(&mut prefixes, 1, 1);
    ask(&mut prefixes, 2, 1);
    prefixes.keep_current();
    assert_eq!(prefixes.len(), 1);
    assert_eq!(ask(&mut prefixes, 2, 2).reused, 100);
    prefixes.add();
    let set_aside = prefixes.replace(Vec::new());
    assert_eq!(set_aside.len(), 150);
    prefixes.replace(set_aside);
    assert_eq!(ask(&mut prefixes, 2, 3).reused, 150);
}
