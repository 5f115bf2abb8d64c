//! Several models: loaded on demand by real worker processes.

use super::*;
use crate::chat::KeepAlive;
use crate::config::Installed;

/// A service with more models than the first.
fn library(script: &str, change: impl FnOnce(&mut Vec<Installed>)) -> Stage {
    let model =
        |name: &str| Installed { name: name.into(), keep_alive: KeepAlive(300), ..Installed::default() };
    let mut models: Vec<_> = ["first", "second", "too large", "deadly"].map(model).into();
    models[0].keep_alive = KeepAlive::FOR_EVER;
    change(&mut models);
    stage(script, |settings| settings.models = models)
}

fn ask_of(model: &str, text: &str, tokens: u32) -> Request {
    Request { model: Some(model.into()), ..ask(text, tokens) }
}

fn loaded(status: &Status) -> Vec<&str> {
    status.models.iter().filter(|model| model.loaded).map(|model| model.name.as_str()).collect()
}

#[test]
fn a_model_is_loaded_when_it_is_asked_for_and_stays() {
    run(async {
        let stage = library("", |_| {});
        for _ in 0..2 {
            let ticket = stage.service.submit(ask_of("second", "hello", 5)).await.unwrap();
            assert_whole(&read(ticket).await, 5);
        }
        let status = stage.service.status();
        assert_eq!(loaded(&status), ["formula", "second"]);
        assert!(status.models[1].expires_s.is_some_and(|s| s > 200) && status.models[0].expires_s.is_none());
        assert_eq!(status.models[1].info.as_ref().unwrap().context, 512);
        assert_eq!(stage.finish().await.counters.answered, 2);
    });
}

#[test]
fn a_model_nobody_keeps_is_unloaded_after_its_answer() {
    run(async {
        let stage = library("", |_| {});
        let request = Request { keep_alive: Some(KeepAlive::NOT), ..ask_of("second", "hello", 5) };
        assert_whole(&read(stage.service.submit(request).await.unwrap()).await, 5);
        stage.service.wait_for(|s| loaded(s) == ["formula"]).await;
        // Not so the one that is kept.
        let request = Request { keep_alive: Some(KeepAlive::NOT), ..ask("hello", 5) };
        assert_whole(&read(stage.service.submit(request).await.unwrap()).await, 5);
        let request = ask_of("second", "hello", 5);
        assert_whole(&read(stage.service.submit(request).await.unwrap()).await, 5);
        assert_eq!(loaded(&stage.service.status()), ["formula", "second"]);
        stage.finish().await;
    });
}

#[test]
fn a_model_is_loaded_and_unloaded_without_a_question() {
    run(async {
        let stage = library("", |_| {});
        let nothing = |keep| Request { keep_alive: keep, ..ask_of("second", "", 5) };
        let load = Request { input: Input::Nothing, ..nothing(None) };
        let answer = read(stage.service.submit(load.clone()).await.unwrap()).await;
        assert!(answer.tokens.is_empty() && matches!(&answer.end, Some(Event::Done(_))), "{answer:?}");
        assert_eq!(loaded(&stage.service.status()), ["formula", "second"]);
        let unload = Request { keep_alive: Some(KeepAlive::NOT), ..load };
        read(stage.service.submit(unload).await.unwrap()).await;
        stage.service.wait_for(|s| loaded(s) == ["formula"]).await;
        stage.finish().await;
    });
}

#[test]
fn a_model_that_does_not_fit_is_refused_and_the_others_go_on() {
    run(async {
        let stage = library("", |_| {});
        let refused = read(stage.service.submit(ask_of("too large", "hello", 5)).await.unwrap()).await;
        assert_eq!(refused.fault(), Some(Fault::CardMemory));
        assert!(format!("{:?}", refused.end).contains("needs 9 MiB; always loaded: formula"), "{refused:?}");
        assert_whole(&read(stage.service.submit(ask("hello", 5)).await.unwrap()).await, 5);
        let status = stage.finish().await;
        assert_eq!((status.counters.restarts, status.counters.incidents), (0, 0));
    });
}

#[test]
fn a_model_whose_load_kills_workers_is_given_up_and_the_others_go_on() {
    run(async {
        let stage = library("", |_| {});
        let refused = read(stage.service.submit(ask_of("deadly", "hello", 5)).await.unwrap()).await;
        assert_eq!(refused.fault(), Some(Fault::WorkerExit), "{refused:?}");
        assert_whole(&read(stage.service.submit(ask("hello", 5)).await.unwrap()).await, 5);
        assert_eq!(stage.finish().await.counters.restarts, 3);
    });
}

#[test]
fn an_answer_of_another_model_survives_its_workers() {
    run(async {
        let stage = library("die-every-10", |_| {});
        let ticket = stage.service.submit(ask_of("second", "hello", 25)).await.unwrap();
        assert_whole(&read(ticket).await, 25);
        assert_eq!(stage.finish().await.counters.resumes, 2);
    });
}

#[test]
fn a_model_of_which_the_worker_knows_nothing_is_refused() {
    run(async {
        let stage = library("", |_| {});
        let refused = read(stage.service.submit(ask_of("new", "hello", 5)).await.unwrap()).await;
        assert_eq!(refused.fault(), Some(Fault::ModelMissing), "{refused:?}");
        stage.finish().await;
    });
}
