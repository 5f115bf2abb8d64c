//! Makes model directories in the vendor's layout, and measures them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use axcl_rt::{bench, pack};
use clap::Parser;

/// Make a model directory for the emulated card.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The model: a GGUF file of architecture llama, qwen2 or qwen3.
    #[arg(value_name = "GGUF", required_unless_present = "hollow")]
    gguf: Option<PathBuf>,
    /// Instead of a model: the shapes and costs of a real one, without weights (qwen3-4b,
    /// qwen3-1.7b, qwen3-0.6b, qwen2.5-0.5b, qwen2.5-1.5b-int4).
    #[arg(long, value_name = "NAME", conflicts_with_all = ["gguf", "name", "context"])]
    hollow: Option<String>,
    /// The directory to make; a model directory there is replaced.
    #[arg(short, long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    /// The model's name [default: the file's].
    #[arg(long)]
    name: Option<String>,
    /// Tokens the model can hold [default: 2048, or less where it was made for less].
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    context: Option<u32>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Measure tokens per second of the engines alone.
    Bench {
        /// A model directory.
        dir: PathBuf,
        /// Measurements per figure, of which the median counts.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
}

fn measure(dir: &Path, runs: usize) -> Result<(), String> {
    let figures = bench::measure(dir, runs)?;
    let [short, long] = figures.prefill;
    let [shallow, deep] = figures.decode;
    println!("tokens/s                 by the clock   per processor second");
    for (what, rate) in [
        ("prefill, 128 tokens", short),
        ("prefill, 512 tokens", long),
        ("decode, at the start", shallow),
        ("decode, after 1000", deep),
    ] {
        println!("{what:<24} {:>12.1} {:>22.1}", rate.wall, rate.processor);
    }
    Ok(())
}

fn pack(arguments: &Arguments) -> Result<(), String> {
    let progress = |what: &str| eprintln!("axmodel-pack: {what}");
    let out = arguments.out.as_deref().ok_or("give --out")?;
    let made = match (&arguments.hollow, &arguments.gguf) {
        (Some(hollow), _) => pack::pack_hollow(hollow, out, &progress),
        (None, Some(gguf)) => {
            let context = arguments.context.map(|n| n as usize);
            pack::pack_gguf(gguf, out, arguments.name.as_deref(), context, &progress)
        }
        (None, None) => return Err("give a GGUF file".into()),
    };
    made.map_err(|e| e.to_string())?;
    progress(&format!("{} is ready", out.display()));
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(Command::Bench { dir, runs }) => measure(dir, *runs),
        None => pack(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("axmodel-pack: {error}");
            ExitCode::FAILURE
        }
    }
}
