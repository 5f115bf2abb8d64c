//! The supervisor: answers HTTP, keeps a worker alive, never touches the card.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use llm8850::button;
use llm8850::config::{self, Config, Errand};
use llm8850::detect::watchdog;
use llm8850::fault::{Failure, Fault, Result};
use llm8850::http::server::Server;
use llm8850::http::{Context, health};
use llm8850::lights::{self, Look};
use llm8850::service::{Launch, Service, Settings, Status};
use llm8850::sys::log::{self, LogControl};
use llm8850::sys::notify::{self, Notifier};
use llm8850::sys::root::SysRoot;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// Serves chat completions from an LLM8850 card.
#[derive(Parser)]
#[command(name = "llm8850-supervisor", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(flatten)]
    errand: Errand,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (config, problems) = Config::load(&arguments.config);
    if let Some(code) = arguments.errand.run(&arguments.config, &problems) {
        return code;
    }
    let started = log::start(config.log.level).and_then(|control| {
        let settings = Settings::new(&config, &problems);
        problems.into_iter().for_each(|problem| error!("{}", Failure::from(problem)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new(Fault::Internal, format!("the runtime: {e}")))?;
        let served = runtime.block_on(serve(config, settings, &arguments.config, &control));
        // A read that hangs in the kernel must not keep the program from ending.
        runtime.shutdown_background();
        served
    });
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!(code = failure.fault.code(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config, settings: Settings, path: &Path, log: &LogControl) -> Result<()> {
    let signals = |kind| signal(kind).map_err(|e| Failure::new(Fault::Internal, format!("signals: {e}")));
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hang_up = signals(SignalKind::hangup())?;

    let server = Server::bind(&config.server.listen, config.limits.clone()).await?;
    let launch = Launch::new(&config, path.into());
    let (looks, seen) = watch::channel(Look::default());
    let mut notifier = Notifier::from_environment();
    let beat = move |status: &Status| notifier.beat(status.line());
    let (service, mut ended) = Service::start(launch, settings, beat);
    let root = SysRoot::new(&config.recovery.system_root);
    watchdog::report(&root);
    tokio::spawn(lights::run(config.lights.clone(), root, seen));
    let (holds, held) = watch::channel(false);
    tokio::spawn(button::run(config.button.clone(), config.appliance.orders.clone(), holds));
    let addresses: Vec<String> = server.addresses().iter().map(|a| format!("http://{a}")).collect();
    let (stop, stopped) = watch::channel(false);
    let context = Arc::new(Context::new(service.clone(), path, log.recent(), server.unbound(), held));
    tokio::spawn(health::shine(Arc::clone(&context), looks));
    let serving = tokio::spawn(server.run(context, stopped));
    info!("listening on {}", addresses.join(", "));
    notify::ready();

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reload(&service, &config, path, log),
            _ = &mut ended => return Err(Failure::new(Fault::Internal, "the service ended by itself")),
        }
    }
    notify::stopping();
    service.stop();
    stop.send_replace(true);
    // Both end by their own deadlines.
    let _ = tokio::join!(serving, ended);
    Ok(())
}

/// Puts a changed file in force as far as that is possible while running.
fn reload(service: &Service, started: &Config, path: &Path, log: &LogControl) {
    notify::reloading();
    let (config, problems) = Config::load(path);
    if problems.is_empty() {
        if config.needs_restart(started) {
            warn!("some changes take effect at the next start: docs/configuration.md tells which");
        }
        log.set(config.log.level);
        service.reload(Settings::new(&config, &[]));
        info!("the configuration was read again");
    } else {
        problems.into_iter().for_each(|problem| error!("{}", Failure::from(problem)));
        error!("the configuration in force is kept");
    }
    notify::ready();
}
