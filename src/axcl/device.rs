//! One card, selected and ready for engines.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::rc::Rc;

use super::abi::{DeviceProperties, Function, Handle, VNPU_DISABLE};
use super::runtime::Runtime;
use crate::fault::{Failure, Fault, Result};

/// An activated card, released when the last handle goes.
#[derive(Clone)]
pub struct Device(Rc<Inner>);

struct Inner {
    runtime: Runtime,
    id: i32,
    context: Handle,
    /// How often the device was selected, and must be reset.
    selections: Cell<u32>,
    engines: Cell<bool>,
}

/// What a card says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    pub firmware: String,
    pub uid: u64,
    /// Thousandths of a degree Celsius.
    pub temperature_millidegrees: i32,
    /// Bytes of memory for engines and tensors.
    pub total_memory: u64,
    /// Of these, free.
    pub free_memory: u64,
}

impl Device {
    /// Selects card number `index` of the runtime's list for this thread.
    ///
    /// # Errors
    /// [`Fault::CardAbsent`] if there is no such card, [`Fault::CardPorts`] if it does not
    /// answer, [`Fault::CardCall`] otherwise.
    pub fn open(runtime: &Runtime, index: usize) -> Result<Self> {
        let devices = runtime.devices()?;
        let id = *devices.get(index).ok_or_else(|| {
            let detail = format!("card {index} of {}, numbered {devices:?}", devices.len());
            Failure::new(Fault::CardAbsent, detail)
        })?;
        select(runtime, id)?;
        let mut inner = Inner {
            runtime: runtime.clone(),
            id,
            context: std::ptr::null_mut(),
            selections: Cell::new(1),
            engines: Cell::new(false),
        };
        runtime.call(
            Function::GetCurrentContext,
            // SAFETY: writes one handle.
            |s| unsafe { (s.get_current_context)(&raw mut inner.context) },
            || format!("device {id}"),
        )?;
        // SAFETY: takes a number.
        let init = |s: &super::abi::Symbols| unsafe { (s.engine_init)(VNPU_DISABLE) };
        runtime.call(Function::EngineInit, init, || format!("device {id}"))?;
        inner.engines.set(true);
        Ok(Self(Rc::new(inner)))
    }

    /// The card's number (its PCI bus).
    pub fn id(&self) -> i32 {
        self.0.id
    }

    /// The runtime this card belongs to.
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// Asks the card about itself: several commands on the card, up to seconds.
    ///
    /// # Errors
    /// [`Fault::CardCall`] or [`Fault::CardPorts`].
    pub fn properties(&self) -> Result<Properties> {
        let inner = &*self.0;
        let mut raw = DeviceProperties {
            software_version: [0; 64],
            uid: 0,
            pci_domain: 0,
            pci_bus: 0,
            pci_slot: 0,
            temperature: 0,
            total_memory: 0,
            free_memory: 0,
            total_cmm: 0,
            free_cmm: 0,
            cpu_load: 0,
            npu_load: 0,
            reserved: [0; 32],
        };
        let asked = inner.runtime.call(
            Function::GetDeviceProperties,
            // SAFETY: `raw` has the vendor's layout and is exclusively borrowed.
            |s| unsafe { (s.get_device_properties)(inner.id, &raw mut raw) },
            || format!("device {}", inner.id),
        );
        // The call leaves this thread without a device: select it again, whatever it said.
        select(&inner.runtime, inner.id)?;
        inner.selections.set(inner.selections.get() + 1);
        inner.runtime.call(
            Function::SetCurrentContext,
            // SAFETY: the default context lives as long as the device is active.
            |s| unsafe { (s.set_current_context)(inner.context) },
            || format!("device {}", inner.id),
        )?;
        asked?;
        Ok(Properties {
            firmware: text(&raw.software_version),
            uid: raw.uid,
            temperature_millidegrees: raw.temperature,
            total_memory: u64::from(raw.total_cmm) * 1024,
            free_memory: u64::from(raw.free_cmm) * 1024,
        })
    }
}

fn select(runtime: &Runtime, id: i32) -> Result<()> {
    // SAFETY: takes a number.
    let set = |s: &super::abi::Symbols| unsafe { (s.set_device)(id) };
    runtime.call(Function::SetDevice, set, || format!("device {id}"))
}

fn text(field: &[c_char; 64]) -> String {
    let bytes: Vec<u8> = field.iter().map(|c| c.to_ne_bytes()).map(|[b]| b).collect();
    CStr::from_bytes_until_nul(&bytes).map(|t| t.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Drop for Inner {
    fn drop(&mut self) {
        let object = || format!("device {}", self.id);
        if self.engines.get() {
            // SAFETY: takes nothing; all engines are unloaded, since each holds the device.
            let finalize = |s: &super::abi::Symbols| unsafe { (s.engine_finalize)() };
            self.runtime.release(Function::EngineFinalize, finalize, object);
        }
        for _ in 0..self.selections.get() {
            // SAFETY: takes a number.
            let reset = |s: &super::abi::Symbols| unsafe { (s.reset_device)(self.id) };
            self.runtime.release(Function::ResetDevice, reset, object);
        }
    }
}
