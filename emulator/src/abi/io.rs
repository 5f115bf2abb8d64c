//! What an engine's tensors are and where they are bound: objects of the host alone.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use super::layout::{Dims, MAX_DIMS};
use super::pointer::{Address, Handle, Out, Text};
use super::process::Process;
use super::{Kind, call};
use crate::card::code::Code;
use crate::card::npu::Binding;
use crate::engine::{EngineInfo, Tensor};

const NULL: Code = Code::ENGINE_NULL;
const PARAM: Code = Code::ENGINE_PARAM;
/// Data layout "none".
const NO_LAYOUT: i32 = 0;

/// Which half of the tensors.
#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}
use Side::{Input, Output};

/// An engine's tensors with their names as C strings, which live as long as this does.
pub struct IoInfo {
    tensors: EngineInfo,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
}

impl IoInfo {
    fn new(tensors: &EngineInfo) -> Self {
        let names = |tensors: &[Tensor]| {
            tensors.iter().map(|t| CString::new(t.name.as_str()).unwrap_or_default()).collect()
        };
        Self {
            input_names: names(&tensors.inputs),
            output_names: names(&tensors.outputs),
            tensors: tensors.clone(),
        }
    }

    fn tensors(&self, side: Side) -> &[Tensor] {
        match side {
            Input => &self.tensors.inputs,
            Output => &self.tensors.outputs,
        }
    }

    fn names(&self, side: Side) -> &[CString] {
        match side {
            Input => &self.input_names,
            Output => &self.output_names,
        }
    }

    fn tensor(&self, side: Side, index: u32) -> Option<&Tensor> {
        self.tensors(side).get(usize::try_from(index).ok()?)
    }
}

/// Where tensors are bound.
#[derive(Default)]
pub struct Io {
    pub inputs: Vec<Binding>,
    pub outputs: Vec<Binding>,
    /// Kept, never used: there are no dynamic batches.
    pub batch: u32,
}

impl Io {
    fn at(&mut self, side: Side, index: u32) -> Result<&mut Binding, Code> {
        let bindings = match side {
            Input => &mut self.inputs,
            Output => &mut self.outputs,
        };
        usize::try_from(index).ok().and_then(|index| bindings.get_mut(index)).ok_or(PARAM)
    }
}

fn info(process: &Process, handle: Handle) -> Result<Arc<IoInfo>, Code> {
    if handle == Handle::NULL {
        return Err(NULL);
    }
    process.state().infos.get(&handle).cloned().ok_or(PARAM)
}

fn with_io<R>(
    process: &Process,
    handle: Handle,
    work: impl FnOnce(&mut Io) -> Result<R, Code>,
) -> Result<R, Code> {
    if handle == Handle::NULL {
        return Err(NULL);
    }
    work(process.state().ios.get_mut(&handle).ok_or(PARAM)?)
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetIOInfo(id: u64, answer: Out<Handle>) -> i32 {
    call("axclrtEngineGetIOInfo", Kind::Rpc, |process| {
        answer.check(NULL)?;
        process.context()?;
        let loaded = process.card.engine(id).ok_or(Code::ENGINE_FAILED)?;
        let info = Arc::new(IoInfo::new(loaded.engine.info()));
        let mut state = process.state();
        let handle = state.new_handle();
        state.infos.insert(handle, info);
        answer.set(handle, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineDestroyIOInfo(handle: Handle) -> i32 {
    call("axclrtEngineDestroyIOInfo", Kind::Local, |process| {
        process.state().infos.remove(&handle).map(|_| 0).ok_or(PARAM)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineGetShapeGroupsCount(handle: Handle, count: Out<i32>) -> i32 {
    call("axclrtEngineGetShapeGroupsCount", Kind::Local, |process| {
        let groups = info(process, handle)?.tensors.groups;
        count.set(i32::try_from(groups).map_err(|_| PARAM)?, NULL)?;
        Ok(0)
    })
}

fn number(process: &Process, handle: Handle, side: Side) -> Result<u32, Code> {
    u32::try_from(info(process, handle)?.tensors(side).len()).map_err(|_| PARAM)
}

fn size(process: &Process, handle: Handle, side: Side, group: u32, index: u32) -> Result<u64, Code> {
    let info = info(process, handle)?;
    let tensor = info.tensor(side, index).ok_or(Code::ENGINE_INDEX)?;
    let bytes = usize::try_from(group).ok().and_then(|group| tensor.bytes(group));
    Ok(bytes.ok_or(Code::ENGINE_INDEX)? as u64)
}

fn name(process: &Process, handle: Handle, side: Side, index: u32) -> Result<*const c_char, Code> {
    let info = info(process, handle)?;
    let index = usize::try_from(index).map_err(|_| PARAM)?;
    Ok(info.names(side).get(index).ok_or(Code::ENGINE_INDEX)?.as_ptr())
}

fn index(process: &Process, handle: Handle, side: Side, name: &Text) -> Result<i32, Code> {
    let (info, name) = (info(process, handle)?, name.get(NULL)?);
    let found = info.names(side).iter().position(|n| n.as_c_str() == name);
    found.and_then(|index| i32::try_from(index).ok()).ok_or(PARAM)
}

fn dims(
    process: &Process,
    handle: Handle,
    side: Side,
    (group, index): (u32, u32),
    answer: &Out<Dims>,
) -> Result<i32, Code> {
    let info = info(process, handle)?;
    let tensor = info.tensor(side, index).ok_or(Code::ENGINE_INDEX)?;
    let shape = usize::try_from(group).ok().and_then(|group| tensor.dims.get(group));
    let shape = shape.ok_or(Code::ENGINE_INDEX)?;
    let mut dims = [0; MAX_DIMS];
    for (place, &dim) in dims.iter_mut().zip(shape) {
        *place = dim;
    }
    let count = i32::try_from(shape.len().min(MAX_DIMS)).map_err(|_| PARAM)?;
    answer.set(Dims { count, dims }, NULL)?;
    Ok(0)
}

fn data_type(
    process: &Process,
    handle: Handle,
    side: Side,
    index: u32,
    answer: &Out<i32>,
) -> Result<i32, Code> {
    let info = info(process, handle).map_err(|_| PARAM)?;
    let tensor = info.tensor(side, index).ok_or(PARAM)?;
    answer.set(tensor.data_type as i32, PARAM)?;
    Ok(0)
}

fn layout(process: &Process, handle: Handle, side: Side, index: u32, answer: &Out<i32>) -> Result<i32, Code> {
    let info = info(process, handle).map_err(|_| PARAM)?;
    info.tensor(side, index).ok_or(PARAM)?;
    answer.set(NO_LAYOUT, PARAM)?;
    Ok(0)
}

fn bind(
    process: &Process,
    io: Handle,
    side: Side,
    index: u32,
    buffer: Address,
    size: u64,
) -> Result<i32, Code> {
    with_io(process, io, |io| {
        let address = buffer.check(NULL)?.card();
        if size == 0 {
            return Err(PARAM);
        }
        *io.at(side, index)? = Binding { address, size };
        Ok(0)
    })
}

fn bound(
    process: &Process,
    io: Handle,
    side: Side,
    index: u32,
    (buffer, size): (&Out<u64>, &Out<u64>),
) -> Result<i32, Code> {
    with_io(process, io, |io| {
        let binding = *io.at(side, index)?;
        buffer.set(binding.address, NULL)?;
        size.set(binding.size, NULL)?;
        Ok(0)
    })
}

/// The vendor's comparison of names compares the argument with itself: every name is
/// the first tensor's.
fn first(name: &Text) -> Result<u32, Code> {
    name.get(NULL).map(|_| 0)
}

macro_rules! per_side {
    ($($side:ident: $number:ident $size:ident $name:ident $index:ident $dims:ident $type:ident $layout:ident
        $set:ident $get:ident $set_by_name:ident $get_by_name:ident;)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $number(handle: Handle) -> u32 {
            call(stringify!($number), Kind::Local, |process| number(process, handle, $side))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $size(handle: Handle, group: u32, index: u32) -> u64 {
            call(stringify!($size), Kind::Local, |process| size(process, handle, $side, group, index))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $name(handle: Handle, index: u32) -> *const c_char {
            call(stringify!($name), Kind::Local, |process| name(process, handle, $side, index))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $index(handle: Handle, name: Text) -> i32 {
            call(stringify!($index), Kind::Local, |process| index(process, handle, $side, &name))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $dims(handle: Handle, group: u32, index: u32, answer: Out<Dims>) -> i32 {
            call(stringify!($dims), Kind::Local, |process| {
                dims(process, handle, $side, (group, index), &answer)
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn $type(handle: Handle, index: u32, answer: Out<i32>) -> i32 {
            call(stringify!($type), Kind::Local, |process| data_type(process, handle, $side, index, &answer))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $layout(handle: Handle, index: u32, answer: Out<i32>) -> i32 {
            call(stringify!($layout), Kind::Local, |process| layout(process, handle, $side, index, &answer))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $set(io: Handle, index: u32, buffer: Address, size: u64) -> i32 {
            call(stringify!($set), Kind::Local, |process| bind(process, io, $side, index, buffer, size))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $get(io: Handle, index: u32, buffer: Out<u64>, size: Out<u64>) -> i32 {
            call(stringify!($get), Kind::Local, |process| bound(process, io, $side, index, (&buffer, &size)))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $set_by_name(io: Handle, name: Text, buffer: Address, size: u64) -> i32 {
            call(stringify!($set_by_name), Kind::Local, |process| {
                bind(process, io, $side, first(&name)?, buffer, size)
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn $get_by_name(io: Handle, name: Text, buffer: Out<u64>, size: Out<u64>) -> i32 {
            call(stringify!($get_by_name), Kind::Local, |process| {
                bound(process, io, $side, first(&name)?, (&buffer, &size))
            })
        }
    )* };
}

per_side! {
    Input: axclrtEngineGetNumInputs axclrtEngineGetInputSizeByIndex axclrtEngineGetInputNameByIndex
        axclrtEngineGetInputIndexByName axclrtEngineGetInputDims axclrtEngineGetInputDataType
        axclrtEngineGetInputDataLayout axclrtEngineSetInputBufferByIndex axclrtEngineGetInputBufferByIndex
        axclrtEngineSetInputBufferByName axclrtEngineGetInputBufferByName;
    Output: axclrtEngineGetNumOutputs axclrtEngineGetOutputSizeByIndex axclrtEngineGetOutputNameByIndex
        axclrtEngineGetOutputIndexByName axclrtEngineGetOutputDims axclrtEngineGetOutputDataType
        axclrtEngineGetOutputDataLayout axclrtEngineSetOutputBufferByIndex axclrtEngineGetOutputBufferByIndex
        axclrtEngineSetOutputBufferByName axclrtEngineGetOutputBufferByName;
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineCreateIO(handle: Handle, io: Out<Handle>) -> i32 {
    call("axclrtEngineCreateIO", Kind::Local, |process| {
        io.check(NULL)?;
        let info = info(process, handle)?;
        let unbound = |tensors: &[Tensor]| vec![Binding::default(); tensors.len()];
        let new =
            Io { inputs: unbound(info.tensors(Input)), outputs: unbound(info.tensors(Output)), batch: 0 };
        let mut state = process.state();
        let handle = state.new_handle();
        state.ios.insert(handle, new);
        io.set(handle, NULL)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineDestroyIO(io: Handle) -> i32 {
    call("axclrtEngineDestroyIO", Kind::Local, |process| {
        process.state().ios.remove(&io).map(|_| 0).ok_or(PARAM)
    })
}

#[unsafe(no_mangle)]
extern "C" fn axclrtEngineSetDynamicBatchSize(io: Handle, batch: u32) -> i32 {
    call("axclrtEngineSetDynamicBatchSize", Kind::Local, |process| {
        with_io(process, io, |io| {
            io.batch = batch;
            Ok(0)
        })
    })
}
