//! The emulated host side of the card. Called as modprobe, rmmod or systemctl, it acts as these
//! programs do on that host.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use axcl_rt::machine::breakage::Breakage;
use axcl_rt::machine::settings::Settings;
use axcl_rt::machine::{Machine, programs, signals};
use clap::Parser;
use serde_json::Value;

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

fn breakage(text: &str) -> Result<Breakage, String> {
    Breakage::from_value(json(text)?)
}

/// Plays the host side of an emulated card in a directory, until SIGTERM.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory of its socket and its made-up root; renewed if it exists.
    dir: PathBuf,
    /// Start with the driver's modules loaded.
    #[arg(long)]
    loaded: bool,
    /// Let everything take as long as on a Raspberry Pi 5.
    #[arg(long)]
    real: bool,
    /// Settings to change, as JSON.
    #[arg(long, value_name = "JSON", value_parser = json)]
    set: Option<Value>,
    /// End with standard input, too, so as not to outlive whoever holds it.
    #[arg(long)]
    end_with_stdin: bool,
    /// Something broken from the beginning, as JSON; can be given again.
    #[arg(long = "break", value_name = "JSON", value_parser = breakage)]
    broken: Vec<Breakage>,
}

fn play(arguments: Arguments) -> Result<(), String> {
    let mut settings = if arguments.real { Settings::real() } else { Settings::default() };
    if let Some(changes) = &arguments.set {
        settings = settings.with(changes)?;
    }
    let dir = &arguments.dir;
    let told = |e: std::io::Error| format!("{}: {e}", dir.display());
    signals::hold().map_err(told)?;
    if arguments.end_with_stdin {
        std::thread::spawn(signals::end_with_stdin);
    }
    let machine = Machine::start(dir, settings, arguments.broken, arguments.loaded).map_err(told)?;
    let mut stdout = std::io::stdout();
    // Nobody need be listening.
    let _ = writeln!(stdout, "ready {}", dir.display()).and_then(|()| stdout.flush());
    signals::wait();
    machine.stop();
    Ok(())
}

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().map(PathBuf::from).unwrap_or_default();
    if called.file_name().is_some_and(|name| name != "axcl-machine") {
        // Refusing to be interrupted may fail; then it is interrupted.
        let _ = signals::hold();
        if let Some(code) = programs::act_as(&called, words) {
            return u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    }
    match play(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "axcl-machine: {reason}");
            ExitCode::FAILURE
        }
    }
}
