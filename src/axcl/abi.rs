//! The C ABI of `libaxcl_rt.so`: types, values and the table of functions.

use std::ffi::{c_char, c_ulonglong, c_void};

use libloading::Library;

use crate::fault::{Failure, Fault, Result};

/// `axclError`.
pub type Error = i32;
/// `axclrtContext`, `axclrtStream`, `axclrtEngineIOInfo`, `axclrtEngineIO`.
pub type Handle = *mut c_void;
/// An address in the card's memory; never valid on the host.
pub type DevicePointer = *mut c_void;

pub const MALLOC_NORMAL_ONLY: i32 = 2;
pub const HOST_TO_DEVICE: i32 = 1;
pub const DEVICE_TO_HOST: i32 = 2;
pub const DEVICE_TO_DEVICE: i32 = 3;
pub const VNPU_DISABLE: i32 = 0;

/// `axclrtDeviceList`.
#[repr(C)]
pub struct DeviceList {
    pub num: u32,
    pub devices: [i32; 256],
}

/// `axclrtDeviceProperties`; sizes in KiB, temperature in milli-°C, loads in percent × 100.
#[repr(C)]
pub struct DeviceProperties {
    pub software_version: [c_char; 64],
    pub uid: u64,
    pub pci_domain: u32,
    pub pci_bus: u32,
    pub pci_slot: u32,
    pub temperature: i32,
    pub total_memory: u32,
    pub free_memory: u32,
    pub total_cmm: u32,
    pub free_cmm: u32,
    pub cpu_load: u32,
    pub npu_load: u32,
    pub reserved: [u32; 32],
}

macro_rules! functions {
    (
        required { $($variant:ident $field:ident $name:literal ($($arg:ty),*) -> $ret:ty;)* }
        optional { $($ovariant:ident $ofield:ident $oname:literal ($($oarg:ty),*) -> $oret:ty;)* }
    ) => {
        /// A function of the runtime, as the call gauge names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Function { $($variant,)* $($ovariant,)* }

        impl Function {
            const NAMES: &'static [&'static str] = &[$($name,)* $($oname,)*];

            /// How many there are.
            pub const COUNT: usize = Self::NAMES.len();

            /// The C name.
            pub fn name(self) -> &'static str {
                Self::name_of(self as usize).unwrap_or("?")
            }

            /// The C name of the function with this number.
            pub fn name_of(number: usize) -> Option<&'static str> {
                Self::NAMES.get(number).copied()
            }
        }

        /// The runtime's functions, resolved. Pointers stay valid for ever: the library is
        /// never unloaded (its threads and static objects would not survive that).
        pub struct Symbols {
            $(pub $field: unsafe extern "C" fn($($arg),*) -> $ret,)*
            $(pub $ofield: Option<unsafe extern "C" fn($($oarg),*) -> $oret>,)*
            pub app_log: Option<AppLog>,
        }

        impl Symbols {
            /// Resolves every function in `library`.
            ///
            /// # Errors
            /// [`Fault::RuntimeSymbol`] naming the first required function that is missing.
            pub fn resolve(library: &'static Library, path: &str) -> Result<Self> {
                $(
                    // SAFETY: the prototype is the vendor header's for this name.
                    let $field = *unsafe { library.get($name) }
                        .map_err(|_| missing(path, $name))?;
                )*
                $(
                    // SAFETY: the prototype is the vendor header's for this name.
                    let $ofield = unsafe { library.get($oname) }.ok().map(|symbol| *symbol);
                )*
                // SAFETY: as above; variadic, printf-style.
                let app_log = unsafe { library.get("axclAppLog") }.ok().map(|symbol| *symbol);
                Ok(Self { $($field,)* $($ofield,)* app_log })
            }
        }
    };
}

/// `axclAppLog`, restricted by its callers to one `%llu` argument.
pub type AppLog = unsafe extern "C" fn(i32, *const c_char, *const c_char, u32, *const c_char, ...) -> ();
/// What callers of [`AppLog`] pass.
pub type LogNumber = c_ulonglong;

fn missing(path: &str, name: &str) -> Failure {
    Failure::new(Fault::RuntimeSymbol, format!("{path} has no function {name}"))
}

functions! {
    required {
        Init init "axclInit" (*const c_char) -> Error;
        Finalize finalize "axclFinalize" () -> Error;
        SetDevice set_device "axclrtSetDevice" (i32) -> Error;
        ResetDevice reset_device "axclrtResetDevice" (i32) -> Error;
        GetDeviceList get_device_list "axclrtGetDeviceList" (*mut DeviceList) -> Error;
        GetDeviceProperties get_device_properties "axclrtGetDeviceProperties" (i32, *mut DeviceProperties) -> Error;
        GetCurrentContext get_current_context "axclrtGetCurrentContext" (*mut Handle) -> Error;
        SetCurrentContext set_current_context "axclrtSetCurrentContext" (Handle) -> Error;
        CreateStream create_stream "axclrtCreateStream" (*mut Handle) -> Error;
        DestroyStream destroy_stream "axclrtDestroyStream" (Handle) -> Error;
        SynchronizeStream synchronize_stream "axclrtSynchronizeStream" (Handle) -> Error;
        Malloc malloc "axclrtMalloc" (*mut DevicePointer, usize, i32) -> Error;
        Free free "axclrtFree" (DevicePointer) -> Error;
        Memset memset "axclrtMemset" (DevicePointer, u8, usize) -> Error;
        Memcpy memcpy "axclrtMemcpy" (*mut c_void, *const c_void, usize, i32) -> Error;
        MemcpyAsync memcpy_async "axclrtMemcpyAsync" (*mut c_void, *const c_void, usize, i32, Handle) -> Error;
        EngineInit engine_init "axclrtEngineInit" (i32) -> Error;
        EngineFinalize engine_finalize "axclrtEngineFinalize" () -> Error;
        EngineLoadFromFile engine_load_from_file "axclrtEngineLoadFromFile" (*const c_char, *mut u64) -> Error;
        EngineUnload engine_unload "axclrtEngineUnload" (u64) -> Error;
        EngineCreateContext engine_create_context "axclrtEngineCreateContext" (u64, *mut u64) -> Error;
        EngineGetIOInfo engine_get_io_info "axclrtEngineGetIOInfo" (u64, *mut Handle) -> Error;
        EngineDestroyIOInfo engine_destroy_io_info "axclrtEngineDestroyIOInfo" (Handle) -> Error;
        EngineGetShapeGroupsCount engine_get_shape_groups_count "axclrtEngineGetShapeGroupsCount" (Handle, *mut i32) -> Error;
        EngineGetNumInputs engine_get_num_inputs "axclrtEngineGetNumInputs" (Handle) -> u32;
        EngineGetNumOutputs engine_get_num_outputs "axclrtEngineGetNumOutputs" (Handle) -> u32;
        EngineGetInputSizeByIndex engine_get_input_size_by_index "axclrtEngineGetInputSizeByIndex" (Handle, u32, u32) -> u64;
        EngineGetOutputSizeByIndex engine_get_output_size_by_index "axclrtEngineGetOutputSizeByIndex" (Handle, u32, u32) -> u64;
        EngineGetInputNameByIndex engine_get_input_name_by_index "axclrtEngineGetInputNameByIndex" (Handle, u32) -> *const c_char;
        EngineGetOutputNameByIndex engine_get_output_name_by_index "axclrtEngineGetOutputNameByIndex" (Handle, u32) -> *const c_char;
        EngineGetInputDataType engine_get_input_data_type "axclrtEngineGetInputDataType" (Handle, u32, *mut i32) -> i32;
        EngineGetOutputDataType engine_get_output_data_type "axclrtEngineGetOutputDataType" (Handle, u32, *mut i32) -> i32;
        EngineCreateIO engine_create_io "axclrtEngineCreateIO" (Handle, *mut Handle) -> Error;
        EngineDestroyIO engine_destroy_io "axclrtEngineDestroyIO" (Handle) -> Error;
        EngineSetInputBufferByIndex engine_set_input_buffer_by_index "axclrtEngineSetInputBufferByIndex" (Handle, u32, *const c_void, u64) -> Error;
        EngineSetOutputBufferByIndex engine_set_output_buffer_by_index "axclrtEngineSetOutputBufferByIndex" (Handle, u32, *const c_void, u64) -> Error;
        EngineExecute engine_execute "axclrtEngineExecute" (u64, u64, u32, Handle) -> Error;
        EngineExecuteAsync engine_execute_async "axclrtEngineExecuteAsync" (u64, u64, u32, Handle, Handle) -> Error;
    }
    optional {
        GetFullVersion get_full_version "axclrtGetFullVersion" () -> *const c_char;
        GetSocName get_soc_name "axclrtGetSocName" () -> *const c_char;
        RebootDevice reboot_device "axclrtRebootDevice" (i32) -> Error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn structures_have_the_vendors_layout() {
        assert_eq!(size_of::<DeviceList>(), 1028);
        assert_eq!(size_of::<DeviceProperties>(), 240);
        assert_eq!(offset_of!(DeviceProperties, uid), 64);
        assert_eq!(offset_of!(DeviceProperties, temperature), 84);
        assert_eq!(offset_of!(DeviceProperties, free_cmm), 100);
        assert_eq!(offset_of!(DeviceProperties, npu_load), 108);
    }

    #[test]
    fn functions_know_their_names() {
        assert_eq!(Function::Init.name(), "axclInit");
        assert_eq!(Function::GetSocName.name(), "axclrtGetSocName");
        assert_eq!(Function::name_of(Function::EngineExecute as usize), Some("axclrtEngineExecute"));
    }
}
