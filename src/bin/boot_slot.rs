//! Boot slots: decides at each start, judges it, installs updates, and is RAUC's bootloader
//! backend.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use llm8850::config::Level;
use llm8850::fault::{Failure, Fault, Result};
use llm8850::slots::backend::Backend;
use llm8850::slots::{Keeper, RaspberryPi, install, judge, policy};
use llm8850::sys::log;
use llm8850::sys::root::SysRoot;
use tracing::{error, info};

/// Chooses between the two systems on the card.
#[derive(Parser)]
#[command(name = "llm8850-boot-slot", version)]
struct Arguments {
    /// What stands for `/`.
    #[arg(long, default_value = "/", hide = true)]
    system_root: PathBuf,
    /// A directory that stands for the partition `setup`.
    #[arg(long, hide = true)]
    setup_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// At each start: decide what becomes of a trial, or of a slot that was never good.
    Start,
    /// Wait until the service answers and mark this start good; go back where it does not.
    Judge {
        /// The service's configuration.
        #[arg(long, default_value = "/run/llm8850-config/config.toml")]
        config: PathBuf,
        /// Seconds until it is overdue.
        #[arg(long, hide = true)]
        within: Option<u64>,
    },
    /// Leave a trial that nobody judged.
    Overdue,
    /// Install an update bundle and restart into it.
    Install { bundle: PathBuf },
    /// Print what is known of the slots.
    Status,
    #[command(flatten)]
    Backend(Backend),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = log::start(Level::Info).and_then(|_log| run(arguments));
    if let Err(failure) = &done {
        error!(code = failure.fault.code(), "{failure}");
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: Arguments) -> Result<()> {
    let root = SysRoot::new(arguments.system_root);
    let mut keeper = Keeper::new(root.clone(), RaspberryPi::new(root, arguments.setup_dir));
    match arguments.verb {
        Verb::Start => {
            if keeper.start()? {
                info!("the machine restarts");
            }
        }
        Verb::Judge { config, within } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Failure::new(Fault::Internal, format!("the runtime: {e}")))?;
            runtime.block_on(judge::judge(&mut keeper, &config, within.map(Duration::from_secs)))?;
        }
        Verb::Overdue => {
            if keeper.on_trial()? {
                keeper.decide(|record, facts| Ok(policy::overdue(record, facts, "nobody judged it")))?;
            }
        }
        Verb::Install { bundle } => install::install(&mut keeper, &bundle)?,
        Verb::Status => {
            let text = keeper.look(|record, facts| {
                serde_json::to_string_pretty(&policy::settle(record, facts).0).unwrap_or_default()
            })?;
            println!("{text}");
        }
        Verb::Backend(verb) => {
            let said = verb.run(&mut keeper)?;
            if !said.is_empty() {
                println!("{said}");
            }
        }
    }
    Ok(())
}
