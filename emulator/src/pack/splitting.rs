//! How byte-level tokenizers split text before merging, by the names GGUF files use.

use serde_json::{Value, json};

const GPT2: &str = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const QWEN2: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const LLAMA3: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/// A way of splitting.
pub struct Splitting {
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    /// Whole words of the vocabulary are taken as they are.
    pub ignores_merges: bool,
}

/// The splitting GGUF files call `name`; `None` for unknown names.
pub fn splitting(name: &str) -> Option<Splitting> {
    let digits = || json!({"type": "Digits", "individual_digits": true});
    let (steps, normalizer, ignores_merges) = match name {
        "default" | "gpt-2" => (vec![split(GPT2)], Value::Null, false),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            (vec![digits(), split(GPT2)], Value::Null, false)
        }
        "qwen2" | "deepseek-r1-qwen" => (vec![split(QWEN2)], json!({"type": "NFC"}), false),
        "llama-bpe" | "llama3" | "llama-v3" => (vec![split(LLAMA3)], Value::Null, true),
        _ => return None,
    };
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let steps: Vec<Value> = steps.into_iter().chain([bytes]).collect();
    let pre_tokenizer = json!({"type": "Sequence", "pretokenizers": steps});
    Some(Splitting { normalizer, pre_tokenizer, ignores_merges })
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}
