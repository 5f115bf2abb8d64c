use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn installed() -> Vec<Installed> {
    let model = |name: &str, keep_alive| Installed { name: name.into(), keep_alive, ..Default::default() };
    vec![model("large", KeepAlive::FOR_EVER), model("small", KeepAlive(300)), model("other", KeepAlive(300))]
}

fn info(name: &str) -> ModelInfo {
    ModelInfo { name: name.into(), fingerprint: format!("{name}!"), ..ModelInfo::default() }
}

/// A worker is up with the first model.
fn shelf() -> Shelf {
    let mut shelf = Shelf::new(&installed());
    shelf.opened(info("large"), Duration::ZERO);
    shelf
}

fn bring(shelf: &mut Shelf, name: &str, now: Duration) {
    assert!(matches!(shelf.fetch(Some(name), now), Ok(Command::Load { .. })));
    assert_eq!(shelf.added(info(name)), Some(Command::Test { model: Some(name.into()) }));
    assert!(shelf.tests(name) && shelf.is_changing() && !shelf.holds(Some(name)), "not before its proof");
    shelf.proved(now);
    shelf.used(Some(name), None, &installed(), now);
    assert!(shelf.holds(Some(name)) && !shelf.is_changing());
}

fn nobody(_: Option<&str>) -> bool {
    false
}

#[test]
fn what_was_used_longest_ago_makes_room_first_and_what_is_kept_never() {
    let mut shelf = shelf();
    bring(&mut shelf, "small", MINUTE);
    bring(&mut shelf, "other", 2 * MINUTE);
    assert!(shelf.left("small"));
    bring(&mut shelf, "small", 3 * MINUTE);
    let evict = vec!["other".to_owned(), "small".to_owned()];
    assert_eq!(shelf.fetch(None, 4 * MINUTE), Ok(Command::Load { model: "large".into(), evict }));
}

#[test]
fn a_model_leaves_when_its_time_is_over_unless_it_is_waited_for() {
    let mut shelf = shelf();
    bring(&mut shelf, "small", MINUTE);
    assert_eq!(shelf.tidy(5 * MINUTE, nobody), None);
    assert_eq!(shelf.tidy(6 * MINUTE, |name| name == Some("small")), None);
    assert_eq!(shelf.tidy(6 * MINUTE, nobody), Some(Command::Unload { model: "small".into() }));
    assert!(shelf.is_changing());
    assert!(shelf.left("small") && !shelf.is_changing() && !shelf.holds(Some("small")));
    assert!(!shelf.left("small"), "it is not there any more");
    assert_eq!(shelf.tidy(600 * MINUTE, nobody), None, "the first is kept");
}

#[test]
fn a_request_says_how_long_but_not_of_what_is_kept_for_ever() {
    let mut shelf = shelf();
    bring(&mut shelf, "small", MINUTE);
    shelf.used(Some("small"), Some(KeepAlive::FOR_EVER), &installed(), MINUTE);
    assert_eq!(shelf.tidy(600 * MINUTE, nobody), None);
    shelf.used(Some("small"), Some(KeepAlive::NOT), &installed(), MINUTE);
    shelf.used(None, Some(KeepAlive::NOT), &installed(), MINUTE);
    assert_eq!(shelf.tidy(MINUTE, nobody), Some(Command::Unload { model: "small".into() }));
    assert!(shelf.left("small"));
    assert_eq!(shelf.tidy(600 * MINUTE, nobody), None);
    assert!(shelf.holds(None) && !shelf.is_empty());
}

#[test]
fn what_does_not_fit_is_refused_with_who_is_in_the_way() {
    let mut shelf = shelf();
    shelf.fetch(Some("small"), MINUTE).unwrap();
    let missing = Failure::new(Fault::CardMemory, "small needs 9 MiB");
    let told = shelf.not_added("small", missing, MINUTE).unwrap();
    assert_eq!(told.detail, "small needs 9 MiB; always loaded: large");
    assert!(shelf.fetch(Some("small"), MINUTE).is_ok(), "there may be room now");
}

#[test]
fn a_damaged_model_is_looked_at_now_and_then() {
    let mut shelf = shelf();
    shelf.fetch(Some("small"), MINUTE).unwrap();
    let damaged = Failure::new(Fault::ModelChecksum, "layer 3");
    let told = shelf.not_added("small", damaged, MINUTE).unwrap();
    assert_eq!(shelf.fetch(Some("small"), MINUTE + PAUSE / 2), Err(told));
    assert!(shelf.fetch(Some("small"), MINUTE + PAUSE).is_ok());
}

#[test]
fn a_model_whose_load_kills_workers_is_left_alone_for_a_while() {
    let mut shelf = shelf();
    let cause = Failure::new(Fault::WorkerExit, "signal 11");
    for _ in 0..STRIKES {
        shelf.fetch(Some("small"), MINUTE).unwrap();
        shelf.cleared(Some(&cause), MINUTE);
        assert!(!shelf.holds(None) && !shelf.is_changing());
        shelf.opened(info("large"), MINUTE);
    }
    let refused = shelf.fetch(Some("small"), 2 * MINUTE).unwrap_err();
    assert!(refused.fault == Fault::WorkerExit && refused.detail.contains("signal 11"), "{refused}");
    assert!(shelf.fetch(Some("small"), MINUTE + BAN).is_ok());
}

#[test]
fn a_worker_that_is_stopped_counts_against_no_model() {
    let mut shelf = shelf();
    for _ in 0..=STRIKES {
        shelf.fetch(Some("small"), MINUTE).unwrap();
        shelf.cleared(None, MINUTE);
    }
    assert!(shelf.fetch(Some("small"), MINUTE).is_ok());
}

#[test]
fn nobody_adds_what_was_not_asked_for() {
    let mut shelf = shelf();
    assert_eq!(shelf.added(info("small")), None);
    shelf.fetch(Some("small"), MINUTE).unwrap();
    assert_eq!(shelf.added(info("other")), None);
    assert_eq!(shelf.not_added("other", Failure::new(Fault::CardMemory, ""), MINUTE), None);
    assert_eq!(shelf.fetch(Some("none"), MINUTE).unwrap_err().fault, Fault::ModelMissing);
}
