//! Pointers as C programs pass them. Only C constructs these types, by calling an exported
//! function; the contract of those functions is that a pointer is null or valid for what
//! the function does with it.

use std::ffi::{CStr, c_char, c_void};

use crate::card::code::Code;

/// Where the caller wants a result.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Stores the result; `null` is the error if there is no place for it.
    pub fn set(&self, value: T, null: Code) -> Result<(), Code> {
        self.check(null)?;
        // SAFETY: not null, so the caller vouches for it (see the module).
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Refuses a null pointer.
    pub fn check(&self, null: Code) -> Result<(), Code> {
        if self.0.is_null() { Err(null) } else { Ok(()) }
    }
}

/// A C string.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The string; `null` is the error if there is none.
    pub fn get(&self, null: Code) -> Result<&CStr, Code> {
        self.optional().ok_or(null)
    }

    /// The string, if there is one.
    pub fn optional(&self) -> Option<&CStr> {
        // SAFETY: not null, so the caller vouches for it (see the module).
        (!self.0.is_null()).then(|| unsafe { CStr::from_ptr(self.0) })
    }
}

/// An address that may be the host's or the card's.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Address(*mut c_void);

// SAFETY: an address is a number; queued work dereferences it under the caller's promise
// that host memory stays valid until the stream is synchronised.
unsafe impl Send for Address {}

impl Address {
    /// As a pointer of the host.
    pub fn raw(self) -> *mut c_void {
        self.0
    }

    /// As a card address.
    pub fn card(self) -> u64 {
        self.0.addr() as u64
    }

    /// Refuses a null address.
    pub fn check(self, null: Code) -> Result<Self, Code> {
        if self.0.is_null() { Err(null) } else { Ok(self) }
    }

    /// `len` bytes of host memory, to read now.
    pub fn host(&self, len: usize) -> &[u8] {
        // SAFETY: callers check for null; the caller vouches for the rest (see the module).
        // A card address lies in a range without access: reading it ends the process, as
        // it does with the real card.
        unsafe { std::slice::from_raw_parts(self.0.cast(), len) }
    }

    /// `len` bytes of host memory, to write now.
    pub fn host_mut(&mut self, len: usize) -> &mut [u8] {
        // SAFETY: as in `host`.
        unsafe { std::slice::from_raw_parts_mut(self.0.cast(), len) }
    }

    /// Copies `len` bytes of host memory here; the two may overlap.
    pub fn move_host(self, from: Address, len: usize) {
        // SAFETY: as in `host`, for both.
        unsafe { std::ptr::copy(from.0.cast::<u8>(), self.0.cast::<u8>(), len) };
    }
}

/// An opaque handle: a number that names an object, never dereferenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Handle(pub usize);

impl Handle {
    pub const NULL: Handle = Handle(0);
}
