//! The emulated host side of the card: what outlives a process that uses it.
//!
//! | to change | open |
//! |---|---|
//! | what can be broken, its options and what mends it | `breakage.rs`, `mending.rs` |
//! | what follows from the state | `host.rs` |
//! | processes with the driver open | `processes.rs` |
//! | the heartbeat | `heartbeat.rs` |
//! | firmware, ports, restart of the card | `driver.rs` |
//! | PCI, the host's reboot | `bus.rs` |
//! | the kernel's files | `root.rs`, `module.rs` |
//! | modprobe, rmmod, systemctl | `programs.rs` |
//! | commands | `commands.rs` |
//! | what attached processes ask | `requests.rs` |
//! | what the card's library says and hears | `wire.rs`, `attachment.rs` |

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use root::Knob;

pub mod attachment;
pub mod breakage;
mod bus;
mod commands;
mod driver;
mod heartbeat;
mod host;
mod mending;
mod module;
mod processes;
pub mod programs;
mod requests;
mod root;
pub mod settings;
pub mod signals;
mod wire;

use breakage::Breakage;
use host::Host;
use settings::Settings;

pub use host::append;

/// How long a process that does not take in what it is told holds anyone up.
const HEARING: Duration = Duration::from_secs(1);

/// The machine: its host, and the locks the kernel's own work takes.
pub struct Machine {
    host: Mutex<Host>,
    changed: Condvar,
    /// The driver's mutex, behind which every request waits.
    driver: Mutex<()>,
    /// One module is loaded or unloaded at a time.
    modules: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// Starts the machine in `dir`. It answers when this returns, for the rest of the
    /// process's life.
    ///
    /// # Errors
    /// When its files, socket or threads cannot be had.
    pub fn start(
        dir: &Path,
        settings: Settings,
        broken: Vec<Breakage>,
        loaded: bool,
    ) -> io::Result<Arc<Self>> {
        std::fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let socket = dir.join(attachment::SOCKET);
        let _ = std::fs::remove_file(&socket);
        let host = Host::new(&dir, &std::env::current_exe()?, settings)?;
        let machine = Arc::new(Self {
            host: Mutex::new(host),
            changed: Condvar::new(),
            driver: Mutex::default(),
            modules: Mutex::default(),
        });
        machine.change(|host| {
            for breakage in broken {
                host.break_it(breakage);
            }
        });
        for knob in Knob::ALL {
            let machine = Arc::clone(&machine);
            spawn("knob", move || {
                let root = lock(&machine.host).dir.clone();
                let turned = |knob, text: &str| machine.change(|host| host.turn(knob, text));
                host::note(root::watch(&root, knob, turned));
            })?;
        }
        {
            let machine = Arc::clone(&machine);
            spawn("clock", move || machine.keep_time())?;
        }
        if loaded {
            programs::load_driver(&machine);
        }
        let listener = UnixListener::bind(&socket)?;
        {
            let machine = Arc::clone(&machine);
            spawn("listen", move || {
                for stream in listener.incoming().flatten() {
                    let machine = Arc::clone(&machine);
                    host::note(spawn("serve", move || commands::serve(&machine, &stream)));
                }
            })?;
        }
        Ok(machine)
    }

    /// Takes the socket away: the machine is about to end.
    pub fn stop(&self) {
        let _ = std::fs::remove_file(lock(&self.host).dir.join(attachment::SOCKET));
    }

    /// Changes the state, draws the consequences and waits until the processes act on them.
    fn change<R>(&self, change: impl FnOnce(&mut Host) -> R) -> R {
        let mut host = lock(&self.host);
        let result = change(&mut host);
        host.settle();
        self.changed.notify_all();
        drop(self.until_heard(host));
        result
    }

    /// Waits until every process has in force what it was told so far, or is found not to
    /// listen: stopped, for instance.
    fn until_heard<'a>(&self, mut host: MutexGuard<'a, Host>) -> MutexGuard<'a, Host> {
        let (number, deadline) = (host.tellings, Instant::now() + HEARING);
        while host.is_owed(number) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                host.give_up(number);
                break;
            }
            host = self.changed.wait_timeout(host, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        host
    }

    /// Notes what is known of a process's hearing.
    fn hear(&self, note: impl FnOnce(&mut Host)) {
        note(&mut lock(&self.host));
        self.changed.notify_all();
    }

    /// Waits until the state is as `wanted`.
    fn wait_until(&self, wanted: impl Fn(&Host) -> bool) {
        let mut host = lock(&self.host);
        while !wanted(&host) {
            host = self.changed.wait(host).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// After a crash the kernel's own work does not go on before the next boot.
    fn wait_sane(&self) {
        self.wait_until(|host| host.oopses.is_empty());
    }

    /// Lets time pass, holding up only the caller.
    fn pass(ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    /// Does what was planned when it is due.
    fn keep_time(&self) {
        let mut host = lock(&self.host);
        loop {
            // Each deed finds the processes knowing of those before it.
            host = self.until_heard(host);
            let next = host.deeds.iter().enumerate().min_by_key(|(_, (due, _))| *due);
            let next = next.map(|(at, (due, _))| (at, due.saturating_duration_since(Instant::now())));
            host = match next {
                Some((at, Duration::ZERO)) => {
                    let (_, deed) = host.deeds.swap_remove(at);
                    host.act(deed);
                    host.settle();
                    self.changed.notify_all();
                    host
                }
                Some((_, left)) => {
                    self.changed.wait_timeout(host, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(host).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(|_| ())
}
