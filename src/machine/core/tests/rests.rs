//! When the ladder is spent, when it must not be climbed, and the end.

use super::*;
use crate::machine::ladder;

#[test]
fn what_only_a_person_can_mend_parks_and_is_tried_again() {
    let mut story = Story::new(POLICY);
    story.tick();
    story.on(Event::Helped(ALL_THERE));
    story.until_spawn(Seat::Card);
    story.on(Event::Hello(Seat::Card));
    let mut waits = Vec::new();
    for _ in 0..6 {
        story.breaks(Fault::ModelMissing);
        assert_eq!(story.state(), State::Parked);
        let before = story.now;
        story.until_spawn(Seat::Card);
        waits.push((story.now - before).as_secs());
        story.on(Event::Hello(Seat::Card));
    }
    assert_eq!(waits, [5, 30, 60, 300, 600, 600]);
    assert_eq!((story.rungs(), story.verbs.len()), (vec![], 1), "nothing was reset for it");
}

#[test]
fn a_spent_ladder_rests_on_schedule_with_the_cpu_answering_meanwhile() {
    let mut story = Story::new(Policy { fallback: true, ..POLICY });
    story.boot();
    story.breaks(Fault::CardDead);
    while story.machine.resting().is_none() {
        story.on(Event::Unhelped(Fault::Modules));
    }
    assert_eq!(story.rungs(), [R2, R3, R4, R5]);
    assert_eq!(story.machine.resting(), Some(story.now + Duration::from_secs(1800)));
    story.until_spawn(Seat::Cpu);
    story.load(Seat::Cpu);
    assert_eq!((story.state(), story.machine.serving()), (State::Degraded, Some(Seat::Cpu)));

    // The retry fails: the CPU goes on, the next one comes later.
    story.wait(1800);
    assert_eq!((story.machine.helping(), story.state()), (Some(Verb::CardReboot), State::Degraded));
    while story.machine.resting().is_none() {
        story.on(Event::Unhelped(Fault::Modules));
    }
    assert_eq!(story.machine.resting(), Some(story.now + Duration::from_secs(3600)));

    // The CPU's worker dies and comes back.
    story.on(Event::Exited(Seat::Cpu, Fault::WorkerExit));
    story.until_spawn(Seat::Cpu);
    story.load(Seat::Cpu);

    // The card answers again: the CPU finishes its request first.
    story.wait(3600);
    story.helper_succeeds();
    story.until_spawn(Seat::Card);
    story.load(Seat::Card);
    assert_eq!(story.state(), State::Degraded, "not before it has proved itself");
    story.on(Event::Tested(true));
    assert_eq!(story.machine.serving(), Some(Seat::Card));
    let retire = Action::Worker(Seat::Cpu, life::Action::Ask);
    assert!(!story.on(Event::Tick { busy: Some(Seat::Cpu) }).contains(&retire));
    assert!(story.tick().contains(&retire));
    story.on(Event::Exited(Seat::Cpu, Fault::WorkerExit));
    assert!(!story.machine.life(Seat::Cpu).alive());
}

#[test]
fn without_a_helper_the_next_worker_is_all_there_is() {
    let mut story = Story::new(Policy { helper: false, ..POLICY });
    story.boot();
    for _ in 0..20 {
        story.breaks(Fault::CardDead);
        story.comes_back();
    }
    assert!(story.verbs.is_empty());
    assert_eq!(story.rungs(), [R1; 20]);
}

#[test]
fn without_a_helper_but_with_a_cpu_the_budget_of_workers_counts() {
    let mut story = Story::new(Policy { helper: false, fallback: true, ..POLICY });
    story.boot();
    for _ in 0..3 {
        story.breaks(Fault::WorkerExit);
        story.until_spawn(Seat::Card);
        story.on(Event::Hello(Seat::Card));
    }
    story.breaks(Fault::WorkerExit);
    assert!(story.machine.resting().is_some());
    story.until_spawn(Seat::Cpu);
}

#[test]
fn a_missing_card_is_waited_for_and_used_when_it_comes() {
    let mut story = Story::new(POLICY);
    story.tick();
    story.on(Event::Helped(Found::default()));
    assert_eq!((story.rungs(), story.machine.helping()), (vec![R4], Some(Verb::ModulesOut)));
    story.on(Event::Helped(Found::default()));
    story.on(Event::Unhelped(Fault::Bus));
    assert_eq!(story.state(), State::NoCard);
    story.on(Event::Card(true));
    assert_eq!(story.machine.helping(), Some(Verb::Probe));
    story.on(Event::Helped(ALL_THERE));
    story.comes_back();
}

#[test]
fn a_card_that_vanishes_under_a_worker_is_a_lost_link() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.on(Event::Card(false));
    assert_eq!(story.state(), State::Ready, "an emulated card is on no bus");
    story.on(Event::Card(true));
    story.on(Event::Card(false));
    story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
    assert_eq!(story.rungs(), [R4]);
    story.on(Event::Card(false));
    story.on(Event::Card(true));
    assert_eq!(story.rungs(), [R4], "coming and going during the reset is no news");
}

#[test]
fn a_process_that_nothing_ends_leaves_only_the_hosts_restart() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.on(Event::Broken(Seat::Card, Fault::CardStall));
    story.wait(2);
    assert_eq!(story.wait(0), []);
    story.wait(75);
    assert_eq!((story.rungs(), story.verbs.last()), (vec![R5], Some(&Verb::HostReboot)));
    assert_eq!(story.interrupted, 1, "requests end with an error, not in silence");
    story.on(Event::Helped(Found::default()));
    assert_eq!(story.state(), State::Recovering(R5));
    story.wait(151);
    assert_eq!(story.state(), State::Parked, "the host did not go down");
    // No other rung may be used under a living process, however long it lives.
    for _ in 0..20 {
        story.wait(21_600);
        story.on(Event::Helped(Found::default()));
    }
    assert!(story.rungs().iter().all(|&rung| rung == R5), "{:?}", story.rungs());
    let resets = [Verb::CardReboot, Verb::ModulesOut, Verb::BusReset];
    assert!(!story.verbs.iter().any(|verb| resets.contains(verb)));
}

#[test]
fn the_hosts_restart_is_budgeted_over_boots() {
    let minute = Duration::from_secs(60);
    let boots = vec![minute * 10, minute * 12, minute * 15];
    let mut story = Story::after(POLICY, Ladder::new(vec![(R5, minute * 14)], boots));
    story.boot();
    story.on(Event::Trouble(Fault::TaskStuck));
    story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
    assert_eq!((story.rungs(), story.state()), (vec![], State::Parked));
    assert!(ladder::CALM > Duration::from_secs(1000));
}

#[test]
fn someone_elses_program_on_the_card_is_waited_for() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.breaks(Fault::CardDead);
    story.on(Event::Unhelped(Fault::CardHeld));
    assert_eq!(story.machine.resting(), Some(story.now + Duration::from_secs(60)));
    assert_eq!(story.rungs(), [R2], "nothing harder is done to a healthy stranger");
}

#[test]
fn what_the_helper_finds_only_a_person_can_mend_ends_the_climb() {
    for fault in [Fault::FirmwareMissing, Fault::Helper] {
        let mut story = Story::new(POLICY);
        story.boot();
        story.breaks(Fault::CardDriver);
        story.on(Event::Helped(Found::default()));
        story.on(Event::Unhelped(fault));
        assert_eq!((story.rungs(), story.state()), (vec![R3], State::Parked), "{fault}");
        assert_eq!(story.machine.resting(), Some(story.now + Duration::from_secs(5)));
    }
}

#[test]
fn heat_holds_requests_and_resets_nothing() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.on(Event::Heat(79.9));
    assert_eq!(story.state(), State::Ready);
    story.on(Event::Heat(80.0));
    story.on(Event::Heat(70.0));
    assert_eq!((story.state(), story.machine.serving()), (State::ThermalHold, None));
    story.on(Event::Heat(69.9));
    assert_eq!(story.state(), State::Ready);
    assert_eq!(story.notes, [Note::Heat { hot: true }, Note::Heat { hot: false }]);
}

#[test]
fn a_slow_card_gets_one_new_worker() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.on(Event::Slow);
    story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
    assert_eq!(story.rungs(), [R1]);
    story.comes_back();
}

#[test]
fn a_stop_ends_both_workers_and_nothing_comes_after() {
    let mut story = Story::new(Policy { fallback: true, ..POLICY });
    story.boot();
    story.breaks(Fault::CardDead);
    while story.machine.resting().is_none() {
        story.on(Event::Unhelped(Fault::Modules));
    }
    story.until_spawn(Seat::Cpu);
    story.load(Seat::Cpu);
    story.on(Event::Stop);
    assert_eq!(story.state(), State::Stopping);
    assert!(!story.finished);
    assert!(story.machine.deadline() > Some(story.now), "nothing is due: the loop may sleep");
    story.on(Event::Exited(Seat::Cpu, Fault::WorkerExit));
    assert!(story.finished);
    story.wait(10_000);
    assert_eq!(story.machine.helping(), None);
}

#[test]
fn an_incident_reads_as_a_story() {
    let mut story = Story::new(POLICY);
    story.boot();
    story.on(Event::Trouble(Fault::CardDead));
    story.on(Event::Trouble(Fault::CardDead));
    story.on(Event::Exited(Seat::Card, Fault::WorkerExit));
    story.on(Event::Unhelped(Fault::CardStall));
    story.helper_succeeds();
    story.now += Duration::from_secs(40);
    story.comes_back();
    assert_eq!(
        story.notes,
        [
            Note::Incident(Fault::CardDead),
            Note::Rung(R2, Fault::CardDead),
            Note::RungFailed(R2, Fault::CardStall),
            Note::Rung(R3, Fault::CardDead),
            Note::Recovered { rung: Some(R3), fault: Fault::CardDead, took: Duration::from_secs(40) },
        ]
    );
}

#[test]
fn rungs_that_take_half_an_hour_lead_to_the_hosts_restart_all_the_same() {
    let mut story = Story::new(POLICY);
    story.boot();
    while story.interrupted == 0 {
        assert!(story.rungs().len() < 20, "{:?}", story.rungs());
        story.breaks(Fault::CardDead);
        story.helper_succeeds();
        if story.interrupted == 0 {
            story.until_spawn(Seat::Card);
            story.now += Duration::from_secs(1800);
        }
    }
    assert_eq!(story.rungs(), [R2, R2, R3, R3, R4, R4, R5]);
}
