//! A queue of work on the card that runs in order.

use super::abi::{Function, Handle};
use super::device::Device;
use crate::fault::Result;

/// A created stream; the default stream cannot be waited for, so it is not offered.
pub struct Stream {
    device: Device,
    handle: Handle,
}

impl Stream {
    /// Creates a stream in the device's context.
    ///
    /// # Errors
    /// [`crate::fault::Fault::CardCall`].
    pub fn create(device: &Device) -> Result<Self> {
        let mut handle: Handle = std::ptr::null_mut();
        device.runtime().call(
            Function::CreateStream,
            // SAFETY: writes one handle.
            |s| unsafe { (s.create_stream)(&raw mut handle) },
            String::new,
        )?;
        Ok(Self { device: device.clone(), handle })
    }

    /// Waits until everything in it is done. Failures of asynchronous work are not
    /// reported here: they show in the outputs only.
    ///
    /// # Errors
    /// [`crate::fault::Fault::CardCall`].
    pub fn synchronize(&self) -> Result<()> {
        self.device.runtime().call(
            Function::SynchronizeStream,
            // SAFETY: the handle is alive.
            |s| unsafe { (s.synchronize_stream)(self.handle) },
            String::new,
        )
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.device.runtime().release(
            Function::DestroyStream,
            // SAFETY: created by us, destroyed once.
            |s| unsafe { (s.destroy_stream)(self.handle) },
            String::new,
        );
    }
}
