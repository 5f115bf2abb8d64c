//! Makes model directories in the vendor's layout.

use std::path::PathBuf;
use std::process::ExitCode;

use axcl_rt::pack;
use clap::Parser;

/// Make a model directory for the emulated card.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The model: a GGUF file of architecture llama, qwen2 or qwen3.
    #[arg(value_name = "GGUF")]
    gguf: PathBuf,
    /// The directory to make; a model directory there is replaced.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// The model's name [default: the file's].
    #[arg(long)]
    name: Option<String>,
    /// Tokens the model can hold [default: 2048, or less where it was made for less].
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    context: Option<u32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let progress = |what: &str| eprintln!("axmodel-pack: {what}");
    let context = arguments.context.map(|n| n as usize);
    let name = arguments.name.as_deref();
    match pack::pack_gguf(&arguments.gguf, &arguments.out, name, context, &progress) {
        Ok(()) => {
            eprintln!("axmodel-pack: {} is ready", arguments.out.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("axmodel-pack: {error}");
            ExitCode::FAILURE
        }
    }
}
