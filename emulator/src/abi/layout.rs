//! Structures shared with C programs.

/// Most devices a list can hold.
pub const MAX_DEVICES: usize = 256;
/// Most dimensions a tensor can have.
pub const MAX_DIMS: usize = 32;

#[repr(C)]
pub struct DeviceList {
    pub num: u32,
    pub devices: [i32; MAX_DEVICES],
}

#[repr(C)]
pub struct DeviceProperties {
    pub sw_version: [u8; 64],
    pub uid: u64,
    pub pci_domain: u32,
    pub pci_bus: u32,
    pub pci_slot: u32,
    /// Thousandths of °C.
    pub temperature: i32,
    /// KiB, as the next three.
    pub total_mem: u32,
    pub free_mem: u32,
    pub total_cmm: u32,
    pub free_cmm: u32,
    /// Hundredths of a percent.
    pub cpu_loading: u32,
    /// Hundredths of a percent.
    pub npu_loading: u32,
    pub reserved: [u32; 32],
}

#[repr(C)]
pub struct Dims {
    pub count: i32,
    pub dims: [i32; MAX_DIMS],
}

const _: () = assert!(size_of::<DeviceList>() == 1028);
const _: () = assert!(size_of::<DeviceProperties>() == 240);
const _: () = assert!(size_of::<Dims>() == 132);
