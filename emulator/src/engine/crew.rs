//! The threads that compute one call together.
//!
//! A call is a sequence of work lists. Whoever is free takes the next piece of the current
//! list; a list is finished when its pieces are done, not when everybody has arrived. So on
//! a busy machine a call never waits for a helper that has no processor, and one thread
//! alone gets through. Waiting is active for a moment only: an idle appliance burns nothing.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Work lists per call.
const LISTS: usize = 12;
/// Turns of active waiting before the processor is offered to others.
const PATIENCE: u32 = 1_000;
/// Turns a helper waits for the next call before it sleeps: longer than the pause between
/// two layers, well below a millisecond.
const ATTENTION: u32 = 10_000;

/// Who computes.
#[derive(Clone, Copy, Debug)]
pub enum Crew {
    /// The caller, helped by threads kept between calls, one per further core.
    Pool,
    /// So many new threads per call.
    #[cfg(test)]
    Fresh(usize),
}

impl Crew {
    /// Runs `work` on the caller and on every helper that is free.
    ///
    /// # Panics
    /// When `work` panics on any thread.
    pub fn run(self, work: impl Fn(&Member) + Sync) {
        match self {
            Crew::Pool => Pool::shared().run(&work),
            #[cfg(test)]
            Crew::Fresh(members) => {
                let call = Call::new(&work, members);
                std::thread::scope(|scope| {
                    for _ in 0..members {
                        scope.spawn(|| call.join());
                    }
                });
            }
        }
    }
}

/// One list of work: what is taken, what is done.
#[derive(Default)]
struct List {
    taken: AtomicUsize,
    done: AtomicUsize,
}

/// What the threads of one call share.
struct Call<'a> {
    work: &'a (dyn Fn(&Member) + Sync),
    members: usize,
    lists: [List; LISTS],
    failed: AtomicBool,
}

impl<'a> Call<'a> {
    fn new(work: &'a (dyn Fn(&Member) + Sync), members: usize) -> Self {
        Self { work, members, lists: Default::default(), failed: AtomicBool::new(false) }
    }

    fn join(&self) {
        (self.work)(&Member(self));
    }
}

/// Waits for `ready`, offering the processor to others after a moment.
fn wait(ready: impl Fn() -> bool) {
    let mut turns = 0;
    while !ready() {
        if turns < PATIENCE {
            turns += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// One thread's part in a call.
pub struct Member<'a>(&'a Call<'a>);

impl Member<'_> {
    /// Takes pieces of at most `size` items from list `list` of `total` until none are left.
    ///
    /// # Panics
    /// When there is no such list.
    pub fn share(&self, list: usize, total: usize, size: usize, mut work: impl FnMut(Range<usize>)) {
        let Some(list) = self.0.lists.get(list) else { unreachable!("no work list {list}") };
        loop {
            let start = list.taken.fetch_add(size, Ordering::Relaxed);
            if start >= total {
                return;
            }
            let piece = start..total.min(start + size);
            let len = piece.len();
            work(piece);
            list.done.fetch_add(len, Ordering::Release);
        }
    }

    /// Waits until all `total` items of `list` are done, whoever does them; their results
    /// are visible afterwards.
    ///
    /// # Panics
    /// When a thread of this call panicked.
    pub fn settle(&self, list: usize, total: usize) {
        let done = |list: &List| list.done.load(Ordering::Acquire) >= total;
        wait(|| self.0.lists.get(list).is_none_or(done) || self.0.failed.load(Ordering::Relaxed));
        assert!(!self.0.failed.load(Ordering::Relaxed), "another computing thread failed");
    }

    /// [`Self::share`], then [`Self::settle`].
    pub fn all(&self, list: usize, total: usize, size: usize, work: impl FnMut(Range<usize>)) {
        self.share(list, total, size, work);
        self.settle(list, total);
    }

    /// A piece size that gives every thread several pieces, in multiples of `unit`.
    pub fn piece(&self, total: usize, unit: usize) -> usize {
        let pieces = if self.0.members == 1 { 1 } else { self.0.members * 4 };
        total.div_ceil(pieces).next_multiple_of(unit)
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// The call helpers may join.
#[derive(Clone, Copy)]
struct Offer(*const Call<'static>);

// SAFETY: a `Call` is only used through shared references and is `Sync`: its work is.
unsafe impl Send for Offer {}

struct Board {
    offer: Option<Offer>,
    sleepers: usize,
}

/// Helpers kept between calls.
struct Pool {
    helpers: usize,
    board: Mutex<Board>,
    bell: Condvar,
    /// Counts offers, so that helpers can watch without the lock.
    offers: AtomicUsize,
    /// Helpers inside the offered call.
    inside: AtomicUsize,
    /// Calls run one after the other.
    turn: Mutex<()>,
}

impl Pool {
    fn shared() -> &'static Pool {
        static POOL: OnceLock<Pool> = OnceLock::new();
        static STARTED: OnceLock<()> = OnceLock::new();
        let pool = POOL.get_or_init(|| Pool {
            helpers: std::thread::available_parallelism().map_or(0, |n| n.get() - 1),
            board: Mutex::new(Board { offer: None, sleepers: 0 }),
            bell: Condvar::new(),
            offers: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            turn: Mutex::new(()),
        });
        STARTED.get_or_init(|| {
            for n in 0..pool.helpers {
                // Without a thread the others do its work.
                let _ = std::thread::Builder::new().name(format!("compute-{n}")).spawn(|| pool.help());
            }
        });
        pool
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, work: &(dyn Fn(&Member) + Sync)) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let call = Call::new(work, self.helpers + 1);
        let mut board = self.board();
        board.offer = Some(Offer((&raw const call).cast()));
        self.offers.fetch_add(1, Ordering::Release);
        let sleepers = board.sleepers;
        drop(board);
        if sleepers > 0 {
            self.bell.notify_all();
        }
        let result = catch_unwind(AssertUnwindSafe(|| call.join()));
        self.board().offer = None;
        wait(|| self.inside.load(Ordering::Acquire) == 0);
        drop(turn);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        assert!(!call.failed.load(Ordering::Relaxed), "another computing thread failed");
    }

    /// A helper's life.
    fn help(&self) {
        let mut seen = 0;
        loop {
            for _ in 0..ATTENTION {
                if self.offers.load(Ordering::Acquire) != seen {
                    break;
                }
                std::hint::spin_loop();
            }
            let mut board = self.board();
            while self.offers.load(Ordering::Acquire) == seen {
                board.sleepers += 1;
                board = self.bell.wait(board).unwrap_or_else(PoisonError::into_inner);
                board.sleepers -= 1;
            }
            seen = self.offers.load(Ordering::Acquire);
            let Some(Offer(call)) = board.offer else { continue };
            self.inside.fetch_add(1, Ordering::Relaxed);
            drop(board);
            // SAFETY: the offer stood while the lock was held, and `inside` was raised before
            // it was released; the offering thread withdraws the offer under the lock and
            // keeps the call until `inside` is zero again.
            let call = unsafe { &*call };
            // A panic is marked in the call, and the offering thread raises it.
            let _ = catch_unwind(AssertUnwindSafe(|| call.join()));
            self.inside.fetch_sub(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::Shared;
    use super::*;

    fn reversed_sums(crew: Crew) -> Vec<usize> {
        let mut first = vec![0usize; 100];
        let mut second = vec![0usize; 100];
        let (a, b) = (Shared::new(&mut first), Shared::new(&mut second));
        crew.run(|member| {
            member.all(0, 100, 7, |range| {
                for i in range {
                    // SAFETY: every index is taken once.
                    unsafe { a.part(i..i + 1)[0] += i };
                }
            });
            member.all(1, 100, 3, |range| {
                for i in range {
                    // SAFETY: every index is taken once; `a` is only read now.
                    unsafe { b.part(i..i + 1)[0] += a.view(99 - i..100 - i)[0] };
                }
            });
        });
        second
    }

    #[test]
    fn threads_share_lists_and_see_each_others_work_once_settled() {
        let wanted: Vec<usize> = (0..100).map(|i| 99 - i).collect();
        for members in [1, 2, 5] {
            assert_eq!(reversed_sums(Crew::Fresh(members)), wanted);
        }
        for _ in 0..200 {
            assert_eq!(reversed_sums(Crew::Pool), wanted);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_spares_the_pool() {
        let failing = || {
            Crew::Pool.run(|member| {
                member.all(0, 50, 1, |range| assert_ne!(range.start, 25));
            });
        };
        assert!(catch_unwind(failing).is_err());
        assert_eq!(reversed_sums(Crew::Pool)[0], 99);
    }
}
