//! The loaded library and its life from init to finalize.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use libloading::Library;

use super::abi::{DeviceList, Function, LogNumber, Symbols};
use super::code::Code;
use super::gauge::Gauge;
use crate::fault::{Failure, Fault, Result};

/// The runtime, initialised; finalized when the last handle goes. Belongs to one thread.
#[derive(Clone)]
pub struct Runtime(Rc<Inner>);

struct Inner {
    symbols: Symbols,
    gauge: Arc<Gauge>,
}

impl Runtime {
    /// Loads the library at `path` (or by name along the loader's path) and initialises it,
    /// with the vendor's JSON configuration if one is given.
    ///
    /// # Errors
    /// [`Fault::RuntimeOpen`], [`Fault::RuntimeSymbol`], [`Fault::CardDriver`] or
    /// [`Fault::CardAbsent`].
    pub fn open(path: &Path, json: Option<&Path>, gauge: Arc<Gauge>) -> Result<Self> {
        let shown = path.display().to_string();
        // SAFETY: the configuration names the card's runtime; its initialisers are as
        // trusted as the rest of it.
        let library = unsafe { Library::new(path) }
            .map_err(|e| Failure::new(Fault::RuntimeOpen, format!("{shown}: {e}")))?;
        // Never unloaded: the vendor's threads and static objects outlive any handle.
        let library: &'static Library = Box::leak(Box::new(library));
        let symbols = Symbols::resolve(library, &shown)?;
        let json = json.map(c_path).transpose()?;
        let pointer = json.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        let code = gauge.observe(Function::Init, || {
            // SAFETY: null or a NUL-terminated string that outlives the call.
            unsafe { (symbols.init)(pointer) }
        });
        Code(code).check(Function::Init, || shown)?;
        Ok(Self(Rc::new(Inner { symbols, gauge })))
    }

    /// The numbers of the cards present when the runtime was initialised, ascending.
    ///
    /// # Errors
    /// [`Fault::CardCall`].
    pub fn devices(&self) -> Result<Vec<i32>> {
        let mut list = DeviceList { num: 0, devices: [0; 256] };
        self.call(
            Function::GetDeviceList,
            // SAFETY: `list` has the vendor's layout and is exclusively borrowed.
            |s| unsafe { (s.get_device_list)(&raw mut list) },
            String::new,
        )?;
        Ok(list.devices.iter().copied().take(list.num as usize).collect())
    }

    /// Restarts card number `index` of [`Self::devices`], with its firmware: 10 s to
    /// minutes. No process may be using it, this one included.
    ///
    /// # Errors
    /// [`Fault::CardAbsent`], [`Fault::RuntimeSymbol`] or [`Fault::CardCall`].
    pub fn reboot(&self, index: usize) -> Result<()> {
        let devices = self.devices()?;
        let id = *devices.get(index).ok_or_else(|| {
            let detail = format!("card {index} of {}, numbered {devices:?}", devices.len());
            Failure::new(Fault::CardAbsent, detail)
        })?;
        let Some(reboot) = self.0.symbols.reboot_device else {
            return Err(Failure::new(Fault::RuntimeSymbol, "axclrtRebootDevice"));
        };
        // SAFETY: takes a number.
        self.call(Function::RebootDevice, |_| unsafe { reboot(id) }, || format!("device {id}"))
    }

    /// The library's version, e.g. `V3.10.2_20251215140224`.
    pub fn version(&self) -> String {
        // SAFETY: the function takes nothing and returns null or a static string.
        self.text(Function::GetFullVersion, |s| s.get_full_version.map(|f| unsafe { f() }))
    }

    /// The chip's name, e.g. `AX650N`.
    pub fn chip(&self) -> String {
        // SAFETY: the function takes nothing and returns null or a static string.
        self.text(Function::GetSocName, |s| s.get_soc_name.map(|f| unsafe { f() }))
    }

    /// Marks the beginning of a request in the runtime's log.
    pub fn mark_begin(&self, request: u64) {
        self.mark(c"begin %llu", request);
    }

    /// Marks the end of a request in the runtime's log.
    pub fn mark_end(&self, request: u64) {
        self.mark(c"end %llu", request);
    }

    fn mark(&self, format: &CStr, request: u64) {
        const INFO: i32 = 2;
        let Some(log) = self.0.symbols.app_log else { return };
        let file = c"worker";
        // SAFETY: all strings are NUL-terminated; the format takes exactly one unsigned
        // long long, which is what follows.
        unsafe {
            log(INFO, c"request".as_ptr(), file.as_ptr(), line!(), format.as_ptr(), LogNumber::from(request));
        }
    }

    fn text(&self, function: Function, call: impl FnOnce(&Symbols) -> Option<*const c_char>) -> String {
        let pointer = self.0.gauge.observe(function, || call(&self.0.symbols));
        match pointer {
            // SAFETY: non-null, NUL-terminated, valid at least until the next call.
            Some(text) if !text.is_null() => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
            _ => "unknown".to_owned(),
        }
    }

    /// Makes one observed call and checks its code; `object` says what it was about.
    pub(super) fn call(
        &self,
        function: Function,
        call: impl FnOnce(&Symbols) -> i32,
        object: impl FnOnce() -> String,
    ) -> Result<()> {
        Code(self.0.gauge.observe(function, || call(&self.0.symbols))).check(function, object)
    }

    /// A call that only touches host memory: not observed, since it cannot hang.
    pub(super) fn local<T>(&self, call: impl FnOnce(&Symbols) -> T) -> T {
        call(&self.0.symbols)
    }

    /// As [`Self::local`], with its code checked.
    pub(super) fn note(
        &self,
        function: Function,
        call: impl FnOnce(&Symbols) -> i32,
        object: impl FnOnce() -> String,
    ) -> Result<()> {
        Code(self.local(call)).check(function, object)
    }

    /// A call on the way out: a failure is worth a line in the journal, no more.
    pub(super) fn release(
        &self,
        function: Function,
        call: impl FnOnce(&Symbols) -> i32,
        object: impl FnOnce() -> String,
    ) {
        if let Err(failure) = self.call(function, call, object) {
            tracing::warn!(%failure, "release failed");
        }
    }

    /// The gauge its calls show on.
    pub fn gauge(&self) -> &Gauge {
        &self.0.gauge
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: takes nothing; every object of the runtime is gone, since each holds a
        // handle to it.
        let code = self.gauge.observe(Function::Finalize, || unsafe { (self.symbols.finalize)() });
        if let Err(failure) = Code(code).check(Function::Finalize, String::new) {
            tracing::warn!(%failure, "release failed");
        }
    }
}

/// A path as the C side wants it.
pub(super) fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Failure::new(Fault::Config, format!("{} contains a NUL byte", path.display())))
}
