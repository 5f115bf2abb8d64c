//! The thread that writes. What cannot be written now is kept, up to a bound, and tried
//! again.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::record::{History, Record, What};
use super::{Ledger, golden};
use crate::fault::{Failure, Fault};
use crate::sys::store;

const NAME: &str = "ledger.jsonl";
/// A longer ledger is shortened.
const LONGEST: u64 = 1024 * 1024;
/// No more of a damaged ledger is read.
const READ: u64 = 4 * LONGEST;
/// Records kept while they cannot be written; the oldest go first.
const KEPT: usize = 1024;
/// Wait between attempts.
const RETRY: Duration = Duration::from_secs(5);
/// The operating time is recorded at least this often.
const MARK: Duration = Duration::from_secs(3600);

/// What the thread is asked for.
pub enum Order {
    Record(Record),
    /// The recorded answers, as the file shall read.
    Golden(Vec<u8>),
    /// Tell when everything before this is on the disk, or failed.
    Flush(oneshot::Sender<bool>),
}

/// Reads the ledger in `directory`. One that cannot be read is an empty one.
pub fn read(directory: &Path) -> History {
    let path = directory.join(NAME);
    let text = match tail(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return History::default(),
        Err(e) => {
            error!("{}", Failure::new(Fault::State, format!("{}: {e}", path.display())));
            return History::default();
        }
    };
    let (history, broken) = History::parse(&text);
    if broken > 0 {
        warn!("{}: {broken} broken lines were skipped", path.display());
    }
    history
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ)))?;
    let mut bytes = Vec::new();
    file.take(READ).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The state of the writing thread.
pub struct Writer {
    directory: PathBuf,
    /// Stamps the marks.
    clock: Ledger,
    file: Option<File>,
    waiting: VecDeque<Record>,
    golden: Option<Vec<u8>>,
    /// Whether the last attempt failed, which was reported.
    ailing: bool,
}

impl Writer {
    pub fn new(directory: &Path, clock: Ledger) -> Self {
        Self {
            directory: directory.into(),
            clock,
            file: None,
            waiting: VecDeque::new(),
            golden: None,
            ailing: false,
        }
    }

    /// Serves until no ledger is left to send orders.
    pub fn run(mut self, orders: &Receiver<Order>) {
        let mut marked = Instant::now();
        loop {
            let pause = if self.is_done() { MARK.saturating_sub(marked.elapsed()) } else { RETRY };
            let mut flushes = Vec::new();
            let ended = match orders.recv_timeout(pause) {
                Ok(order) => {
                    // What came meanwhile is written in one go.
                    std::iter::once(order).chain(orders.try_iter()).for_each(|order| match order {
                        Order::Record(record) => self.keep(record),
                        Order::Golden(bytes) => self.golden = Some(bytes),
                        Order::Flush(done) => flushes.push(done),
                    });
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if marked.elapsed() >= MARK {
                marked = Instant::now();
                self.keep(self.clock.stamp(What::Mark));
            }
            self.attempt();
            for done in flushes {
                // Fails where nobody waits any more.
                let _ = done.send(self.is_done());
            }
            if ended {
                return;
            }
        }
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.golden.is_none()
    }

    fn keep(&mut self, record: Record) {
        if self.waiting.len() >= KEPT {
            self.waiting.pop_front();
        }
        self.waiting.push_back(record);
    }

    fn attempt(&mut self) {
        if self.is_done() {
            return;
        }
        let result = self.write();
        let failed = result.is_err();
        match result {
            Ok(()) if self.ailing => info!("{}: can be written again", self.directory.display()),
            Ok(()) => {}
            Err(e) if self.ailing => tracing::debug!("{}: {e}", self.directory.display()),
            Err(e) => {
                let detail = format!("{}: {e}", self.directory.display());
                error!(code = Fault::State.code(), "{}", Failure::new(Fault::State, detail));
            }
        }
        self.ailing = failed;
    }

    fn write(&mut self) -> io::Result<()> {
        // Taken out on success alone: a file that failed is opened anew.
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&self.directory)?,
        };
        let lines: String = self.waiting.iter().filter_map(Record::line).collect();
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        self.waiting.clear();
        if file.metadata()?.len() > LONGEST {
            shorten(&self.directory.join(NAME))?;
        } else {
            self.file = Some(file);
        }
        if let Some(bytes) = &self.golden {
            store::replace(&self.directory.join(golden::NAME), bytes)?;
            self.golden = None;
        }
        Ok(())
    }
}

/// Opens the ledger for writing at its end, on a line of its own: a power cut or a full
/// disk may have left half a line.
fn open(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let path = directory.join(NAME);
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
    store::sync_directory(&path)?;
    let mut last = [0];
    if file.seek(SeekFrom::End(-1)).is_ok() && file.read(&mut last)? == 1 && last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// Keeps the newest half of the ledger at `path`; of marks, whose only use is the
/// operating time, the newest alone.
fn shorten(path: &Path) -> io::Result<()> {
    let text = tail(path)?;
    let mark = |line: &str| Record::parse(line).is_some_and(|record| record.what == What::Mark);
    let mut room = usize::try_from(LONGEST / 2).unwrap_or(usize::MAX);
    let mut marked = false;
    let newest_first =
        text.lines().rev().filter(|line| !(mark(line) && std::mem::replace(&mut marked, true)));
    let kept: Vec<&str> = newest_first
        .take_while(|line| {
            let fits = line.len() < room;
            room = room.saturating_sub(line.len() + 1);
            fits
        })
        .collect();
    let text: String = kept.iter().rev().flat_map(|line| [line, "\n"]).collect();
    store::replace(path, text.as_bytes())
}
