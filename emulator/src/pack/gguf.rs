//! The GGUF file a model comes from, memory-mapped.

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};

use super::PackError;

/// An opened GGUF file.
pub struct Gguf {
    path: PathBuf,
    map: Arc<memmap2::Mmap>,
    content: Content,
}

/// A tensor's data as the file has it.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub data_type: GgmlDType,
    /// Rows; 1 for a vector.
    pub outputs: usize,
    pub inputs: usize,
    pub bytes: &'a [u8],
}

impl Gguf {
    /// Opens `path` and checks that every tensor lies inside it.
    ///
    /// # Errors
    /// When it cannot be read, is no GGUF file, or ends too early.
    pub fn open(path: &Path) -> Result<Self, PackError> {
        let unreadable = |e| PackError::Read { path: path.into(), source: e };
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: the file is only read here, for the length of the packing; a user who
        // rewrites it meanwhile gets a wrong model, which its manifest cannot hide.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(unreadable)?;
        if !map.starts_with(b"GGUF") {
            return Err(PackError::NotGguf { path: path.into() });
        }
        let content = Content::read(&mut Cursor::new(&map[..])).map_err(|e| {
            let what = e.to_string();
            if what.contains("dtype") {
                let what = format!("{what}; use a file of type Q4_0 … Q8_0, Q2_K … Q6_K, F16 or BF16");
                return PackError::Unsupported { path: path.into(), what };
            }
            PackError::Damaged { path: path.into(), what }
        })?;
        let gguf = Self { path: path.into(), map: Arc::new(map), content };
        let mut names: Vec<&String> = gguf.content.tensor_infos.keys().collect();
        names.sort();
        for name in names {
            gguf.weights(name)?;
        }
        Ok(gguf)
    }

    /// An error about this file.
    pub fn damaged(&self, what: impl Into<String>) -> PackError {
        PackError::Damaged { path: self.path.clone(), what: what.into() }
    }

    /// An error about what this file needs and this program lacks.
    pub fn unsupported(&self, what: impl Into<String>) -> PackError {
        PackError::Unsupported { path: self.path.clone(), what: what.into() }
    }

    fn typed<T>(
        &self,
        key: &str,
        read: impl Fn(&Value) -> candle_core::Result<T>,
    ) -> Result<Option<T>, PackError> {
        let Some(value) = self.content.metadata.get(key) else { return Ok(None) };
        read(value).map(Some).map_err(|_| self.damaged(format!("key {key} has an unexpected type")))
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, PackError> {
        match self.content.metadata.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.damaged(format!("key {key} is not a text"))),
        }
    }

    /// An integer of any width.
    pub fn number(&self, key: &str) -> Result<Option<usize>, PackError> {
        let read = |value: &Value| match value {
            Value::I32(n) if *n >= 0 => Ok(*n as usize),
            Value::I64(n) if *n >= 0 => Ok(*n as usize),
            _ => value.to_u64().map(|n| n as usize),
        };
        self.typed(key, read)
    }

    /// A number with fraction.
    pub fn float(&self, key: &str) -> Result<Option<f32>, PackError> {
        self.typed(key, Value::to_f32)
    }

    /// A truth value.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, PackError> {
        self.typed(key, Value::to_bool)
    }

    /// A list.
    pub fn list(&self, key: &str) -> Result<Option<&[Value]>, PackError> {
        match self.content.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.damaged(format!("key {key} is not a list"))),
        }
    }

    /// A tensor, if there is one of this name.
    pub fn find(&self, name: &str) -> Result<Option<Weights<'_>>, PackError> {
        if self.content.tensor_infos.contains_key(name) { self.weights(name).map(Some) } else { Ok(None) }
    }

    /// A tensor that must be there.
    pub fn weights(&self, name: &str) -> Result<Weights<'_>, PackError> {
        let info = self
            .content
            .tensor_infos
            .get(name)
            .ok_or_else(|| self.damaged(format!("tensor {name} is missing")))?;
        let (outputs, inputs) = match *info.shape.dims() {
            [inputs] => (1, inputs),
            [outputs, inputs] => (outputs, inputs),
            ref dims => return Err(self.unsupported(format!("tensor {name} has shape {dims:?}"))),
        };
        let data_type = info.ggml_dtype;
        if inputs == 0 || !inputs.is_multiple_of(data_type.block_size()) {
            return Err(self.damaged(format!("tensor {name}: rows of {inputs} are not whole blocks")));
        }
        let truncated =
            || self.damaged(format!("the file ends before tensor {name}; it is truncated: fetch it again"));
        let bytes = outputs
            .checked_mul(inputs / data_type.block_size())
            .and_then(|blocks| blocks.checked_mul(data_type.type_size()))
            .ok_or_else(truncated)?;
        let start = usize::try_from(self.content.tensor_data_offset.saturating_add(info.offset))
            .map_err(|_| truncated())?;
        let bytes =
            start.checked_add(bytes).and_then(|end| self.map.get(start..end)).ok_or_else(truncated)?;
        Ok(Weights { data_type, outputs, inputs, bytes })
    }
}

impl<'a> Weights<'a> {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.inputs / self.data_type.block_size() * self.data_type.type_size()
    }

    /// Row `index`, as stored.
    pub fn row(&self, index: usize) -> &'a [u8] {
        let size = self.row_bytes();
        self.bytes.get(index * size..(index + 1) * size).unwrap_or_default()
    }
}
