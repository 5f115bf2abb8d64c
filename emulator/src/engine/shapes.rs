//! The tensors and shape groups engines present, as the vendor's do.

use super::container::{LayerSpec, PostSpec};
use super::{DataType, EngineInfo, Tensor};

/// One group's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Rows computed.
    pub rows: usize,
    /// Cache rows the mask covers; the K/V cache tensors have at least one row.
    pub history: usize,
}

/// The groups of a layer: decode, then the prefill groups.
pub fn layer_groups(spec: &LayerSpec) -> Vec<Group> {
    let decode = Group { rows: 1, history: spec.capacity };
    let prefill = spec.histories.iter().map(|&history| Group { rows: spec.chunk, history });
    std::iter::once(decode).chain(prefill).collect()
}

fn dims(sizes: [usize; 3]) -> Vec<i32> {
    sizes.into_iter().map(|n| i32::try_from(n).unwrap_or(i32::MAX)).collect()
}

fn tensor(name: &str, data_type: DataType, dims: Vec<Vec<i32>>) -> Tensor {
    Tensor { name: name.into(), data_type, dims }
}

/// K_cache, V_cache, indices, input, mask → K_cache_out, V_cache_out, output.
pub fn layer_info(spec: &LayerSpec) -> EngineInfo {
    let groups = layer_groups(spec);
    let each = |shape: &dyn Fn(&Group) -> [usize; 3]| -> Vec<Vec<i32>> {
        groups.iter().map(|group| dims(shape(group))).collect()
    };
    let cache = each(&|g| [1, g.history.max(1), spec.kv_width()]);
    let fresh = each(&|g| [1, g.rows, spec.kv_width()]);
    let hidden = each(&|g| [1, g.rows, spec.hidden]);
    let mask = each(&|g| [1, g.rows, g.history + g.rows]);
    let indices = each(&|g| [0, 1, g.rows]).into_iter().map(|d| d.into_iter().skip(1).collect()).collect();
    EngineInfo {
        inputs: vec![
            tensor("K_cache", DataType::Bf16, cache.clone()),
            tensor("V_cache", DataType::Bf16, cache),
            tensor("indices", DataType::U32, indices),
            tensor("input", DataType::Bf16, hidden.clone()),
            tensor("mask", DataType::Bf16, mask),
        ],
        outputs: vec![
            tensor("K_cache_out", DataType::Bf16, fresh.clone()),
            tensor("V_cache_out", DataType::Bf16, fresh),
            tensor("output", DataType::Bf16, hidden),
        ],
        groups: groups.len(),
    }
}

/// input → output (logits).
pub fn post_info(spec: &PostSpec) -> EngineInfo {
    EngineInfo {
        inputs: vec![tensor("input", DataType::Bf16, vec![dims([1, 1, spec.hidden])])],
        outputs: vec![tensor("output", DataType::Bf16, vec![dims([1, 1, spec.vocabulary])])],
        groups: 1,
    }
}

/// Checks a call's buffers against `info`.
pub fn check(info: &EngineInfo, group: usize, inputs: &[&[u8]], outputs: &[Vec<u8>]) -> Result<(), String> {
    if group >= info.groups {
        return Err(format!("no shape group {group}: there are {}", info.groups));
    }
    let given = inputs.iter().map(|b| b.len()).chain(outputs.iter().map(Vec::len));
    let wanted = info.inputs.iter().chain(&info.outputs);
    if inputs.len() != info.inputs.len() || outputs.len() != info.outputs.len() {
        return Err("wrong number of tensors".into());
    }
    for (tensor, given) in wanted.zip(given) {
        if tensor.bytes(group) != Some(given) {
            return Err(format!("tensor {}: {given} bytes do not fit group {group}", tensor.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::container::RopeKind;
    use super::*;

    #[test]
    fn a_layer_presents_the_vendors_tensors() {
        let spec = LayerSpec {
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            ffn: 128,
            rms_eps: 1e-6,
            rope_kind: RopeKind::Neox,
            rope_base: 1e6,
            rope_dims: 16,
            rope_scale: 1.0,
            capacity: 300,
            chunk: 128,
            histories: vec![0, 128, 256],
        };
        let info = layer_info(&spec);
        let names = |t: &[Tensor]| t.iter().map(|t| t.name.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&info.inputs), "K_cache V_cache indices input mask");
        assert_eq!(names(&info.outputs), "K_cache_out V_cache_out output");
        assert_eq!(info.groups, 4);
        let dims = |t: &Tensor| format!("{:?}", t.dims);
        assert_eq!(dims(&info.inputs[0]), "[[1, 300, 32], [1, 1, 32], [1, 128, 32], [1, 256, 32]]");
        assert_eq!(dims(&info.inputs[2]), "[[1, 1], [1, 128], [1, 128], [1, 128]]");
        assert_eq!(dims(&info.inputs[4]), "[[1, 1, 301], [1, 128, 128], [1, 128, 256], [1, 128, 384]]");
        assert_eq!(dims(&info.outputs[0]), "[[1, 1, 32], [1, 128, 32], [1, 128, 32], [1, 128, 32]]");
        assert_eq!(info.inputs[0].bytes(0), Some(300 * 32 * 2));
    }
}
