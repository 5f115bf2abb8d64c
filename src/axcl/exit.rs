//! Leaving without ceremony.

unsafe extern "C" {
    fn _exit(code: i32) -> !;
}

/// Ends the process at once: no destructors, no exit handlers. The last resort when the
/// card thread does not come back: the vendor library's exit handlers would hang or abort.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any value and never returns.
    unsafe { _exit(code) }
}
