//! Processor time.

use std::time::Duration;

fn spent(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the struct it is given.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Of all threads so far.
pub fn of_all() -> Duration {
    spent(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Of the calling thread so far.
pub fn of_thread() -> Duration {
    spent(libc::CLOCK_THREAD_CPUTIME_ID)
}
