//! The inference worker. Started by the supervisor with a socket as standard input; with
//! `--prompt` it answers once by itself.

use std::error::Error;
use std::os::{fd::AsFd, unix::net::UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use llm8850::chat::{Input, Limits, Message, Request, Role, Sampling};
use llm8850::config::{Config, PathChoice};
use llm8850::fault::{Failure, Fault, Result};
use llm8850::inference::pipeline::PathMode;
use llm8850::sys::log;
use llm8850::worker::{Once, Package, Settings, answer_once, exit_code, serve};

/// Runs a language model on the card.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The appliance's configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The model's directory, instead of the configuration's.
    #[arg(long)]
    model_dir: Option<PathBuf>,
    /// The card's runtime library, instead of the configuration's.
    #[arg(long)]
    runtime: Option<PathBuf>,
    /// How data move between host and card, instead of the configuration's.
    #[arg(long)]
    path: Option<PathArgument>,
    /// Do not compare the model's files with their manifest.
    #[arg(long)]
    no_verify: bool,
    /// Answer this once, without a supervisor.
    #[arg(long)]
    prompt: Option<String>,
    /// With `--prompt`: most tokens of the answer.
    #[arg(long, default_value_t = 100)]
    max_tokens: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum PathArgument {
    Auto,
    Plain,
    CopySaving,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A supervisor's worker has told the journal already.
            if supervisor().is_err() {
                eprintln!("llm8850-worker: {failure}");
            }
            ExitCode::from(exit_code(failure.fault))
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    // What is wrong in the file is the supervisor's to report; here its defaults take over.
    let config = arguments.config.as_deref().map_or_else(Config::default, |file| Config::load(file).0);
    let _log = log::start(config.log.level)?;
    let settings = settings(&arguments, &config)?;
    let Some(prompt) = arguments.prompt else { return serve(&settings, supervisor()?) };
    let request = Request {
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        limits: Limits { max_tokens: Some(arguments.max_tokens), ..Limits::default() },
        ..Request::new(Input::Chat(vec![Message::text(Role::User, prompt)]))
    };
    let mut progress = |done, of, what: &str| eprintln!("[{done}/{of}] {what}");
    let Once { info, done } = answer_once(&settings, request, &mut std::io::stdout(), &mut progress)?;
    println!();
    eprintln!("{info:?}\n{:?}\n{:?}", done.usage, done.timings);
    Ok(())
}

/// The socket the supervisor gave us as standard input.
fn supervisor() -> Result<UnixStream> {
    let wrong = |e: &dyn Error| {
        let detail = format!("standard input is no supervisor's socket ({e}); did you mean --prompt?");
        Failure::new(Fault::WorkerLink, detail)
    };
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| wrong(&e))?);
    socket.peer_addr().map_err(|e| wrong(&e)).map(|_| socket)
}

fn settings(arguments: &Arguments, config: &Config) -> Result<Settings> {
    let (worker, model) = (&config.worker, &config.model);
    let first = match &arguments.model_dir {
        // Another model has another name, and no others beside it.
        Some(dir) => Package::new(dir, None, model.context, model.descriptor.as_ref())?,
        None => Package::new(&model.dir, model.name.clone(), model.context, model.descriptor.as_ref())?,
    };
    let others = model.others.iter().filter(|_| arguments.model_dir.is_none()).filter_map(|other| {
        let package = Package::new(&other.dir, Some(other.name()), other.context, other.descriptor.as_ref());
        // The first model answers, whatever is wrong with the others.
        package.inspect_err(|failure| tracing::error!(model = other.name(), %failure)).ok()
    });
    Ok(Settings {
        runtime: arguments.runtime.clone().unwrap_or_else(|| worker.runtime.clone()),
        runtime_config: worker.runtime_config().map(Path::to_owned),
        device: worker.device as usize,
        model: first,
        others: others.collect(),
        prefix_slots: worker.prefix_slots as usize,
        saved_bytes: worker.saved_bytes,
        verify: worker.verify && !arguments.no_verify,
        path: match (arguments.path, worker.path) {
            (Some(PathArgument::Auto), _) | (None, PathChoice::Auto) => PathMode::Auto,
            (Some(PathArgument::Plain), _) | (None, PathChoice::Plain) => PathMode::Plain,
            (Some(PathArgument::CopySaving), _) | (None, PathChoice::CopySaving) => PathMode::CopySaving,
        },
        shutdown_deadline: worker.stop_s.0,
    })
}
