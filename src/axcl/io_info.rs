//! The tensors of an engine, read once into plain data.

use std::ffi::{CStr, c_char};

use super::abi::{Function, Handle, Symbols};
use super::runtime::Runtime;
use crate::fault::{Failure, Fault, Result};

/// Element types an engine may use, by the vendor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// Signed or unsigned 32-bit integers.
    Int32,
    Bf16,
    /// Anything else.
    Other(i32),
}

impl From<i32> for ElementType {
    fn from(number: i32) -> Self {
        match number {
            7 | 8 => Self::Int32,
            14 => Self::Bf16,
            other => Self::Other(other),
        }
    }
}

/// One input or output of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub element: ElementType,
    /// Bytes per shape group.
    pub bytes: Vec<usize>,
}

/// All tensors of an engine, in the order they are bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoInfo {
    pub groups: usize,
    pub inputs: Vec<TensorInfo>,
    pub outputs: Vec<TensorInfo>,
}

impl IoInfo {
    /// Number and description of the input called `name`.
    pub fn input(&self, name: &str) -> Option<(usize, &TensorInfo)> {
        self.inputs.iter().enumerate().find(|(_, t)| t.name == name)
    }

    /// Number and description of the output called `name`.
    pub fn output(&self, name: &str) -> Option<(usize, &TensorInfo)> {
        self.outputs.iter().enumerate().find(|(_, t)| t.name == name)
    }

    /// Reads what `handle` describes; `engine` names the engine in failures.
    pub(super) fn read(runtime: &Runtime, handle: Handle, engine: &str) -> Result<Self> {
        let mut groups = 0;
        runtime.call(
            Function::EngineGetShapeGroupsCount,
            // SAFETY: the handle is alive; writes one number.
            |s| unsafe { (s.engine_get_shape_groups_count)(handle, &raw mut groups) },
            || engine.to_owned(),
        )?;
        let groups = u32::try_from(groups).unwrap_or(0);
        // SAFETY: the handle is alive.
        let inputs = runtime.local(|s| unsafe { (s.engine_get_num_inputs)(handle) });
        // SAFETY: the handle is alive.
        let outputs = runtime.local(|s| unsafe { (s.engine_get_num_outputs)(handle) });
        let input = Side {
            size: |s| s.engine_get_input_size_by_index,
            name: |s| s.engine_get_input_name_by_index,
            element: |s| s.engine_get_input_data_type,
        };
        let output = Side {
            size: |s| s.engine_get_output_size_by_index,
            name: |s| s.engine_get_output_name_by_index,
            element: |s| s.engine_get_output_data_type,
        };
        Ok(Self {
            groups: groups as usize,
            inputs: input.tensors(runtime, handle, inputs, groups, engine)?,
            outputs: output.tensors(runtime, handle, outputs, groups, engine)?,
        })
    }
}

/// The three questions, asked of inputs or of outputs.
struct Side {
    size: fn(&Symbols) -> unsafe extern "C" fn(Handle, u32, u32) -> u64,
    name: fn(&Symbols) -> unsafe extern "C" fn(Handle, u32) -> *const c_char,
    element: fn(&Symbols) -> unsafe extern "C" fn(Handle, u32, *mut i32) -> i32,
}

impl Side {
    fn tensors(
        &self,
        runtime: &Runtime,
        handle: Handle,
        count: u32,
        groups: u32,
        engine: &str,
    ) -> Result<Vec<TensorInfo>> {
        let unclear = |what: &str, i: u32| {
            Failure::new(Fault::ModelEngine, format!("{engine}: the runtime gives no {what} of tensor {i}"))
        };
        // An error code cast to a count, or a size, is huge.
        if count > 1024 || groups > 1024 {
            return Err(unclear("plausible number", count));
        }
        (0..count)
            .map(|i| {
                // SAFETY: the handle is alive.
                let pointer = runtime.local(|s| unsafe { (self.name)(s)(handle, i) });
                if pointer.is_null() {
                    return Err(unclear("name", i));
                }
                // SAFETY: non-null, NUL-terminated, alive while the handle is.
                let name = unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned();
                let mut element = 0;
                // SAFETY: the handle is alive; writes one number.
                let code = runtime.local(|s| unsafe { (self.element)(s)(handle, i, &raw mut element) });
                if code != 0 {
                    return Err(unclear("element type", i));
                }
                let bytes = (0..groups)
                    // SAFETY: the handle is alive.
                    .map(|g| runtime.local(|s| unsafe { (self.size)(s)(handle, g, i) }))
                    .map(|size| match usize::try_from(size) {
                        Ok(size) if size <= u32::MAX as usize => Ok(size),
                        _ => Err(unclear("size", i)),
                    })
                    .collect::<Result<_>>()?;
                Ok(TensorInfo { name, element: element.into(), bytes })
            })
            .collect()
    }
}
