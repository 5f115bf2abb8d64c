//! Devices: activation by reference count, properties, reboot.

use std::time::Instant;

use super::layout::{DeviceList, DeviceProperties, MAX_DEVICES};
use super::lifecycle::FULL_VERSION;
use super::log;
use super::pointer::Out;
use super::process::{Process, thread_id};
use super::{Kind, call};
use crate::card::code::{Code, Module};
use crate::card::latency::wait_until;

const NULL: Code = Code::null(Module::Device);
/// The vendor logs leaks from this line of its source.
const LEAK_LINE: u32 = 20;
/// As it logs refused ports.
const REQUEST_LINE: u32 = 464;

fn known(process: &Process, device: i32) -> Result<(), Code> {
    if process.state().devices.contains(&device) {
        return Ok(());
    }
    let text = format!("device {device} is not connected");
    process.log.write(log::ERROR, "device", "set_device", line!(), &text);
    Err(Code::INVALID_ID)
}

fn activate(process: &Process, device: i32) -> Result<(), Code> {
    known(process, device)?;
    let first = process.state().activations == 0;
    if let Some(machine) = process.attachment().filter(|_| first) {
        machine.activate().inspect_err(|_| {
            let text = format!("request ports from device {device} fail, errno: 1 Operation not permitted");
            process.log.write(log::ERROR, "device manager", "request_ports", REQUEST_LINE, &text);
        })?;
        // Memory others did not give back is nobody's.
        let _ = process.card.memory.reserve(process.card.condition.retained());
    }
    let mut state = process.state();
    if state.activations == 0 {
        // Only this thread is bound to the default context; others must ask for it.
        let context = state.new_context(thread_id());
        state.default_context = Some(context);
    }
    state.activations += 1;
    state.thread_device.insert(thread_id(), device);
    Ok(())
}

fn deactivate(process: &Process, device: i32) -> Result<(), Code> {
    known(process, device)?;
    let last = {
        let mut state = process.state();
        if state.activations == 0 {
            return Err(Code::NOT_ACTIVE);
        }
        state.thread_device.remove(&thread_id());
        state.activations -= 1;
        let last = state.activations == 0;
        if last {
            state.close_channel();
        }
        last
    };
    if last {
        for (base, size) in process.card.memory.allocations() {
            let text = format!("[{base:#x}] : {size:#x} bytes");
            process.log.write(log::CRITICAL, "device", "print", LEAK_LINE, &text);
        }
        process.card.reset();
        if let Some(machine) = process.attachment() {
            machine.release();
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn axclrtSetDevice(device: i32) -> i32 {
    call("axclrtSetDevice", Kind::Driver, |process| activate(process, device).map(|()| 0))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtResetDevice(device: i32) -> i32 {
    call("axclrtResetDevice", Kind::Driver, |process| deactivate(process, device).map(|()| 0))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetDevice(device: Out<i32>) -> i32 {
    call("axclrtGetDevice", Kind::Local, |process| {
        let bound = process.state().thread_device.get(&thread_id()).copied();
        device.set(bound.ok_or(Code::THREAD_WITHOUT_DEVICE)?, NULL)?;
        Ok(0)
    })
}

fn count(process: &Process) -> u32 {
    u32::try_from(process.state().devices.len()).unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetDeviceCount(number: Out<u32>) -> i32 {
    call("axclrtGetDeviceCount", Kind::Local, |process| number.set(count(process), NULL).map(|()| 0))
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetDeviceList(list: Out<DeviceList>) -> i32 {
    call("axclrtGetDeviceList", Kind::Local, |process| {
        let mut devices = [0; MAX_DEVICES];
        for (place, &device) in devices.iter_mut().zip(&process.state().devices) {
            *place = device;
        }
        list.set(DeviceList { num: count(process), devices }, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtSynchronizeDevice() -> i32 {
    call("axclrtSynchronizeDevice", Kind::Rpc, |process| {
        let streams: Vec<_> = process.state().streams.values().cloned().collect();
        for open in streams {
            open.stream.drain(None);
        }
        Ok(0)
    })
}

fn properties(process: &Process, device: i32) -> DeviceProperties {
    let status = process.card.status();
    let mut sw_version = [0; 64];
    let version = process.card.condition.firmware(FULL_VERSION);
    for (place, &byte) in sw_version.iter_mut().take(63).zip(version.to_bytes()) {
        *place = byte;
    }
    DeviceProperties {
        sw_version,
        uid: 0x00e5_0000_0000_0001,
        pci_domain: 0,
        pci_bus: device.cast_unsigned(),
        pci_slot: 0,
        temperature: status.temperature,
        total_mem: status.total_memory_kb,
        free_mem: status.free_memory_kb,
        total_cmm: status.total_cmm_kb,
        free_cmm: status.free_cmm_kb,
        cpu_loading: status.cpu_load,
        npu_loading: status.npu_load,
        reserved: [0; 32],
    }
}

#[unsafe(no_mangle)]
extern "C" fn axclrtGetDeviceProperties(device: i32, answer: Out<DeviceProperties>) -> i32 {
    call("axclrtGetDeviceProperties", Kind::Driver, |process| {
        let began = Instant::now();
        answer.check(NULL)?;
        activate(process, device)?;
        // Several commands run on the card.
        if let Err(code) = process.card.condition.pass(true) {
            deactivate(process, device)?;
            return Err(code);
        }
        let properties = properties(process, device);
        if let Some(latency) = process.card.latency() {
            wait_until(began + latency.properties());
        }
        // As the vendor's: this takes the calling thread's device binding with it.
        deactivate(process, device)?;
        answer.set(properties, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtRebootDevice(device: i32) -> i32 {
    call("axclrtRebootDevice", Kind::Driver, |process| {
        let began = Instant::now();
        known(process, device)?;
        process.state().close_channel();
        process.card.reset();
        if let Some(machine) = process.attachment() {
            machine.reboot().inspect_err(|_| {
                let text = format!("reboot device {device} fail");
                process.log.write(log::ERROR, "device", "reboot", line!(), &text);
            })?;
        }
        if let Some(latency) = process.card.latency() {
            wait_until(began + latency.reboot());
        }
        let text = format!("reboot device {device} success");
        process.log.write(log::INFO, "device", "reboot", line!(), &text);
        Ok(0)
    })
}
