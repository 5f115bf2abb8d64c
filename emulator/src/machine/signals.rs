//! Signals of the machine and of the programs it plays.

use std::io;

use rustix::process::{Signal, getpid, kill_process};

fn ending() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set, sigaddset gets valid signal numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    }
}

/// Holds SIGTERM and SIGINT back, in this thread and those it starts. A program that waits in
/// the kernel for the driver is not ended by them either.
///
/// # Errors
/// When the kernel refuses.
pub fn hold() -> io::Result<()> {
    // SAFETY: the set is valid, the old mask is not asked for.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &ending(), std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Sends this process SIGTERM when its standard input ends.
pub fn end_with_stdin() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    let _ = kill_process(getpid(), Signal::TERM);
}

/// Waits for a signal held back.
pub fn wait() {
    let mut signal = 0;
    // SAFETY: set and place for the answer are valid.
    unsafe { libc::sigwait(&ending(), &mut signal) };
}
