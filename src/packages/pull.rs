//! A package from a catalogue: fetched by the service, and passed on to root as one that is sent.
//! What has arrived stays, whatever ends it: the next goes on from there.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep};

use super::catalogue::{self, Catalogue, Origin, Package, refused};
use super::client::{Asked, ask};
use super::fetch::{Fetcher, address};
use super::protocol::{Incoming, Kind, Piece, Refusal, Reply, Request, Result};
use super::serve::{NAME, State, Told};

/// While something else is taken in, and until it is known how putting it in its place goes.
const MOMENT: Duration = Duration::from_millis(250);
/// For what else is being taken in.
const BUSY: Duration = Duration::from_secs(60);
/// For a file to be compared, and all of it to be on the card.
const CHECKING: Duration = Duration::from_secs(900);
/// Times a server may break off. Each time more must be there than before.
const BREAKS: u32 = 64;
/// How often is told how far it is.
const OFTEN: Duration = Duration::from_millis(250);

/// Whence and whereto.
#[derive(Clone, Debug)]
pub struct Source {
    /// The catalogue's address.
    pub catalogue: String,
    /// Whose word on it is taken besides: certificates as PEM, or a file of them.
    pub authority: Option<String>,
    /// Where models are taken in.
    pub socket: PathBuf,
    /// Where root tells how it goes.
    pub told: PathBuf,
    /// For whatever comes over the network.
    pub patience: Duration,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The catalogue is being read.
    Catalogue,
    /// So much of a file is there.
    File { sha256: String, bytes: u64, received: u64 },
    /// All of it is there: it is being compared.
    Checking,
    /// It is in its place.
    Installed,
}

/// Fetches the package `name` and has it installed.
///
/// # Errors
/// Why it is not. What arrived stays.
pub async fn pull(source: &Source, name: &str, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<()> {
    tell(Progress::Catalogue);
    let fetcher = Fetcher::new(source.authority.as_deref(), source.patience).await?;
    let listed = fetcher.get(&address(&source.catalogue)?, 0).await?;
    let base = listed.address.clone();
    let package = Catalogue::parse(&listed.whole(catalogue::LONGEST).await?, &base)?.package(name)?;
    Pull { source, fetcher, package, breaks: 0 }.run(tell).await
}

struct Pull<'a> {
    source: &'a Source,
    fetcher: Fetcher,
    package: Package,
    breaks: u32,
}

impl Pull<'_> {
    async fn run(mut self, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<()> {
        let Package { name: model, manifest, .. } = self.package.clone();
        let begun = self.asked(&Request::Begin { model: model.clone(), manifest }).await?;
        let Reply::Incoming(Incoming { installed, files, .. }) = begun else { return Err(unexpected()) };
        if installed {
            self.asked(&Request::Drop { model }).await?;
        } else {
            for piece in files {
                let origin = self.package.files.get(&piece.path).cloned().ok_or_else(unexpected)?;
                self.file(&origin, piece, tell).await?;
            }
            tell(Progress::Checking);
            self.asked(&Request::Install { model: model.clone() }).await?;
            self.placed(&model, tell).await?;
        }
        tell(Progress::Installed);
        Ok(())
    }

    /// Asks root; what else is being taken in is waited for.
    async fn asked(&self, request: &Request) -> Result<Reply> {
        let until = Instant::now() + BUSY;
        loop {
            let answered = ask(&self.source.socket, request).await;
            match answered.map_err(|failure| Refusal::new(Kind::Failed, failure.detail))? {
                Reply::Refused(refusal) if refusal.kind == Kind::Busy && Instant::now() < until => {
                    sleep(MOMENT).await;
                }
                Reply::Refused(refusal) => return Err(refusal),
                reply => return Ok(reply),
            }
        }
    }

    /// Fetches what is missing of a file.
    async fn file(
        &mut self,
        origin: &Origin,
        mut piece: Piece,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        tell(so_far(origin, &piece));
        while piece.received < piece.bytes {
            let before = piece.received;
            let broken = self.part(origin, &mut piece, tell).await?;
            if piece.received == piece.bytes {
                break;
            }
            self.breaks += 1;
            if piece.received == before || self.breaks > BREAKS {
                return Err(broken.unwrap_or_else(|| {
                    refused(format!(
                        "{} ended after {} of {} bytes.",
                        origin.address, piece.received, piece.bytes
                    ))
                }));
            }
            tracing::info!("{}: goes on from byte {}", origin.address, piece.received);
        }
        tell(so_far(origin, &piece));
        Ok(())
    }

    /// Fetches it from where it is on, as far as it comes: what broke it off, if that is known.
    async fn part(
        &self,
        origin: &Origin,
        piece: &mut Piece,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<Refusal>> {
        let mut fetched = self.fetcher.get(&origin.address, piece.received).await?;
        let missing = piece.bytes - piece.received;
        if let Some(length) = fetched.length.filter(|length| *length != missing) {
            let message = format!(
                "{} has {} bytes, and the catalogue says {}.",
                fetched.address,
                piece.received + length,
                piece.bytes
            );
            return Err(refused(message));
        }
        let (model, path) = (self.package.name.clone(), piece.path.clone());
        let asking = Request::Write { model, path, offset: piece.received };
        let failed = |failure: crate::fault::Failure| Refusal::new(Kind::Failed, failure.detail);
        let mut sending = Asked::new(&self.source.socket, &asking).await.map_err(failed)?;
        let mut tick = interval(OFTEN);
        let broken = loop {
            let next = {
                let mut coming = pin!(fetched.piece());
                loop {
                    tokio::select! {
                        next = &mut coming => break next,
                        _ = tick.tick() => tell(so_far(origin, piece)),
                    }
                }
            };
            match next {
                // What is not wanted any more, the answer says why.
                Ok(Some(bytes)) if !sending.send(&bytes).await => break None,
                Ok(Some(bytes)) => piece.received += bytes.len() as u64,
                Ok(None) => break None,
                Err(refusal) => break Some(refusal),
            }
        };
        match sending.answer().await.map_err(failed)? {
            Reply::Received(there) => {
                *piece = there;
                Ok(broken)
            }
            Reply::Refused(refusal) => Err(refusal),
            _ => Err(unexpected()),
        }
    }

    /// Waits until it is in its place.
    async fn placed(&self, model: &str, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<()> {
        let (mut checked, mut since) = (0, Instant::now());
        loop {
            match read(&self.source.told).filter(|told| told.model == model) {
                Some(Told { state: State::Installed, .. }) => return Ok(()),
                Some(Told { state: State::Failed, why, .. }) => {
                    return Err(Refusal::new(Kind::Incomplete, why.unwrap_or_default()));
                }
                Some(told) if told.checked != checked => {
                    (checked, since) = (told.checked, Instant::now());
                    tell(Progress::Checking);
                }
                Some(_) => {}
                // The next one is being put in its place already.
                None => {
                    let gone = self.asked(&Request::Look { model: model.into() }).await;
                    return match gone {
                        Err(refusal) if refusal.kind == Kind::Unknown => Ok(()),
                        _ => Err(Refusal::new(
                            Kind::Incomplete,
                            format!("{model:?} was not installed: pull it again."),
                        )),
                    };
                }
            }
            if since.elapsed() > CHECKING {
                let message = format!("It is not known how {model:?} goes on: look at the appliance's page.");
                return Err(Refusal::new(Kind::Failed, message));
            }
            sleep(MOMENT).await;
        }
    }
}

/// What root tells of the last package that was put in its place, or is being.
fn read(told: &Path) -> Option<Told> {
    serde_json::from_slice(&std::fs::read(told.join(NAME)).ok()?).ok()
}

fn so_far(origin: &Origin, piece: &Piece) -> Progress {
    Progress::File { sha256: origin.sha256.clone(), bytes: piece.bytes, received: piece.received }
}

fn unexpected() -> Refusal {
    Refusal::new(Kind::Failed, "What takes models in is of another version.")
}
