//! Writes engine files.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};

use super::PackError;
use super::weights::Packed;
use crate::engine::container::Header;

/// The tensors of an engine file.
#[derive(Default)]
pub struct Tensors(Vec<(&'static str, QTensor)>);

impl Tensors {
    fn add(
        &mut self,
        name: &'static str,
        data_type: GgmlDType,
        dims: Vec<usize>,
        bytes: &[u8],
    ) -> Result<(), PackError> {
        let tensor = QStorage::from_data(bytes.into(), &Device::Cpu, data_type)
            .and_then(|storage| QTensor::new(storage, dims))
            .map_err(|e| PackError::Internal(format!("tensor {name}: {e}")))?;
        self.0.push((name, tensor));
        Ok(())
    }

    /// Adds a matrix.
    pub fn matrix(&mut self, name: &'static str, packed: &Packed) -> Result<(), PackError> {
        self.add(name, packed.data_type, vec![packed.outputs, packed.inputs], &packed.bytes)
    }

    /// Adds a vector.
    pub fn vector(&mut self, name: &'static str, values: &[f32]) -> Result<(), PackError> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.add(name, GgmlDType::F32, vec![values.len()], &bytes)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, tensor)| tensor.storage_size_in_bytes() as u64).sum()
    }
}

/// Writes `path`.
pub fn write(path: &Path, header: &Header, tensors: &Tensors) -> Result<(), PackError> {
    let failed = |e: std::io::Error| PackError::Write { path: path.into(), source: e };
    let metadata = header.metadata();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.0.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    gguf_file::write(&mut file, &metadata, &tensors)
        .map_err(|e| failed(std::io::Error::other(e.to_string())))?;
    file.into_inner().map_err(|e| failed(e.into_error())).map(drop)
}
