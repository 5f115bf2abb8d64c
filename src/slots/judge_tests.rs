use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use super::super::firmware::Started;
use super::super::keeper::tests::{Obedient, keeper};
use super::super::record::{Slot, State};
use super::*;

const GOOD: &str = r#"{"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}"#;

/// A service that answers each path so; dropped with the process.
fn service(ready: u16, answer: &'static str, head: &'static str, runtime: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(std::result::Result::ok) {
            let mut stream = BufReader::new(stream);
            let (mut request, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                request += &line;
            }
            std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink()).unwrap();
            let (status, head, body) = match request.split(' ').nth(1).unwrap() {
                "/readyz" => (ready, "", "{}".to_owned()),
                "/v1/status" => (200, "", format!(r#"{{"model": {{"name": "m", "runtime": "{runtime}"}}}}"#)),
                _ => (200, head, answer.to_owned()),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{head}\r\n{body}");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn only_a_real_answer_counts() {
    let judged =
        async |ready, answer, head, runtime| answers(service(ready, answer, head, runtime), None).await;
    assert_eq!(judged(200, GOOD, "", "V3.10.2").await.unwrap(), "m on the card");
    assert_eq!(judged(200, GOOD, "", "V3_emulated").await.unwrap(), "m on the CPU");
    assert_eq!(judged(200, GOOD, "x-llm8850-degraded: 1\r\n", "V3").await.unwrap(), "m on the CPU");
    assert!(judged(503, GOOD, "", "").await.unwrap_err().contains("/readyz: 503"));
    let spoken = judged(200, GOOD, "x-llm8850-fallback: E-BUSY\r\n", "").await.unwrap_err();
    assert!(spoken.ends_with("E-BUSY"), "{spoken}");
    for wrong in [
        r#"{"choices": [{"message": {"content": "  "}, "finish_reason": "stop"}]}"#,
        r#"{"choices": [{"message": {"content": "Hello"}, "finish_reason": "error"}]}"#,
        r#"{"choices": []}"#,
        "{}",
        "Hello.",
    ] {
        assert!(judged(200, wrong, "", "").await.is_err(), "{wrong}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(answers(nobody, None).await.unwrap_err().contains("refused"));
}

fn listening(directory: &Path, address: SocketAddr) -> std::path::PathBuf {
    let config = directory.join("config.toml");
    std::fs::write(&config, format!("[server]\nlisten = [\"{address}\"]\n")).unwrap();
    config
}

fn trial() -> (tempfile::TempDir, Keeper<Obedient>) {
    let (directory, mut keeper) = keeper();
    // As it was judged without a network.
    keeper.decide(|r, f| Ok(policy::judged_good(r, f, Verdict::default()))).unwrap();
    keeper.decide(|record, facts| policy::set_primary(record, facts, Slot::B)).unwrap();
    keeper.decide(policy::begin_trial).unwrap();
    keeper.set_started(Started { slot: Slot::B, tryboot: true });
    keeper.start().unwrap();
    (directory, keeper)
}

#[tokio::test]
async fn a_trial_that_answers_is_committed_and_says_how() {
    let (directory, mut keeper) = trial();
    let address = service(200, GOOD, "", "V3_emulated");
    judge(&mut keeper, &listening(directory.path(), address), None).await.unwrap();
    assert_eq!(keeper.firmware().committed(), Some(Slot::B));
    let verdict = keeper.look(|record, _| record.b.verdict.clone()).unwrap().unwrap();
    assert_eq!((verdict.by.as_str(), verdict.network), ("m on the CPU", false));
    assert_eq!(verdict.address, address.to_string());
}

#[tokio::test]
async fn a_trial_that_does_not_answer_in_time_is_left() {
    let (directory, mut keeper) = trial();
    let config = listening(directory.path(), service(503, GOOD, "", ""));
    judge(&mut keeper, &config, Some(Duration::ZERO)).await.unwrap();
    assert_eq!(keeper.firmware().committed(), Some(Slot::A));
    let b = keeper.look(|record, _| record.b.clone()).unwrap();
    assert_eq!(b.state, State::Bad);
    assert!(b.why.contains("/readyz: 503"), "{}", b.why);
}

#[tokio::test]
async fn the_limit_counts_from_the_kernels_start() {
    let (directory, mut keeper) = trial();
    std::fs::create_dir_all(directory.path().join("proc")).unwrap();
    std::fs::write(directory.path().join("proc/uptime"), "301.5 1000.0\n").unwrap();
    let config = listening(directory.path(), service(503, GOOD, "", ""));
    judge(&mut keeper, &config, None).await.unwrap();
    assert_eq!(keeper.look(|record, _| record.b.state).unwrap(), State::Bad);
}
