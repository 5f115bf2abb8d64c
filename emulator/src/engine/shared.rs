//! Memory that the threads of one call write in disjoint parts.

use std::marker::PhantomData;
use std::ops::Range;

/// A slice whose parts go to different threads.
pub struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    lives: PhantomData<&'a mut [T]>,
}

// SAFETY: all access goes through the unsafe methods below, whose callers promise disjointness.
unsafe impl<T: Send + Sync> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Lends `slice` to a crew.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lives: PhantomData }
    }

    /// A part to write.
    ///
    /// # Safety
    /// Nobody else uses any of `part` until the work list that writes it is settled.
    ///
    /// # Panics
    /// When `part` lies outside the slice.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, part: Range<usize>) -> &mut [T] {
        assert!(part.start <= part.end && part.end <= self.len, "part outside a shared slice");
        // SAFETY: within bounds as just checked, exclusive as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(part.start), part.len()) }
    }

    /// A part to read.
    ///
    /// # Safety
    /// Nobody writes any of `part` while the result lives.
    ///
    /// # Panics
    /// When `part` lies outside the slice.
    pub unsafe fn view(&self, part: Range<usize>) -> &[T] {
        assert!(part.start <= part.end && part.end <= self.len, "part outside a shared slice");
        // SAFETY: within bounds as just checked, nobody writes as the caller promises.
        unsafe { std::slice::from_raw_parts(self.start.add(part.start), part.len()) }
    }
}
