//! The library's side: a process's connection to the emulated machine.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::wire::{Answer, Ask, Said, Tell};
use crate::card::Card;
use crate::card::code::Code;
use crate::card::condition::Condition;

/// The machine's socket in the control directory.
pub const SOCKET: &str = "machine.sock";
/// The made-up `/` in the control directory.
pub const ROOT: &str = "root";
/// Held open from axclInit to axclFinalize.
const NODE: &str = "dev/axcl_host";
/// Held open while the device is active.
const CHANNEL_NODES: [&str; 2] = ["dev/msg_userdev", "dev/ax_mmb_dev"];

/// A process's connection to the machine. It holds the driver's nodes open.
pub struct Attachment {
    root: PathBuf,
    stream: Arc<Stream>,
    answers: Mutex<Receiver<Answer>>,
    reader: Option<JoinHandle<()>>,
    leaving: Arc<AtomicBool>,
    card: Arc<Card>,
    _node: File,
    channel: Mutex<Vec<File>>,
    /// Whether the driver listed a card when it was asked.
    pub listed: bool,
}

fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap_or_default().trim().to_owned()
}

/// The connection. Whole lines are written to it by whoever has something to say.
struct Stream {
    socket: UnixStream,
    writing: Mutex<()>,
}

impl Stream {
    fn say(&self, said: &Said) -> io::Result<()> {
        let line = serde_json::to_string(said)?;
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.socket).write_all(format!("{line}\n").as_bytes())
    }
}

fn listen(stream: &Stream, card: &Card, leaving: &AtomicBool, answers: &Sender<Answer>) {
    for line in BufReader::new(&stream.socket).lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Tell::Condition { number, condition }) => {
                card.condition.set(condition);
                // If the machine is gone, that shows above.
                let _ = stream.say(&Said::Heard(number));
            }
            Ok(Tell::Answer(answer)) => {
                let _ = answers.send(answer);
            }
            Err(_) => break,
        }
    }
    if !leaving.load(Ordering::Acquire) {
        card.condition.lose();
    }
}

impl Attachment {
    /// Opens the driver of the machine in `folder`; `None` if there is no machine.
    ///
    /// # Errors
    /// [`Code::OPEN`] when its node cannot be opened, with the reason.
    pub fn open(folder: &Path, card: &Arc<Card>) -> Result<Option<Self>, (Code, String)> {
        let socket = folder.join(SOCKET);
        if !socket.exists() {
            return Ok(None);
        }
        let root = folder.join(ROOT);
        let refused = |e: io::Error| {
            (Code::OPEN, format!("open /dev/axcl_host fail, errno: {}", e.raw_os_error().unwrap_or(0)))
        };
        let socket = UnixStream::connect(&socket).map_err(refused)?;
        let stream = Arc::new(Stream { socket, writing: Mutex::default() });
        let node = File::open(root.join(NODE)).map_err(refused)?;
        let (sender, answers) = mpsc::channel();
        let leaving = Arc::new(AtomicBool::new(false));
        let reader = {
            let (stream, card) = (Arc::clone(&stream), Arc::clone(card));
            let leaving = Arc::clone(&leaving);
            std::thread::Builder::new()
                .name("rt-listen".into())
                .spawn(move || listen(&stream, &card, &leaving, &sender))
                .map_err(refused)?
        };
        let mut attachment = Self {
            root,
            stream,
            answers: Mutex::new(answers),
            reader: Some(reader),
            leaving,
            card: Arc::clone(card),
            _node: node,
            channel: Mutex::default(),
            listed: false,
        };
        let hello = Ask::Attach { pid: std::process::id(), name: own_name() };
        attachment.listed =
            attachment.ask(hello).map_err(|code| (code, "the driver went away".into()))?.listed;
        Ok(Some(attachment))
    }

    fn ask(&self, ask: Ask) -> Result<Answer, Code> {
        // One after the other, as behind the driver's mutex.
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        self.stream.say(&Said::Ask(ask)).map_err(|_| Code::OPEN)?;
        let answer = answers.recv().map_err(|_| Code::OPEN)?;
        answer.code.map_or(Ok(answer), Err)
    }

    fn channel(&self) -> std::sync::MutexGuard<'_, Vec<File>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for ports and opens the nodes of the channel.
    ///
    /// # Errors
    /// [`Code::PORTS`] as the driver says, perhaps after long; [`Code::OPEN`].
    pub fn activate(&self) -> Result<(), Code> {
        self.ask(Ask::Activate {})?;
        let open = |node| File::open(self.root.join(node)).map_err(|_| Code::OPEN);
        *self.channel() = CHANNEL_NODES.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Gives the ports back.
    pub fn release(&self) {
        self.channel().clear();
        let _ = self.ask(Ask::Release {});
    }

    /// Resets the card and pushes its firmware.
    ///
    /// # Errors
    /// [`Code::REBOOT`].
    pub fn reboot(&self) -> Result<(), Code> {
        self.channel().clear();
        self.ask(Ask::Reboot {}).map(|_| ())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::Release);
        let _ = self.stream.socket.shutdown(std::net::Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.card.condition.set(Condition::default());
    }
}
