//! The card thread: load, answer, unload.

use std::sync::Arc;

use super::exit::{is_cards, is_models};
use super::inbox::{Inbox, Job, Task};
use super::reports::Reports;
use super::session::{Session, Watch};
use super::settings::Settings;
use crate::axcl::{Gauge, Phase};
use crate::chat::{Delta, Event, Finish};
use crate::fault::Result;
use crate::link::frame::Report;

/// The whole life of the card thread; a stop ends it well.
///
/// # Errors
/// Whatever makes it impossible to load or to go on.
pub fn run(settings: &Settings, gauge: &Arc<Gauge>, inbox: &Inbox, reports: &Reports) -> Result<()> {
    let opened = with_watch(inbox, reports, |watch| Session::open(settings, gauge, watch))?;
    let Some(mut session) = opened else { return Ok(()) };
    let info = session.loaded().next().cloned();
    reports.send(&Report::Ready(info.unwrap_or_default()));
    gauge.enter(Phase::Idle);
    let served = attend(&mut session, gauge, inbox, reports);
    gauge.enter(Phase::Unload);
    served
}

/// Lets a load tell how far it is, and give up where the inbox says so.
fn with_watch<T>(inbox: &Inbox, reports: &Reports, load: impl FnOnce(&mut Watch<'_>) -> T) -> T {
    let stop = || inbox.is_stopped();
    let mut report =
        |done, of, what: &str| reports.send(&Report::Loading { done, of, what: what.to_owned() });
    load(&mut Watch { stop: &stop, report: &mut report })
}

fn attend(session: &mut Session, gauge: &Gauge, inbox: &Inbox, reports: &Reports) -> Result<()> {
    reports.send(&Report::Health(session.health()?));
    while let Some(task) = inbox.next(session.checkup_due()) {
        match task {
            Task::Answer(job) => serve(session, &job, inbox, reports)?,
            Task::Test { model } => {
                let (model, tokens) = session.test(model.as_deref(), &|| inbox.is_wanted())?;
                reports.send(&Report::Tested { model, tokens });
            }
            Task::Warm { request, resume } => {
                session.warm(&request, &resume, &|| inbox.is_wanted())?;
            }
            Task::Load { model, evict } => add(session, &model, &evict, inbox, reports)?,
            Task::Unload { model } => {
                gauge.enter(Phase::Unload);
                session.remove(&model)?;
                reports.send(&Report::Unloaded { model });
                reports.send(&Report::Health(session.health()?));
            }
            Task::Rest => reports.send(&Report::Health(session.health()?)),
        }
        if !inbox.is_wanted() {
            session.save_ahead(&|| inbox.is_wanted())?;
        }
        gauge.enter(Phase::Idle);
    }
    Ok(())
}

/// Loads one more model. What is wrong with the model is told, what is wrong with the card
/// is returned.
fn add(session: &mut Session, model: &str, evict: &[String], inbox: &Inbox, reports: &Reports) -> Result<()> {
    let mut gone = |name: &str| reports.send(&Report::Unloaded { model: name.to_owned() });
    let added = with_watch(inbox, reports, |watch| {
        session.add(model, evict, &mut gone, watch).map(|info| info.cloned())
    });
    match added {
        Ok(Some(info)) => reports.send(&Report::Added(info)),
        Ok(None) => {}
        Err(failure) if is_models(failure.fault) => {
            tracing::warn!(model, %failure, "a model cannot be loaded");
            reports.send(&Report::NotAdded { model: model.to_owned(), failure });
        }
        Err(failure) => return Err(failure),
    }
    reports.send(&Report::Health(session.health()?));
    Ok(())
}

/// Answers one request, then has the card get ahead of the next. A fault of the request is told to
/// its client, one of the card is returned.
fn serve(session: &mut Session, job: &Job, inbox: &Inbox, reports: &Reports) -> Result<()> {
    let mut said = Said::default();
    let mut send = |event| {
        said.note(&event);
        if matches!(event, Event::Done(_)) {
            inbox.finished(job.id);
        }
        reports.send(&Report::Answer { id: job.id, event });
    };
    let answered = session.answer(job, &|| inbox.is_stopped(), &mut send, &mut |health| {
        reports.send(&Report::Health(health));
    });
    inbox.finished(job.id);
    match answered {
        Err(failure) if !is_cards(failure.fault) => {
            tracing::warn!(request = job.id.0, %failure, "request failed");
            reports.send(&Report::Answer { id: job.id, event: Event::Failed(failure) });
            Ok(())
        }
        Ok(()) if said.ended && job.resume.is_empty() && !inbox.is_wanted() => {
            session.look_ahead(job, &said.text, &|| inbox.is_wanted())
        }
        answered => answered,
    }
}

/// What an answer says.
#[derive(Default)]
struct Said {
    text: Delta,
    /// To an end somebody waited for.
    ended: bool,
}

impl Said {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Token(token) => self.text.append(token.delta.clone()),
            Event::Done(done) => {
                self.text.append(done.tail.clone());
                self.ended = done.finish != Finish::Cancelled;
            }
            Event::Started(_) | Event::Restart | Event::Failed(_) => {}
        }
    }
}
