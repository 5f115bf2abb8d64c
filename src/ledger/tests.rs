use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::machine::state::Rung;

const PATIENCE: Duration = Duration::from_secs(60);

fn file(directory: &Path) -> PathBuf {
    directory.join("ledger.jsonl")
}

fn incident(detail: &str) -> What {
    What::Incident { fault: Fault::CardDead, detail: detail.into() }
}

/// Opens, appends, flushes, closes; gives what was there before.
async fn session(directory: &Path, boot: &str, whats: &[What]) -> History {
    let (ledger, history) = Ledger::open(directory, boot.into());
    for what in whats {
        ledger.append(ledger.stamp(what.clone()));
    }
    assert!(ledger.flush(PATIENCE).await);
    history
}

#[tokio::test]
async fn what_was_recorded_is_there_after_a_restart_and_time_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let first = [What::Boot, What::Rung { rung: Rung::R2, fault: Fault::CardDead }];
    assert_eq!(session(directory.path(), "a", &first).await, History::default());
    // Time stands still while nobody runs, and does not heed the wall clock.
    let far = r#"{"at":5000.5,"unix_ms":1,"boot":"a","what":"stop"}"#;
    let text = fs::read_to_string(file(directory.path())).unwrap() + far + "\n";
    fs::write(file(directory.path()), text).unwrap();
    let second = session(directory.path(), "b", &[What::Boot]).await;
    assert_eq!(second.base, Duration::from_millis(5_000_500));
    let whats: Vec<_> = second.records.iter().map(|record| record.what.clone()).collect();
    assert_eq!(whats, [&first[..], &[What::Stop]].concat());
    let third = session(directory.path(), "b", &[]).await;
    assert_eq!(third.host_boots().len(), 2);
    let last = third.records.last().unwrap();
    assert_eq!((last.boot.as_str(), &last.what), ("b", &What::Boot));
    assert!(last.at >= second.base && last.at < second.base + PATIENCE, "{last:?}");
}

#[tokio::test]
async fn what_was_recorded_last_is_at_hand_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    session(directory.path(), "a", &[What::Boot, incident("one"), What::Mark]).await;
    let (ledger, _) = Ledger::open(directory.path(), "b".into());
    ledger.append(ledger.stamp(What::Boot));
    let whats: Vec<_> = ledger.recent().into_iter().map(|record| record.what).collect();
    assert_eq!(whats, [What::Boot, incident("one"), What::Boot]);
    (0..600).for_each(|number| ledger.append(ledger.stamp(incident(&number.to_string()))));
    let recent = ledger.recent();
    assert_eq!((recent.len(), &recent[499].what), (500, &incident("599")));
    assert_eq!(ledger.stories()[0].detail, "599");
    let (forgetful, _) = Ledger::open(Path::new(""), "c".into());
    forgetful.append(forgetful.stamp(incident("kept in memory")));
    assert_eq!(forgetful.stories().len(), 1);
}

#[tokio::test]
async fn half_a_line_spoils_neither_its_neighbours_nor_what_follows() {
    let directory = tempfile::tempdir().unwrap();
    session(directory.path(), "a", &[What::Boot]).await;
    let text = fs::read(file(directory.path())).unwrap();
    fs::write(file(directory.path()), [&text[..], b"{\"at\":3.0,\"un\xff"].concat()).unwrap();
    session(directory.path(), "a", &[What::Stop]).await;
    let (_, history) = Ledger::open(directory.path(), "a".into());
    let whats: Vec<_> = history.records.into_iter().map(|record| record.what).collect();
    assert_eq!(whats, [What::Boot, What::Stop]);
}

#[tokio::test]
async fn what_cannot_be_written_is_kept_and_written_later() {
    let directory = tempfile::tempdir().unwrap();
    // A file where the state directory should be: nothing can be written, even by root.
    let state = directory.path().join("state");
    fs::write(&state, "").unwrap();
    let (ledger, history) = Ledger::open(&state, "a".into());
    assert_eq!(history, History::default());
    for n in 0..1500 {
        ledger.append(ledger.stamp(incident(&n.to_string())));
        if n % 100 == 0 {
            assert!(!ledger.flush(PATIENCE).await);
        }
    }
    assert!(!ledger.flush(PATIENCE).await, "nothing is on the disk");
    fs::remove_file(&state).unwrap();
    assert!(ledger.flush(PATIENCE).await);
    let (_, history) = Ledger::open(&state, "a".into());
    assert_eq!(history.records.len(), 1024, "the newest are kept");
    assert_eq!(history.records.last().unwrap().what, incident("1499"));
}

#[tokio::test]
async fn a_long_ledger_keeps_its_newest_half_and_one_mark() {
    let directory = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(directory.path(), "a".into());
    let mut lines = String::new();
    for n in 0..12_000 {
        let what = if n % 2 == 0 { What::Mark } else { incident(&format!("{n:064}")) };
        lines += &ledger.stamp(what).line().unwrap();
    }
    assert!(lines.len() > 1024 * 1024);
    fs::write(file(directory.path()), &lines).unwrap();
    let last = incident("the last");
    assert!(session(directory.path(), "a", std::slice::from_ref(&last)).await.records.len() > 4000);
    let length = fs::metadata(file(directory.path())).unwrap().len();
    assert!((500_000..=524_288).contains(&length), "{length}");
    let (_, history) = Ledger::open(directory.path(), "a".into());
    let marks = history.records.iter().filter(|record| record.what == What::Mark).count();
    assert_eq!(marks, 1);
    assert_eq!(history.records.last().unwrap().what, last);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left behind");
    // It goes on in the new file.
    session(directory.path(), "a", &[What::Stop]).await;
    let (_, history) = Ledger::open(directory.path(), "a".into());
    assert_eq!(history.records.last().unwrap().what, What::Stop);
}

#[tokio::test]
async fn without_a_state_directory_nothing_is_kept() {
    let (ledger, history) = Ledger::open(Path::new(""), "a".into());
    ledger.append(ledger.stamp(What::Boot));
    assert!(ledger.flush(PATIENCE).await);
    assert_eq!(history, History::default());
    let mut golden = Golden::open(Path::new(""), &ledger);
    golden.record("x", vec![1]);
    assert_eq!(golden.get("x"), Some(&[1][..]));
}

#[tokio::test]
async fn answers_are_recorded_replaced_and_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(directory.path(), "a".into());
    let mut golden = Golden::open(directory.path(), &ledger);
    for n in 0..40 {
        golden.record(&format!("model {n}"), vec![n]);
    }
    golden.record("model 20", vec![7, 7]);
    assert!(ledger.flush(PATIENCE).await);
    let golden = Golden::open(directory.path(), &ledger);
    assert_eq!(golden.get("model 7"), None);
    assert_eq!(golden.get("model 8"), Some(&[8][..]));
    assert_eq!(golden.get("model 20"), Some(&[7, 7][..]));
    fs::write(directory.path().join("golden.json"), "[{").unwrap();
    assert_eq!(Golden::open(directory.path(), &ledger).get("model 8"), None);
}
