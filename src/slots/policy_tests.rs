use proptest::prelude::*;

use super::*;
use world::{Event, World, apply, events};

#[path = "policy_world.rs"]
mod world;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_happens_a_working_slot_is_reached_and_nothing_unproved_is_committed(
        happens in proptest::collection::vec(events(), 0..40)
    ) {
        let mut world = World::new();
        for event in &happens {
            let before = world.commits.len();
            // Where the sector is lost the firmware's choice is written, whatever is known of it.
            let lost = world.autoboot.is_none() || matches!(event, Event::LoseSector);
            apply(&mut world, event);
            let proved = world.commits.iter().skip(before).all(|&(_, proved)| proved);
            prop_assert!(lost || proved, "after {event:?}: {:?}", world.commits);
        }
        // Where both the sector and the record are lost nobody knows what is in the other slot.
        let happened = |wanted: fn(&Event) -> bool| happens.iter().any(wanted);
        let unknown = happened(|e| matches!(e, Event::LoseSector))
            && happened(|e| matches!(e, Event::LoseRecord | Event::Full(true)));
        (world.full, world.stuck, world.network) = (false, false, true);
        let reached = (0..12).any(|_| {
            world.power_cycle();
            world.judge();
            world.works() && Some(world.running) == world.autoboot
        });
        prop_assert!(reached || unknown, "{:?} {:?}", world.record, world.works);
    }

    #[test]
    fn a_committed_slot_that_breaks_is_left_once_for_one_that_was_good(
        power_cycles in 3..12_usize, judged in any::<bool>()
    ) {
        let mut world = World::new();
        world.install(true, 3);
        world.judge();
        prop_assert_eq!((world.running, world.autoboot), (Slot::B, Some(Slot::B)));
        world.works = [true, false];
        for _ in 0..=power_cycles {
            world.power_cycle();
            if judged {
                world.judge();
            }
        }
        prop_assert!(world.running == Slot::A && !world.record.is_good(Slot::B));
        prop_assert_eq!(world.commits.iter().filter(|(slot, _)| *slot == Slot::A).count(), 1);
    }
}

#[test]
fn with_no_slot_that_works_it_stays_where_it_is_in_the_end() {
    let mut world = World::new();
    world.install(true, 3);
    world.judge();
    world.works = [false, false];
    for _ in 0..30 {
        world.power_cycle();
        world.judge();
    }
    assert_eq!((world.running, world.commits.len()), (Slot::A, 2), "one commit of B, one back to A");
}

#[test]
fn a_committed_trial_is_good_though_the_record_of_it_was_lost() {
    let mut world = World::new();
    world.install(true, 3);
    apply(&mut world, &Event::Cut { steps: 1 });
    assert_eq!((world.running, world.autoboot), (Slot::B, Some(Slot::B)));
    assert!(world.record.is_good(Slot::B));
    // The other slot is being overwritten, and nobody knows any more which one was started.
    world.install(false, 1);
    apply(&mut world, &Event::LoseSector);
    assert_eq!(world.autoboot, Some(Slot::B), "written again by the slot that was started instead");
    world.power_cycle();
    assert_eq!(world.running, Slot::B);
}

#[test]
fn the_only_good_slot_is_not_overwritten() {
    let mut world = World::new();
    world.install(true, 3);
    world.judge();
    apply(&mut world, &Event::SetState { slot: Slot::B, good: false });
    let refusal = "slot a is the only good one: restart, and slot b is left for it";
    assert_eq!(installable(&world.record, &world.facts()).unwrap_err(), refusal);
    assert_eq!(set_state(&world.record, &world.facts(), Slot::A, false).unwrap_err(), refusal);
    world.power_cycle();
    assert_eq!((world.running, installable(&world.record, &world.facts())), (Slot::A, Ok(())));
}

#[test]
fn a_trial_survives_one_power_cut_and_not_two() {
    let mut world = World::new();
    world.install(true, 3);
    assert_eq!((world.running, world.tryboot), (Slot::B, true));
    world.power_cycle();
    assert_eq!((world.running, world.tryboot), (Slot::B, true), "tried again by the old slot");
    assert_eq!(world.autoboot, Some(Slot::A));
    world.power_cycle();
    assert_eq!(world.running, Slot::A);
    assert_eq!(world.record.b.why, "it was started 2 times and came to no verdict");
    world.power_cycle();
    assert_eq!(world.running, Slot::A);
}

#[test]
fn a_trial_that_is_not_judged_good_is_left_with_the_reason() {
    let mut world = World::new();
    world.install(false, 3);
    world.judge();
    assert_eq!((world.running, world.tryboot, world.record.trial.is_none()), (Slot::A, false, true));
    assert_eq!((world.record.b.state, world.record.b.why.as_str()), (State::Bad, "no answer"));
}

#[test]
fn a_trial_without_a_network_is_good_only_where_there_was_none_before() {
    let mut world = World::new();
    world.network = false;
    world.install(true, 3);
    world.judge();
    assert_eq!(world.autoboot, Some(Slot::A), "the old slot had a network");
    world.judge();
    world.install(true, 3);
    world.judge();
    assert_eq!(world.autoboot, Some(Slot::B), "the old slot had none either");
}

#[test]
fn a_trial_whose_record_is_lost_is_judged_all_the_same() {
    for works in [true, false] {
        let mut world = World::new();
        world.install(works, 3);
        world.record = Record::default();
        world.carry_out(start(&world.record, &world.facts()), 3);
        assert_eq!(world.record.trial, Some(Trial { slot: Slot::B, attempts: ATTEMPTS }));
        world.judge();
        assert_eq!(world.autoboot, Some(if works { Slot::B } else { Slot::A }));
        assert!(world.works());
    }
}

#[test]
fn a_verdict_cut_short_after_the_sector_was_written_holds() {
    let mut world = World::new();
    world.install(true, 3);
    apply(&mut world, &Event::Cut { steps: 1 });
    assert_eq!((world.running, world.tryboot, &world.record.trial), (Slot::B, false, &None));
}

#[test]
fn a_lost_sector_is_written_again_for_what_was_good() {
    let mut world = World::new();
    world.install(true, 3);
    world.judge();
    apply(&mut world, &Event::LoseSector);
    assert_eq!((world.running, world.autoboot), (Slot::A, Some(Slot::B)));
    world.power_cycle();
    assert_eq!(world.running, Slot::B);
}

#[test]
fn a_slot_that_the_firmware_chose_itself_is_committed_when_it_is_good() {
    let mut facts = World::new().facts();
    facts.committed = Some(Slot::B);
    let record = World::new().record;
    assert_eq!(settle(&record, &facts).2, Role::Stray);
    assert_eq!(start(&record, &facts).restart, None);
    assert!(installable(&record, &facts).is_err());
    assert_eq!(overdue(&record, &facts, "x").restart, None);
    assert_eq!(judged_good(&record, &facts, Verdict::default()).commit, Some(Slot::A));
}

#[test]
fn nothing_is_said_of_a_slot_that_would_leave_none_to_start() {
    let mut world = World::new();
    let refused =
        |world: &World, slot, good| set_state(&world.record, &world.facts(), slot, good).unwrap_err();
    assert_eq!(refused(&world, Slot::A, false), "slot a stays: slot b was never judged good");
    assert!(refused(&world, Slot::B, true).contains("only what runs"));
    world.install(true, 3);
    assert!(refused(&world, Slot::A, false).contains("wait until slot b is judged"));
    assert!(set_primary(&world.record, &world.facts(), Slot::B).unwrap_err().contains("on trial"));
    assert_eq!(primary(&world.record, &world.facts()), Slot::B);
}

#[test]
fn a_trial_can_be_called_off_and_its_floor_holds_only_when_it_is_good() {
    let mut world = World::new();
    assert_eq!(world.record.floor, "0.9");
    world.carry_out(set_primary(&world.record, &world.facts(), Slot::B).unwrap(), 3);
    assert_eq!(primary(&world.record, &world.facts()), Slot::B);
    world.carry_out(set_primary(&world.record, &world.facts(), Slot::A).unwrap(), 3);
    assert_eq!(begin_trial(&world.record, &world.facts()).unwrap_err(), "no slot is to be tried");
    world.power_cycle();
    assert_eq!(world.running, Slot::A);
}

#[test]
fn versions_are_compared_by_their_numbers() {
    for (this, than, expected) in [
        ("0.10.0", "0.9.9", true),
        ("0.1.0", "0.1", false),
        ("1.0", "1.0.0", false),
        ("v2", "1.9", true),
        ("1.2.3-rc1", "1.2.3", false),
        ("", "0.1", false),
        ("0.1", "", true),
    ] {
        assert_eq!(newer(this, than), expected, "{this} {than}");
    }
}
