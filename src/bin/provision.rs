//! Provisioning: data partitions, settings from the card's partition `setup`, models, orders of
//! the service.

use std::fs::File;
use std::io::{self, stdin};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use llm8850::config::Level;
use llm8850::packages::serve;
use llm8850::packages::stick::stick;
use llm8850::provision::{disks, orders, report, settings, triple};
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
    /// A directory that stands for a stick.
    #[arg(long, hide = true)]
    stick_dir: Option<PathBuf>,
    verb: Verb,
    /// The stick's device.
    #[arg(required_if_eq("verb", "stick"))]
    device: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Verb {
    /// Check, repair or make the partitions `state` and `models`, before they are mounted.
    Disks,
    /// Take the settings from appliance.toml and apply them.
    Settings,
    /// Tidy the partition `models` after a power cut, and make it read-only.
    Models,
    /// Carry out what the service ordered.
    Orders,
    /// Take in a part of a model: one request, from standard input, is answered there.
    TakeIn,
    /// Take in the models of a USB stick.
    Stick,
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
    let changed = || settings::packages(&root);
    match arguments.verb {
        Verb::Disks => drop(disks::disks(&root, setup)),
        Verb::Settings => drop(settings::settings(&root, setup, &keeper)),
        Verb::Triple => drop(triple::triple(&root)),
        Verb::Models => report::problems(&root, "models", &serve::start(&root)),
        Verb::Orders => drop(orders::orders(&root, setup, &mut keeper)),
        Verb::TakeIn => match connection() {
            Ok(stream) => serve::serve(&root, &stream, &changed),
            Err(e) => error!("standard input: {e}"),
        },
        Verb::Stick => {
            let device = arguments.device.unwrap_or_default();
            stick(&root, &device, arguments.stick_dir.as_deref(), &changed);
        }
    }
    ExitCode::SUCCESS
}

/// What systemd passed on of a socket.
fn connection() -> io::Result<File> {
    Ok(File::from(stdin().as_fd().try_clone_to_owned()?))
}
