//! The card helper: does what needs root and may hang in the kernel, one order per run.
//! systemd starts it with a connection of its socket as standard input.

use std::fs::File;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use llm8850::axcl::exit_now;
use llm8850::config::{self, Config};
use llm8850::fault::{Failure, Fault, Result};
use llm8850::recover::serve::{Launch, carry_out, serve};
use llm8850::recover::{Order, Verb, act};
use llm8850::sys::log;
use llm8850::sys::root::SysRoot;
use tracing::{error, info};

/// Restarts card, driver, slot or host. Reads one order, `{"verb":"probe"}`, from standard
/// input and answers there, unless one is given.
#[derive(Parser)]
#[command(name = "llm8850-card-helper", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Do this and answer on standard output: probe, card-reboot, modules-out, modules-in,
    /// bus-reset or host-reboot.
    #[arg(long = "do", value_name = "VERB", value_parser = verb)]
    order: Option<Verb>,
    /// Divides deadlines: for tests.
    #[arg(long, default_value_t = 1.0, hide = true)]
    pace: f64,
    /// Do this in this very process.
    #[arg(long, hide = true, value_parser = verb)]
    act: Option<Verb>,
}

fn verb(name: &str) -> std::result::Result<Verb, String> {
    Verb::named(name).ok_or_else(|| format!("must be one of {}", Verb::ALL.map(Verb::name).join(", ")))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What is wrong in the file is the supervisor's to report; here its defaults take over.
    let config = Config::load(&arguments.config).0;
    let done = log::start(config.log.level).and_then(|_log| run(&arguments, config));
    if arguments.act.is_some() {
        // The card's runtime may hang or abort in its exit handlers.
        exit_now(i32::from(done.is_err()));
    }
    if let Err(failure) = &done {
        error!(code = failure.fault.code(), "{failure}");
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: &Arguments, config: Config) -> Result<()> {
    let internal = |e: std::io::Error| Failure::new(Fault::Helper, format!("standard input: {e}"));
    let stream = File::from(stdin().as_fd().try_clone_to_owned().map_err(internal)?);
    if let Some(verb) = arguments.act {
        let order = Order { verb, pace: arguments.pace };
        return act(&order, &SysRoot::new(config.recovery.system_root), &config.worker, &stream);
    }
    let program = std::env::current_exe().map_err(internal)?;
    let launch = Launch { program, config: arguments.config.clone(), worker: config.worker };
    let Some(verb) = arguments.order else {
        if stdin().is_terminal() {
            return Err(Failure::new(Fault::Helper, "standard input is a terminal; did you mean --do?"));
        }
        return serve(&stream, &launch);
    };
    info!("{} was asked for on the command line", verb.name());
    carry_out(&Order { verb, pace: arguments.pace }, &launch, |reply| {
        let line = serde_json::to_string(reply).unwrap_or_default();
        // A closed output does not stop what has begun.
        let _ = writeln!(stdout(), "{line}");
    })
}
