//! Provisioning: data partitions, settings from the card's partition `setup`, orders of the
//! service.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use llm8850::config::Level;
use llm8850::provision::{disks, orders, settings, triple};
use llm8850::slots::{Keeper, RaspberryPi};
use llm8850::sys::log;
use llm8850::sys::root::SysRoot;
use tracing::error;

/// Makes the appliance what its owner wrote.
#[derive(Parser)]
#[command(name = "llm8850-provision", version)]
struct Arguments {
    /// What stands for `/`.
    #[arg(long, default_value = "/", hide = true)]
    system_root: PathBuf,
    /// A directory that stands for the partition `setup`.
    #[arg(long, hide = true)]
    setup_dir: Option<PathBuf>,
    verb: Verb,
}

#[derive(Clone, Copy, ValueEnum)]
enum Verb {
    /// Check, repair or make the partitions `state` and `models`, before they are mounted.
    Disks,
    /// Take the settings from appliance.toml and apply them.
    Settings,
    /// Carry out what the service ordered.
    Orders,
    /// Compare the card's driver, library and firmware with what the image was made of.
    Triple,
}

/// What is wrong is reported where people look: the boot goes on.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(failure) = log::start(Level::Info) {
        error!(code = failure.fault.code(), "{failure}");
    }
    let root = SysRoot::new(arguments.system_root);
    let setup = arguments.setup_dir.as_deref();
    let mut keeper = Keeper::new(root.clone(), RaspberryPi::new(root.clone(), arguments.setup_dir.clone()));
    match arguments.verb {
        Verb::Disks => disks::disks(&root, setup),
        Verb::Settings => settings::settings(&root, setup, &keeper),
        Verb::Orders => orders::orders(&root, setup, &mut keeper),
        Verb::Triple => triple::triple(&root),
    };
    ExitCode::SUCCESS
}
