//! Waiting for what a test expects, but not for ever.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Whatever is expected has happened by then, however busy the computer is.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is there.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::yield_now();
    }
}

/// Waits until there is something to read or, where `fd` is a process, that has ended.
fn ready(fd: impl AsFd, what: &str, deadline: Instant) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut entry = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry, which outlives the call.
        let found = unsafe { libc::poll(&raw mut entry, 1, i32::try_from(left).unwrap()) };
        if found > 0 {
            return;
        }
        assert!(found != 0, "not within {LIMIT:?}: {what}");
        assert_eq!(io::Error::last_os_error().kind(), io::ErrorKind::Interrupted);
    }
}

/// How a process ends.
pub fn ended(child: &mut Child, what: &str) -> ExitStatus {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    ready(process, &format!("the end of {what}"), Instant::now() + LIMIT);
    child.wait().unwrap()
}

/// The kernel's log, the machine's events or what a process prints, line by line.
pub struct Lines<R> {
    source: R,
    begun: Vec<u8>,
}

impl<R: Read + AsFd> Lines<R> {
    pub fn new(source: R) -> Self {
        Self { source, begun: Vec::new() }
    }

    fn next_before(&mut self, what: &str, deadline: Instant) -> String {
        loop {
            if let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                let line = std::mem::replace(&mut self.begun, rest);
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            ready(&self.source, what, deadline);
            let mut bytes = [0; 4096];
            let read = self.source.read(&mut bytes).unwrap();
            assert!(read != 0, "it ended without {what}");
            self.begun.extend_from_slice(&bytes[..read]);
        }
    }

    /// The next line, which should be `what`.
    pub fn next(&mut self, what: &str) -> String {
        self.next_before(what, Instant::now() + LIMIT)
    }

    /// The next line with `text` in it.
    pub fn with(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        let what = format!("a line with {text:?}");
        loop {
            let line = self.next_before(&what, deadline);
            if line.contains(text) {
                return line;
            }
        }
    }
}
