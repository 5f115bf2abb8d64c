//! What the service may ask of root: files in a directory of its own. It is not trusted with
//! more than that: nothing here follows a link, and what it names must be its own.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, unlinkat};

use super::{disks, report};
use crate::fault::{Failure, Fault, Result};
use crate::slots::policy::Restart;
use crate::slots::setup::{Access, Setup};
use crate::slots::{Firmware, Keeper, install};
use crate::sys::inside;
use crate::sys::root::SysRoot;

/// Where the service may write.
const OWN: &str = "var/lib/llm8850";
const ORDERS: &str = "orders";
/// A path fits.
const LONGEST: u64 = 4096;

/// The orders there are.
const RESET: &str = "factory-reset";
const RESET_MODELS: &str = "factory-reset-models";
const INSTALL: &str = "install-bundle";

/// Where the service leaves them.
pub fn place() -> PathBuf {
    Path::new("/").join(OWN).join(ORDERS)
}

/// Carries out what is there, each once. What cannot be done is reported.
pub fn orders<F: Firmware>(root: &SysRoot, given: Option<&Path>, keeper: &mut Keeper<F>) -> Vec<String> {
    let own = root.path(OWN);
    let taken = match take(&own) {
        Ok(taken) => taken,
        Err(e) => vec![Err(format!("{}: {e}", own.display()))],
    };
    let mut problems = Vec::new();
    for order in taken {
        let done = order.and_then(|order| {
            tracing::info!("the service ordered: {}", order.name);
            carry_out(root, given, keeper, &order).map_err(|failure| failure.to_string())
        });
        problems.extend(done.err());
    }
    report::problems(root, "orders", &problems);
    problems
}

struct Order {
    name: String,
    text: String,
}

fn carry_out<F: Firmware>(
    root: &SysRoot,
    given: Option<&Path>,
    keeper: &mut Keeper<F>,
    order: &Order,
) -> Result<()> {
    match order.name.as_str() {
        RESET => reset(root, given, keeper, false),
        RESET_MODELS => reset(root, given, keeper, true),
        INSTALL => {
            let bundle = bundle(&root.path(OWN), order.text.trim())?;
            let done = install::install(keeper, &bundle);
            // It is large, and of no further use, however it went.
            if let Err(e) = std::fs::remove_file(&bundle) {
                tracing::warn!("{}: {e}", bundle.display());
            }
            done
        }
        other => Err(Failure::new(Fault::Orders, format!("there is no order {other:?}"))),
    }
}

/// Asks for a reset at the next start, before anything is mounted, and restarts.
fn reset<F: Firmware>(
    root: &SysRoot,
    given: Option<&Path>,
    keeper: &mut Keeper<F>,
    models: bool,
) -> Result<()> {
    let setup = Setup::open(root, given, Access::Write)?;
    let path = setup.path(disks::order(models));
    crate::sys::store::replace(&path, b"")
        .map_err(|e| Failure::new(Fault::Setup, format!("{}: {e}", path.display())))?;
    drop(setup);
    keeper.restart(Restart::Plain)
}

/// Takes the orders out of their directory.
fn take(own: &Path) -> std::io::Result<Vec<std::result::Result<Order, String>>> {
    let own: OwnedFd = File::open(own)?.into();
    let directory = match inside::open(&own, Path::new(ORDERS), OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        directory => directory?,
    };
    let mut names: Vec<_> = rustix::fs::Dir::read_from(&directory)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()))
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .collect();
    names.sort();
    let mut orders = Vec::new();
    for name in names {
        let shown = name.to_string_lossy().into_owned();
        // One that is being written has another name until it is whole.
        let half = shown.starts_with('.') || shown.ends_with(".new") || shown.ends_with(".part");
        let read = read(&directory, Path::new(&shown));
        // Also what is none: it would be found for ever.
        let removed = unlinkat(&directory, &name, AtFlags::empty());
        match (half, removed) {
            (false, Ok(())) => orders.push(read.map(|text| Order { name: shown, text })),
            (_, Err(e)) => {
                orders.push(Err(format!("the order {shown:?} cannot be removed, and is not done: {e}")))
            }
            (true, Ok(())) => {}
        }
    }
    Ok(orders)
}

fn read(directory: &OwnedFd, name: &Path) -> std::result::Result<String, String> {
    let wrong = |what: &str| format!("the order {} {what}", name.display());
    let file = inside::open(directory, name, OFlags::RDONLY).map_err(|e| wrong(&e.to_string()))?;
    let file = File::from(file);
    if !file.metadata().is_ok_and(|data| data.is_file() && data.len() <= LONGEST) {
        return Err(wrong("is no short file"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(|e| wrong(&e.to_string()))?;
    Ok(text)
}

/// The bundle's path, where it names a file of the service's own, or of root's, in its
/// directory. Whether it may be installed is for its signature to say.
fn bundle(own: &Path, text: &str) -> Result<PathBuf> {
    let refused = |what: String| Failure::new(Fault::Orders, format!("the bundle {text:?} {what}"));
    let path = Path::new(text);
    let below = path.strip_prefix(Path::new("/").join(OWN)).unwrap_or(path);
    if below.as_os_str().is_empty() || !below.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(refused(format!("is not in /{OWN}")));
    }
    let directory = File::open(own).map_err(|e| refused(e.to_string()))?;
    let owner = directory.metadata().map_err(|e| refused(e.to_string()))?.uid();
    let file = inside::open(&directory, below, OFlags::RDONLY).map_err(|e| refused(e.to_string()))?;
    let data = File::from(file).metadata().map_err(|e| refused(e.to_string()))?;
    if !data.is_file() || (data.uid() != owner && data.uid() != 0) {
        return Err(refused("is no file of the service's".into()));
    }
    Ok(own.join(below))
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
