//! The service with real worker processes that speak the real frames; only what they
//! say is made up: see [`scripted`].

mod models;
pub(crate) mod scripted;

use std::time::Duration;

use super::*;
use crate::chat::{Event, Finish, Input, Limits as Bounds, Started, Token};
use crate::config::{Config, Seconds};
use crate::fault::Fault;
use crate::machine::State;

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The tests' own `/`: nothing of this machine is watched.
pub(crate) fn recovery(dir: &std::path::Path) -> config::Recovery {
    config::Recovery { system_root: dir.join("root"), ..config::Recovery::default() }
}

/// A service whose workers behave as `script` says.
struct Stage {
    service: Service,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn stage(script: &str, change: impl FnOnce(&mut Settings)) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let program = scripted::program(dir.path());
    let mut worker = config::Worker::default();
    worker.env.insert(scripted::SCRIPT.into(), script.into());
    let recovery = recovery(dir.path());
    let mut settings = Settings::default();
    settings.defaults.max_tokens = 30;
    change(&mut settings);
    let launch = Launch {
        program,
        ..Launch::new(&Config { worker, recovery, ..Config::default() }, dir.path().join("config.toml"))
    };
    let (service, task) = Service::start(launch, settings, |_| {});
    Stage { service, task, _dir: dir }
}

impl Stage {
    async fn finish(self) -> Status {
        self.service.stop();
        self.task.await.unwrap();
        self.service.status()
    }
}

fn ask(text: &str, tokens: u32) -> Request {
    let limits = Bounds { max_tokens: Some(tokens), ..Bounds::default() };
    let mut request = Request { limits, ..Request::new(Input::Raw(text.into())) };
    request.sampling.seed = Some(7);
    request
}

#[derive(Debug, Default)]
struct Answer {
    started: Vec<Started>,
    tokens: Vec<Token>,
    end: Option<Event>,
}

impl Answer {
    fn text(&self) -> String {
        self.tokens.iter().map(|t| t.delta.content.as_str()).collect()
    }

    fn fault(&self) -> Option<Fault> {
        match &self.end {
            Some(Event::Failed(failure)) => Some(failure.fault),
            _ => None,
        }
    }
}

async fn read(mut ticket: Ticket) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = ticket.next().await {
        match event {
            Event::Started(started) => answer.started.push(started),
            Event::Token(token) => answer.tokens.push(token),
            end => answer.end = Some(end),
        }
    }
    answer
}

#[track_caller]
fn assert_whole(answer: &Answer, tokens: u32) {
    assert_eq!(answer.text(), scripted::text(7, tokens));
    assert_eq!(answer.started.len(), 1);
    assert!(answer.tokens.iter().map(|t| t.index).eq(0..tokens));
    assert!(
        matches!(&answer.end, Some(Event::Done(done)) if done.finish == Finish::Length),
        "{:?}",
        answer.end
    );
}

#[test]
fn a_request_submitted_while_loading_is_held_and_answered() {
    run(async {
        let stage = stage("", |_| {});
        let ticket = stage.service.submit(ask("hello", 20)).await.unwrap();
        assert_whole(&read(ticket).await, 20);
        let status = stage.finish().await;
        assert_eq!((status.counters.requests, status.counters.answered, status.counters.tokens), (1, 1, 20));
        assert_eq!(status.state, State::Stopping);
    });
}

#[test]
fn waiting_requests_together_hold_as_much_text_as_one_may() {
    run(async {
        let stage = stage("", |settings| settings.limits.body_bytes = 10_000);
        let long = || ask(&"wait for cancel ".repeat(500), 1000);
        // Alone it runs, however long; a second does not fit beside it, a short one does.
        let mut running = stage.service.submit(ask(&"wait for cancel ".repeat(1000), 1000)).await.unwrap();
        assert!(matches!(running.next().await, Some(Event::Started(_))));
        let refused = stage.service.submit(long()).await.unwrap_err();
        assert_eq!((refused.failure.fault, refused.position), (Fault::Busy, Some(2)));
        assert!(refused.failure.detail.contains("16000 bytes"), "{refused:?}");
        drop(running);
        stage.service.wait_for(|s| !s.running).await;
        let mut running = stage.service.submit(long()).await.unwrap();
        assert!(matches!(running.next().await, Some(Event::Started(_))));
        let short = stage.service.submit(ask("hello", 5)).await.unwrap();
        assert_eq!(stage.service.submit(long()).await.unwrap_err().position, Some(3));
        drop(running);
        assert_whole(&read(short).await, 5);
        stage.finish().await;
    });
}

#[test]
fn an_answer_survives_workers_that_die_every_tenth_token() {
    run(async {
        let stage = stage("die-every-10", |_| {});
        let ticket = stage.service.submit(ask("hello", 100)).await.unwrap();
        assert_whole(&read(ticket).await, 100);
        let counters = stage.finish().await.counters;
        assert_eq!((counters.resumes, counters.restarts, counters.tokens), (10, 10, 100));
    });
}

#[test]
fn a_gap_or_a_repeat_in_an_answer_replaces_the_worker_not_the_text() {
    for script in ["gap-at-5", "repeat-at-5", "noise-at-5", "stranger-at-5", "card-fault-at-5"] {
        run(async {
            let stage = stage(script, |_| {});
            let ticket = stage.service.submit(ask("hello", 10)).await.unwrap();
            assert_whole(&read(ticket).await, 10);
            let status = stage.finish().await;
            assert_eq!(status.counters.resumes, 1, "{script}");
            let fault = status.last_failure.unwrap().fault;
            let expected = if script == "card-fault-at-5" { Fault::CardCall } else { Fault::WorkerLink };
            assert_eq!(fault, expected, "{script}");
        });
    }
}

#[test]
fn a_request_that_kills_every_worker_is_given_up_and_others_go_on() {
    run(async {
        let stage = stage("", |_| {});
        let deadly = read(stage.service.submit(ask("die at once", 10)).await.unwrap()).await;
        assert_eq!(deadly.fault(), Some(Fault::WorkerExit), "{deadly:?}");
        assert!(format!("{:?}", deadly.end).contains("3 workers in a row"), "{deadly:?}");
        let next = stage.service.submit(ask("hello", 5)).await.unwrap();
        assert_whole(&read(next).await, 5);
        stage.finish().await;
    });
}

#[test]
fn a_client_that_leaves_frees_the_card_for_the_next() {
    run(async {
        let stage = stage("", |_| {});
        let mut ticket = stage.service.submit(ask("wait for cancel", 1000)).await.unwrap();
        assert!(matches!(ticket.next().await, Some(Event::Started(_))));
        let queued = stage.service.submit(ask("hello", 5)).await.unwrap();
        let deserter = stage.service.submit(ask("hello", 5)).await.unwrap();
        drop(deserter);
        drop(ticket);
        assert_whole(&read(queued).await, 5);
        let counters = stage.finish().await.counters;
        assert_eq!((counters.abandoned, counters.answered, counters.restarts), (2, 1, 0));
    });
}

#[test]
fn a_client_that_leaves_while_held_is_forgotten() {
    run(async {
        let stage = stage("never-ready", |_| {});
        let held =
            tokio::time::timeout(Duration::from_millis(50), stage.service.submit(ask("hello", 5))).await;
        assert!(held.is_err());
        let status = stage.service.wait_for(|s| s.counters.abandoned == 1).await;
        assert_eq!(status.queue, 0);
        stage.finish().await;
    });
}

#[test]
fn a_full_queue_refuses_with_a_time_to_come_back() {
    run(async {
        let stage = stage("", |s| s.limits.queue = 1);
        let running = stage.service.submit(ask("wait for cancel", 9)).await.unwrap();
        stage.service.wait_for(|s| s.running).await;
        let waiting = stage.service.submit(ask("hello", 5)).await.unwrap();
        let refused = stage.service.submit(ask("hello", 5)).await.unwrap_err();
        assert_eq!(refused.failure.fault, Fault::Busy);
        assert!(refused.retry_after >= Duration::from_secs(1));
        drop(running);
        assert_whole(&read(waiting).await, 5);
        assert_eq!(stage.finish().await.counters.refused, 1);
    });
}

#[test]
fn while_nothing_is_ready_a_request_is_refused_after_the_hold_time() {
    run(async {
        let stage = stage("never-ready", |s| s.limits.hold_s = Seconds(Duration::from_millis(100)));
        let refused = stage.service.submit(ask("hello", 5)).await.unwrap_err();
        assert_eq!(refused.failure.fault, Fault::NotReady);
        assert!(!stage.service.status().ready);
        stage.finish().await;
    });
}

#[test]
fn a_refusal_says_why_no_worker_is_ready() {
    run(async {
        let stage = stage("fatal", |s| s.limits.hold_s = Seconds(Duration::from_millis(300)));
        let refused = stage.service.submit(ask("hello", 5)).await.unwrap_err();
        assert!(refused.failure.detail.contains("E-MODEL-MISSING"), "{}", refused.failure);
        stage.finish().await;
    });
}

#[test]
fn a_worker_of_another_version_is_refused() {
    run(async {
        let stage = stage("other-version", |_| {});
        let status = stage.service.wait_for(|s| s.last_failure.is_some()).await;
        assert!(status.last_failure.unwrap().detail.contains("of version 0.0.0-other"));
        stage.finish().await;
    });
}

#[test]
fn an_answer_that_takes_too_long_ends_with_a_timeout_and_frees_the_card() {
    run(async {
        let stage = stage("", |s| s.limits.request_timeout_s = Seconds(Duration::from_millis(400)));
        stage.service.wait_for(|s| s.ready).await;
        let running = stage.service.submit(ask("wait for cancel", 9)).await.unwrap();
        assert_eq!(read(running).await.fault(), Some(Fault::Timeout));
        let next = stage.service.submit(ask("hello", 5)).await.unwrap();
        assert_whole(&read(next).await, 5);
        assert_eq!(stage.finish().await.counters.restarts, 0);
    });
}

#[test]
fn an_error_of_the_request_reaches_the_client_and_spares_the_worker() {
    run(async {
        let stage = stage("", |_| {});
        let answer = read(stage.service.submit(ask("refuse", 5)).await.unwrap()).await;
        assert_eq!(answer.fault(), Some(Fault::ContextLength));
        let counters = stage.finish().await.counters;
        assert_eq!((counters.failed, counters.restarts), (1, 0));
    });
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    run(async {
        let stage = stage("", |_| {});
        let ticket = stage.service.submit(ask("hello", 1_000_000)).await.unwrap();
        stage.service.wait_for(|s| s.counters.abandoned == 1).await;
        let answer = read(ticket).await;
        assert_eq!(answer.tokens.len(), EVENTS - 1);
        assert_eq!(answer.fault(), Some(Fault::Timeout));
        stage.finish().await;
    });
}

#[test]
fn stopping_completes_what_runs_and_refuses_what_comes() {
    run(async {
        let stage = stage("", |_| {});
        let mut ticket = stage.service.submit(ask("hello", 200)).await.unwrap();
        ticket.next().await;
        stage.service.stop();
        let refused = stage.service.submit(ask("hello", 5)).await.unwrap_err();
        assert_eq!(refused.failure.fault, Fault::Stopping);
        let answer = read(ticket).await;
        assert_eq!(answer.text(), scripted::text(7, 200));
        stage.task.await.unwrap();
    });
}

#[test]
fn stopping_ends_what_does_not_end_in_time() {
    run(async {
        let stage = stage("", |s| s.limits.drain_s = Seconds(Duration::from_millis(200)));
        let running = stage.service.submit(ask("wait for cancel", 9)).await.unwrap();
        stage.service.stop();
        assert_eq!(read(running).await.fault(), Some(Fault::Stopping));
        stage.task.await.unwrap();
    });
}

#[test]
fn a_worker_that_cannot_be_started_is_named_in_the_status() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { recovery: recovery(dir.path()), ..Config::default() };
        let launch = Launch { program: "/no/such".into(), ..Launch::new(&config, "x".into()) };
        let (service, task) = Service::start(launch, Settings::default(), |_| {});
        let status = service.wait_for(|s| s.failures >= 2).await;
        assert_eq!(status.last_failure.unwrap().fault, Fault::WorkerStart);
        service.stop();
        task.await.unwrap();
    });
}

#[test]
fn a_seed_is_drawn_once_and_kept_over_workers() {
    run(async {
        let stage = stage("die-every-10", |_| {});
        let mut request = ask("hello", 30);
        request.sampling.seed = None;
        let answer = read(stage.service.submit(request).await.unwrap()).await;
        let seed = scripted::seed(&answer.text()).unwrap();
        assert_eq!(answer.text(), scripted::text(seed, 30));
        stage.finish().await;
    });
}
