//! What the runtime keeps per process: reference counts, which thread is bound to what,
//! and the objects behind handles.
//!
//! Bindings are kept by kernel thread id and never cleaned when a thread ends, as the
//! vendor's are.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::io::{Io, IoInfo};
use super::log::{self, Log};
use super::pointer::Handle;
use crate::card::code::{Code, Module};
use crate::card::memory::Range;
use crate::card::stream::{Event, Stream};
use crate::card::{Card, control, latency::Latency, reservation};
use crate::machine::attachment::Attachment;

/// A context: work of its own and a default stream.
pub struct Context {
    pub default: Arc<Stream>,
    pub default_handle: Handle,
}

/// A stream and what it belongs to.
#[derive(Clone)]
pub struct OpenStream {
    pub stream: Arc<Stream>,
    pub context: Handle,
    pub is_default: bool,
}

#[derive(Default)]
pub struct State {
    pub references: u32,
    pub devices: Vec<i32>,
    /// SetDevice calls not undone.
    pub activations: u32,
    pub default_context: Option<Handle>,
    pub thread_device: HashMap<i32, i32>,
    pub thread_context: HashMap<i32, Handle>,
    pub contexts: HashMap<Handle, Arc<Context>>,
    pub streams: HashMap<Handle, OpenStream>,
    pub events: HashMap<Handle, Arc<Event>>,
    pub infos: HashMap<Handle, Arc<IoInfo>>,
    pub ios: HashMap<Handle, Io>,
    /// Engine contexts: id → engine.
    pub engine_contexts: HashMap<u64, u64>,
    /// The kind EngineInit was given.
    pub engine_kind: Option<i32>,
    handles: usize,
    configured: bool,
}

impl State {
    /// A handle never used before.
    pub fn new_handle(&mut self) -> Handle {
        self.handles += 1;
        Handle(self.handles << 4)
    }

    /// Creates a context and binds `thread` to it.
    pub fn new_context(&mut self, thread: i32) -> Handle {
        let (context, default_handle) = (self.new_handle(), self.new_handle());
        let default = Arc::<Stream>::default();
        let stream = OpenStream { stream: Arc::clone(&default), context, is_default: true };
        self.streams.insert(default_handle, stream);
        self.contexts.insert(context, Arc::new(Context { default, default_handle }));
        self.thread_context.insert(thread, context);
        context
    }

    /// Ends the channel to the card: contexts, streams and what depends on them are gone.
    /// Thread bindings stay and name nothing.
    pub fn close_channel(&mut self) {
        for open in self.streams.values() {
            open.stream.close(true);
        }
        self.activations = 0;
        self.default_context = None;
        self.streams.clear();
        self.contexts.clear();
        self.events.clear();
        self.engine_contexts.clear();
        self.engine_kind = None;
    }
}

/// The process's runtime.
pub struct Process {
    pub card: Arc<Card>,
    pub log: Arc<Log>,
    state: Mutex<State>,
    /// The emulated machine, from axclInit to axclFinalize, where there is one.
    attachment: Mutex<Option<Arc<Attachment>>>,
}

static PROCESS: LazyLock<Process> = LazyLock::new(|| Process {
    card: Arc::new(Card::default()),
    log: Arc::default(),
    state: Mutex::default(),
    attachment: Mutex::default(),
});

/// The process's runtime.
pub fn process() -> &'static Process {
    &PROCESS
}

/// The kernel's id of the calling thread.
pub fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

impl Process {
    /// Locks the bookkeeping. Never held while anything waits.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the environment into account, once: the first axclInit does.
    ///
    /// # Errors
    /// What is wrong with it, in words; the next axclInit tries again.
    pub fn configure(&self) -> Result<(), String> {
        if std::mem::replace(&mut self.state().configured, true) {
            return Ok(());
        }
        self.use_environment().inspect_err(|_| self.state().configured = false)
    }

    fn use_environment(&self) -> Result<(), String> {
        let folder = std::env::var_os("AXCL_EMU_DIR").map(PathBuf::from);
        let profile = std::env::var("AXCL_EMU_LATENCY").ok();
        let file = folder.as_ref().map(|folder| folder.join("latency.json"));
        self.card.set_latency(Latency::choose(profile.as_deref(), file.as_deref())?);
        if let Some(folder) = folder {
            self.card.faults.note_in(&folder.join("acted.jsonl"));
            self.card.faults.watch(&folder.join("faults"));
            let socket = folder.join("control.sock");
            control::listen(&self.card, &socket).map_err(|e| format!("{}: {e}", socket.display()))?;
        }
        if let Err(e) = reservation::reserve() {
            // Everything works without; only the crash on a wrong dereference is missing.
            let _ = writeln!(std::io::stderr(), "emulated card: its addresses are not guarded: {e}");
        }
        Ok(())
    }

    /// The machine this process is attached to.
    pub fn attachment(&self) -> Option<Arc<Attachment>> {
        self.attachment.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the driver of the emulated machine, if there is one. Afterwards, whether a card
    /// is listed.
    ///
    /// # Errors
    /// [`Code::OPEN`].
    pub fn attach(&self) -> Result<bool, Code> {
        let Some(folder) = std::env::var_os("AXCL_EMU_DIR").map(PathBuf::from) else { return Ok(true) };
        let attachment = Attachment::open(&folder, &self.card).map_err(|(code, reason)| {
            self.log.write(log::ERROR, "device manager", "init", line!(), &reason);
            code
        })?;
        let listed = attachment.as_ref().is_none_or(|attachment| attachment.listed);
        if !listed {
            self.log.write(log::ERROR, "device manager", "init", line!(), "no device connected");
            return Ok(false);
        }
        *self.attachment.lock().unwrap_or_else(PoisonError::into_inner) = attachment.map(Arc::new);
        Ok(true)
    }

    /// Closes the driver.
    pub fn detach(&self) {
        let attachment = self.attachment.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(attachment);
    }

    /// The calling thread's context.
    pub fn context(&self) -> Result<Arc<Context>, Code> {
        let state = self.state();
        let thread = thread_id();
        let Some(handle) = state.thread_context.get(&thread) else {
            drop(state);
            let text = format!("thread {thread} hasn't binded any context yet");
            self.log.write(log::ERROR, "context", "get_current_context", line!(), &text);
            return Err(Code::NO_CONTEXT);
        };
        state.contexts.get(handle).cloned().ok_or(Code::CHANNEL_OFFLINE)
    }

    /// The stream behind a handle; null is the calling thread's default stream.
    pub fn stream(&self, handle: Handle) -> Result<OpenStream, Code> {
        let context = self.context()?;
        let handle = if handle == Handle::NULL { context.default_handle } else { handle };
        self.state().streams.get(&handle).cloned().ok_or(Code::param(Module::Stream))
    }

    /// A range of card memory.
    pub fn range(&self, address: u64, len: usize) -> Result<Range, Code> {
        self.card.memory.range(address, len).filter(|_| len > 0).ok_or_else(|| {
            let text = format!("memory {address:#x} of {len} bytes is not card memory");
            self.log.write(log::ERROR, "memory", "range", line!(), &text);
            Code::MEMORY_FAILED
        })
    }

    /// Carries out work on the calling thread's default stream and waits for it.
    pub fn run<R>(&self, work: impl FnOnce(Instant) -> (Instant, R)) -> Result<R, Code> {
        let context = self.context()?;
        Ok(context.default.run(|ready| work(ready.max(Instant::now()))))
    }
}
