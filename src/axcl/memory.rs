//! Card memory: allocations that free themselves, and bounds-checked views of them.

use std::ffi::c_void;
use std::rc::Rc;

use super::abi::{
    DEVICE_TO_DEVICE, DEVICE_TO_HOST, DevicePointer, Function, HOST_TO_DEVICE, MALLOC_NORMAL_ONLY,
};
use super::device::Device;
use super::stream::Stream;
use crate::fault::{Failure, Fault, Result};

/// Element types that may cross the bus: any bit pattern is a value, no padding.
pub trait Element: Copy + sealed::Plain {}
impl<T: Copy + sealed::Plain> Element for T {}

mod sealed {
    pub trait Plain {}
    impl Plain for u8 {}
    impl Plain for u16 {}
    impl Plain for u32 {}
    impl Plain for half::bf16 {}
}

/// An allocation in the card's memory; contents are undefined until written.
#[derive(Clone)]
pub struct DeviceMemory(Rc<Block>);

struct Block {
    device: Device,
    address: DevicePointer,
    size: usize,
    purpose: String,
}

impl DeviceMemory {
    /// Allocates `size` bytes; `purpose` names them in failures.
    ///
    /// # Errors
    /// [`Fault::CardMemory`] if the card has too little left.
    pub fn allocate(device: &Device, size: usize, purpose: &str) -> Result<Self> {
        let mut address: DevicePointer = std::ptr::null_mut();
        let object = || format!("{size} bytes for {purpose}");
        device.runtime().call(
            Function::Malloc,
            // SAFETY: writes one pointer.
            |s| unsafe { (s.malloc)(&raw mut address, size, MALLOC_NORMAL_ONLY) },
            object,
        )?;
        if address.is_null() {
            return Err(Failure::new(Fault::CardMemory, format!("no address came for {}", object())));
        }
        let block = Block { device: device.clone(), address, size, purpose: purpose.to_owned() };
        Ok(Self(Rc::new(block)))
    }

    /// Allocates `size` bytes of zeros.
    ///
    /// # Errors
    /// As [`Self::allocate`].
    pub fn zeroed(device: &Device, size: usize, purpose: &str) -> Result<Self> {
        let memory = Self::allocate(device, size, purpose)?;
        memory.whole().fill(0)?;
        Ok(memory)
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// All of it.
    pub fn whole(&self) -> Region {
        Region { block: Rc::clone(&self.0), offset: 0, len: self.0.size }
    }

    /// `len` bytes from `offset`.
    ///
    /// # Errors
    /// [`Fault::Internal`] if they are not inside.
    pub fn slice(&self, offset: usize, len: usize) -> Result<Region> {
        match offset.checked_add(len) {
            Some(end) if end <= self.0.size => Ok(Region { block: Rc::clone(&self.0), offset, len }),
            _ => Err(Failure::new(
                Fault::Internal,
                format!("bytes {offset}+{len} are outside the {} bytes of {}", self.0.size, self.0.purpose),
            )),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.device.runtime().release(
            Function::Free,
            // SAFETY: exactly the base the card gave us, freed once.
            |s| unsafe { (s.free)(self.address) },
            || self.purpose.clone(),
        );
    }
}

/// A part of an allocation, which it keeps alive.
#[derive(Clone)]
pub struct Region {
    block: Rc<Block>,
    offset: usize,
    len: usize,
}

impl Region {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn address(&self) -> DevicePointer {
        self.block.address.wrapping_byte_add(self.offset)
    }

    /// Sets every byte.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn fill(&self, value: u8) -> Result<()> {
        self.block.device.runtime().call(
            Function::Memset,
            // SAFETY: the bytes lie inside a live allocation.
            |s| unsafe { (s.memset)(self.address(), value, self.len) },
            || self.to_string(),
        )
    }

    /// Copies host values onto the card.
    ///
    /// # Errors
    /// [`Fault::CardCall`]; [`Fault::Internal`] if the lengths differ.
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<()> {
        self.same_length(size_of_val(values))?;
        self.block.device.runtime().call(
            Function::Memcpy,
            // SAFETY: `len` bytes are readable at `values` and lie inside a live allocation.
            |s| unsafe { (s.memcpy)(self.address(), values.as_ptr().cast(), self.len, HOST_TO_DEVICE) },
            || format!("host to {self}"),
        )
    }

    /// Copies values from the card to the host.
    ///
    /// # Errors
    /// [`Fault::CardCall`]; [`Fault::Internal`] if the lengths differ.
    pub fn download<T: Element>(&self, values: &mut [T]) -> Result<()> {
        self.same_length(size_of_val(values))?;
        let host: *mut c_void = values.as_mut_ptr().cast();
        self.block.device.runtime().call(
            Function::Memcpy,
            // SAFETY: `len` bytes are writable at `values`, whose type takes any bits; the
            // card's side lies inside a live allocation.
            |s| unsafe { (s.memcpy)(host, self.address(), self.len, DEVICE_TO_HOST) },
            || format!("{self} to host"),
        )
    }

    /// Copies another region of the card over this one; waits for it.
    ///
    /// # Errors
    /// [`Fault::CardCall`]; [`Fault::Internal`] if the lengths differ.
    pub fn copy_from(&self, source: &Region) -> Result<()> {
        self.same_length(source.len)?;
        self.block.device.runtime().call(
            Function::Memcpy,
            // SAFETY: both sides lie inside live allocations on the card.
            |s| unsafe { (s.memcpy)(self.address(), source.address(), self.len, DEVICE_TO_DEVICE) },
            || format!("{source} to {self}"),
        )
    }

    /// As [`Self::copy_from`], in `stream`'s order and without waiting.
    ///
    /// # Errors
    /// [`Fault::CardCall`] if it cannot be sent; [`Fault::Internal`] if the lengths differ.
    pub fn copy_from_async(&self, source: &Region, stream: &Stream) -> Result<()> {
        self.same_length(source.len)?;
        self.block.device.runtime().call(
            Function::MemcpyAsync,
            // SAFETY: both sides lie inside live allocations on the card; the stream lives.
            |s| unsafe {
                let (to, from) = (self.address(), source.address());
                (s.memcpy_async)(to, from, self.len, DEVICE_TO_DEVICE, stream.handle())
            },
            || format!("{source} to {self}"),
        )
    }

    fn same_length(&self, other: usize) -> Result<()> {
        if self.len == other {
            return Ok(());
        }
        Err(Failure::new(Fault::Internal, format!("{other} bytes do not fit {self}")))
    }
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {} of {}", self.len, self.offset, self.block.purpose)
    }
}
