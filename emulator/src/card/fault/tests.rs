use super::*;

fn rule(json: &str) -> Rule {
    Rule::parse(json).unwrap()
}

#[test]
fn the_nth_call_is_met_as_often_as_told() {
    let faults = Faults::default();
    faults.arm(rule(r#"{"call":"axclrtFree","nth":3,"times":2,"act":{"fail":"0x80300581"}}"#));
    let met: Vec<bool> = (0..6).map(|_| faults.meet("axclrtFree").is_some()).collect();
    assert_eq!(met, [false, false, true, true, false, false]);
    assert!(faults.list().0.is_empty());
}

#[test]
fn rules_without_end_and_with_a_star_go_on() {
    let faults = Faults::default();
    faults.arm(rule(r#"{"call":"axclrtEngine*","times":0,"act":{"fail":"0x8030040c"}}"#));
    assert!(faults.meet("axclrtMalloc").is_none());
    for _ in 0..5 {
        assert_eq!(faults.meet("axclrtEngineInit"), Some(Act::Fail(Code::CHANNEL_OFFLINE)));
    }
    faults.clear();
    assert!(faults.meet("axclrtEngineInit").is_none());
}

#[test]
fn as_many_executes_are_spoilt_as_told() {
    let faults = Faults::default();
    let spoil = |count: u64| {
        faults.arm(rule(&format!(r#"{{"call":"axclrtEngineExecute","act":{{"spoil":{count}}}}}"#)));
        assert_eq!(faults.meet("axclrtEngineExecute"), Some(Act::Spoil(count)));
    };
    spoil(2);
    let wrong = Some(Taint::Wrong);
    assert_eq!([faults.taint(), faults.taint(), faults.taint()], [wrong, wrong, None]);
    spoil(0);
    assert!((0..1000).all(|_| faults.taint() == wrong));
    faults.clear();
    assert_eq!(faults.taint(), None);
}

#[test]
fn a_used_up_file_is_gone_before_the_act() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("die.json");
    let faults = Faults::default();
    faults.watch(dir.path());
    std::fs::write(&file, r#"{"call":"axclrtMemset","act":{"exit":3}}"#).unwrap();
    assert_eq!(faults.meet("axclrtMemset"), Some(Act::Exit(3)));
    assert!(!file.exists());
    assert!(faults.meet("axclrtMemset").is_none());
}

#[test]
fn what_is_left_of_a_file_rule_is_met_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("die.json");
    std::fs::write(&file, r#"{"call":"axclrtMemset","nth":2,"times":2,"act":{"exit":3}}"#).unwrap();
    for left in [true, false] {
        let process = Faults::default();
        process.watch(dir.path());
        assert!(process.meet("axclrtMemset").is_none());
        assert_eq!(process.meet("axclrtMemset"), Some(Act::Exit(3)));
        assert_eq!(file.exists(), left);
    }
}

#[test]
fn rules_of_files_come_keep_their_counts_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    faults.watch(&dir.path().join("missing"));
    assert!(faults.list().0.is_empty());
    faults.watch(dir.path());
    std::fs::write(dir.path().join("a.json"), r#"{"call":"x","nth":2,"act":{"hang_ms":1}}"#).unwrap();
    assert!(faults.meet("x").is_none());
    std::fs::write(dir.path().join("b.json"), "no rule").unwrap();
    let (armed, problems) = faults.list();
    assert_eq!((armed.len(), armed[0].seen), (1, 1));
    assert!(problems[0].contains("b.json"), "{problems:?}");
    std::fs::remove_file(dir.path().join("a.json")).unwrap();
    assert!(faults.meet("x").is_none());
    assert!(faults.list().0.is_empty());
}

#[test]
fn wrong_rules_are_refused_with_a_reason() {
    for (text, part) in [
        (r#"{"call":"x","act":{"explode":1}}"#, "explode"),
        (r#"{"call":"x","nth":0,"act":{"hang":true}}"#, "nth"),
        (r#"{"call":"x","act":{"signal":9999}}"#, "9999"),
        (r#"{"call":"x","act":{"fail":"12"}}"#, "0x8030070c"),
        (r#"{"call":"x","often":1,"act":{"hang":true}}"#, "often"),
        (r#"{"call":"x","act":{"hang":false}}"#, "true"),
    ] {
        let reason = Rule::parse(text).unwrap_err();
        assert!(reason.contains(part), "{text}: {reason}");
    }
}

#[test]
fn a_taint_waits_for_the_next_execute_and_hits_one() {
    let faults = Faults::default();
    faults.arm(rule(r#"{"call":"axclrtMalloc","act":{"nan":true}}"#));
    assert_eq!(faults.meet("axclrtMalloc"), Some(Act::Nan(true)));
    assert_eq!(faults.taint(), Some(Taint::Nan));
    assert_eq!(faults.taint(), None);
}
