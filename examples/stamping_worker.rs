//! A worker for measurements: it has no model, and each token's text is the moment at which its
//! frame was written, the first one's that at which the request's frame was there, in nanoseconds
//! since 1970. `scripts/bench` puts it behind a real supervisor and reads the same clock when it
//! has sent a request, and when text arrives.

use std::error::Error;
use std::io::stdin;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use llm8850::chat::{Delta, Done, Event, Finish, RequestId, Started, Token, Usage};
use llm8850::fault::Result;
use llm8850::link::frame::{Activity, Command, ModelInfo, Report};
use llm8850::link::pipe::{Reader, Writer};

/// The environment variable that says how many microseconds lie between two tokens.
const INTERVAL: &str = "STAMP_INTERVAL_US";

type Reports = Arc<Mutex<Writer<UnixStream, Report>>>;

/// A request, and what is left of its answer.
struct Work {
    id: RequestId,
    tokens: Range<u32>,
    /// When its frame was there.
    came: Duration,
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let interval = Duration::from_micros(std::env::var(INTERVAL)?.parse()?);
    let link = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
    let mut commands = Reader::<_, Command>::new(link.try_clone()?);
    let reports: Reports = Arc::new(Mutex::new(Writer::new(link)));
    send(&reports, Report::Hello { version: env!("CARGO_PKG_VERSION").into(), pid: std::process::id() })?;
    let model = ModelInfo { name: "stamps".into(), context: 1 << 20, ..ModelInfo::default() };
    send(&reports, Report::Ready(model))?;
    let cancelled = Arc::new(AtomicU64::new(0));
    let (jobs, todo) = mpsc::channel::<Work>();
    thread::spawn({
        let (reports, cancelled) = (Arc::clone(&reports), Arc::clone(&cancelled));
        move || {
            // A supervisor that is gone ends this process by closing its input.
            todo.iter().try_for_each(|work| answer(&reports, &cancelled, interval, work))
        }
    });
    while let Some(command) = commands.receive()? {
        match command {
            Command::Generate { id, request, resume } => {
                let came = now();
                let to = request.limits.max_tokens.unwrap_or(u32::MAX);
                jobs.send(Work { id, tokens: u32::try_from(resume.len())?..to, came })?;
            }
            Command::Cancel { id } => cancelled.store(id.0, Ordering::Release),
            Command::Test { model } => {
                let model = model.unwrap_or_else(|| "stamps".into());
                send(&reports, Report::Tested { model, tokens: vec![1] })?;
            }
            Command::Ping { nonce } => {
                send(&reports, Report::Pong { nonce, activity: Activity::default() })?;
            }
            // There is one model only.
            Command::Warm { .. } | Command::Load { .. } | Command::Unload { .. } => {}
            Command::Stop => break,
        }
    }
    Ok(())
}

fn send(reports: &Reports, report: Report) -> Result<()> {
    reports.lock().unwrap_or_else(PoisonError::into_inner).send(&report)
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn answer(reports: &Reports, cancelled: &AtomicU64, interval: Duration, work: Work) -> Result<()> {
    let Work { id, tokens, came } = work;
    let say = |event| send(reports, Report::Answer { id, event });
    say(Event::Started(Started { prompt_tokens: 1, ..Started::default() }))?;
    let (mut finish, mut completion_tokens) = (Finish::Length, tokens.end);
    for index in tokens {
        thread::sleep(interval);
        if cancelled.load(Ordering::Acquire) == id.0 {
            (finish, completion_tokens) = (Finish::Cancelled, index);
            break;
        }
        let stamp = if index == 0 { came } else { now() };
        let content = format!("{} ", stamp.as_nanos());
        let delta = Delta { content, ..Delta::default() };
        say(Event::Token(Token { index, id: index, delta, logprobs: None }))?;
    }
    let usage = Usage { prompt_tokens: 1, completion_tokens, ..Usage::default() };
    say(Event::Done(Done {
        finish,
        tail: Delta::default(),
        usage,
        timings: Default::default(),
        logprobs: None,
    }))
}
