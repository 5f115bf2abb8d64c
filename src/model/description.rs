//! What a model directory consists of: the package's `config.json`, completed or
//! overruled by a [`Descriptor`] of our configuration.

use std::path::PathBuf;

use serde::Deserialize;

use crate::chat::{Think, TokenId};
use crate::fault::{Failure, Fault, Result};

/// Describes a package that has no `config.json`, or overrules single values of it.
/// Paths are relative to the model directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Descriptor {
    /// The name shown to clients.
    pub name: Option<String>,
    /// Layer files, e.g. `qwen3-4b-ax650/qwen3_p128_l%d_together.axmodel`.
    pub layer_template: Option<String>,
    /// How many layers there are.
    pub layers: Option<u32>,
    /// The engine that turns the last hidden state into logits.
    pub post: Option<PathBuf>,
    /// The bf16 embedding table.
    pub embeddings: Option<PathBuf>,
    /// Rows of the embedding table.
    pub vocabulary: Option<u32>,
    /// Values of one row.
    pub hidden: Option<u32>,
    /// A directory with Hugging Face tokenizer files, or one tokenizer file.
    pub tokenizer: Option<PathBuf>,
    /// The tokenizer's family, needed only for the vendor's vocabulary text, e.g. `Qwen3`.
    pub tokenizer_type: Option<String>,
    /// A chat template used instead of the package's own.
    pub chat_template: Option<PathBuf>,
    /// The package's sampling defaults.
    pub post_config: Option<PathBuf>,
    /// Put before conversations that have no system message.
    pub system_prompt: Option<String>,
    /// Tokens that end an answer, besides those the package names.
    pub eos: Vec<TokenId>,
    /// Whether the model thinks where a request does not say.
    pub thinking: Option<Think>,
}

/// The vendor's `config.json`, as far as it concerns text models.
#[derive(Default, Deserialize)]
#[serde(default)]
struct VendorConfig {
    model_name: Option<String>,
    tokenizer_type: Option<String>,
    url_tokenizer_model: Option<String>,
    template_filename_axmodel: Option<String>,
    axmodel_num: Option<u32>,
    filename_post_axmodel: Option<PathBuf>,
    filename_tokens_embed: Option<PathBuf>,
    tokens_embed_num: Option<u32>,
    tokens_embed_size: Option<u32>,
    system_prompt: Option<String>,
    post_config_path: Option<PathBuf>,
    enable_thinking: Option<bool>,
    thinking_mode: Option<String>,
    is_embedding: bool,
}

/// A complete description; paths still relative to the model directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub layer_template: LayerTemplate,
    pub layers: u32,
    pub post: PathBuf,
    pub embeddings: PathBuf,
    pub vocabulary: usize,
    pub hidden: usize,
    pub tokenizer: Option<PathBuf>,
    pub tokenizer_type: Option<String>,
    pub chat_template: Option<PathBuf>,
    pub post_config: PathBuf,
    pub system_prompt: Option<String>,
    pub eos: Vec<TokenId>,
    pub think: Think,
}

impl Description {
    /// Joins the text of `config.json`, if there is one, with the descriptor, which wins.
    ///
    /// # Errors
    /// [`Fault::ModelInvalid`], naming the key that is wrong or missing in both.
    pub fn new(config: Option<&str>, descriptor: Option<&Descriptor>) -> Result<Self> {
        let vendor: VendorConfig = match config {
            Some(text) => serde_json::from_str(text).map_err(|e| invalid(format!("config.json: {e}")))?,
            None => VendorConfig::default(),
        };
        if vendor.is_embedding {
            return Err(invalid("config.json: is_embedding: it is an embedding model, not a chat model"));
        }
        let ours = descriptor.cloned().unwrap_or_default();
        let template = needed(
            ours.layer_template.or(vendor.template_filename_axmodel),
            "template_filename_axmodel",
            "layer_template",
        )?;
        let think = match (ours.thinking, vendor.enable_thinking, vendor.thinking_mode.as_deref()) {
            (Some(think), _, _) => think,
            (_, Some(true), _) | (_, None, Some("think")) => Think::On,
            (_, Some(false), _) | (_, None, Some("no_think")) => Think::Off,
            _ => Think::Default,
        };
        // Older packages name an HTTP tokenizer service here; ours reads the files beside it.
        let url = vendor.url_tokenizer_model.filter(|u| !u.is_empty() && !u.starts_with("http"));
        Ok(Self {
            layer_template: LayerTemplate::new(&template)?,
            layers: needed(ours.layers.or(vendor.axmodel_num).filter(|&n| n > 0), "axmodel_num", "layers")?,
            post: needed(ours.post.or(vendor.filename_post_axmodel), "filename_post_axmodel", "post")?,
            embeddings: needed(
                ours.embeddings.or(vendor.filename_tokens_embed),
                "filename_tokens_embed",
                "embeddings",
            )?,
            vocabulary: count(ours.vocabulary.or(vendor.tokens_embed_num), "tokens_embed_num", "vocabulary")?,
            hidden: count(ours.hidden.or(vendor.tokens_embed_size), "tokens_embed_size", "hidden")?,
            name: needed(ours.name.or(vendor.model_name).filter(|n| !n.is_empty()), "model_name", "name")?,
            tokenizer: ours.tokenizer.or(url.map(PathBuf::from)),
            tokenizer_type: ours.tokenizer_type.or(vendor.tokenizer_type),
            chat_template: ours.chat_template,
            post_config: ours
                .post_config
                .or(vendor.post_config_path)
                .unwrap_or_else(|| PathBuf::from("post_config.json")),
            system_prompt: ours.system_prompt.or(vendor.system_prompt).filter(|text| !text.is_empty()),
            eos: ours.eos,
            think,
        })
    }
}

fn invalid(detail: impl Into<String>) -> Failure {
    Failure::new(Fault::ModelInvalid, detail)
}

fn needed<T>(value: Option<T>, vendor: &str, ours: &str) -> Result<T> {
    value.ok_or_else(|| {
        invalid(format!(
            "neither config.json has \"{vendor}\" nor the configuration `model.descriptor.{ours}`"
        ))
    })
}

fn count(value: Option<u32>, vendor: &str, ours: &str) -> Result<usize> {
    let n = needed(value.filter(|&n| n > 0), vendor, ours)?;
    usize::try_from(n).map_err(|e| invalid(format!("{vendor}: {e}")))
}

/// A file name with one place for the layer's number: `%d`, `%i` or `%u`, with an optional
/// zero flag and width as in `%02d`; `%%` is a percent sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerTemplate {
    before: String,
    zeros: bool,
    width: usize,
    after: String,
}

impl LayerTemplate {
    fn new(text: &str) -> Result<Self> {
        let wrong = || invalid(format!("layer file template \"{text}\" needs exactly one %d"));
        let mut parsed = None;
        let mut literal = String::new();
        let mut rest = text;
        while let Some((plain, mut tail)) = rest.split_once('%') {
            literal.push_str(plain);
            if let Some(after) = tail.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let zeros = tail.starts_with('0');
            tail = tail.trim_start_matches('0');
            let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
            let (width, conversion) = tail.split_at(digits);
            let width = if width.is_empty() { 0 } else { width.parse().map_err(|_| wrong())? };
            let after = conversion.strip_prefix(['d', 'i', 'u']).ok_or_else(wrong)?;
            if width > 32 || parsed.is_some() {
                return Err(wrong());
            }
            parsed = Some((std::mem::take(&mut literal), zeros, width));
            rest = after;
        }
        literal.push_str(rest);
        let (before, zeros, width) = parsed.ok_or_else(wrong)?;
        Ok(Self { before, zeros, width, after: literal })
    }

    /// The name of layer `index`.
    pub fn name(&self, index: u32) -> String {
        let Self { before, width, after, .. } = self;
        if self.zeros {
            format!("{before}{index:0>width$}{after}")
        } else {
            format!("{before}{index:>width$}{after}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "model_name": "Qwen2.5-1.5B", "system_prompt": "Your name is Lisa.",
        "template_filename_axmodel": "qwen2_p128_l%d_together.axmodel",
        "filename_post_axmodel": "qwen2_post.axmodel",
        "url_tokenizer_model": "http://127.0.0.1:12345",
        "filename_tokens_embed": "model.embed_tokens.weight.bfloat16.bin",
        "post_config_path": "post_config.json", "axmodel_num": 28,
        "tokens_embed_num": 151936, "tokens_embed_size": 1536,
        "b_use_mmap_load_embed": true, "port": 8080, "bos": true }"#;

    #[test]
    fn the_vendors_config_is_understood() {
        let d = Description::new(Some(CONFIG), None).unwrap();
        assert_eq!((d.layers, d.vocabulary, d.hidden), (28, 151_936, 1536));
        assert_eq!(d.layer_template.name(27), "qwen2_p128_l27_together.axmodel");
        assert_eq!(d.system_prompt.as_deref(), Some("Your name is Lisa."));
        assert_eq!((d.tokenizer, d.think), (None, Think::Default));
    }

    #[test]
    fn a_descriptor_completes_and_overrules() {
        let descriptor: Descriptor = toml::from_str(
            r#"
            name = "qwen3-4b"
            layer_template = "qwen3-4b-ax650/qwen3_p128_l%d_together.axmodel"
            layers = 36
            post = "qwen3-4b-ax650/qwen3_post.axmodel"
            embeddings = "qwen3-4b-ax650/model.embed_tokens.weight.bfloat16.bin"
            vocabulary = 151936
            hidden = 2560
            tokenizer = "qwen3_tokenizer"
            thinking = "off"
            eos = [151645]
            "#,
        )
        .unwrap();
        let alone = Description::new(None, Some(&descriptor)).unwrap();
        assert_eq!(alone.layer_template.name(0), "qwen3-4b-ax650/qwen3_p128_l0_together.axmodel");
        assert_eq!((alone.think, alone.eos.as_slice()), (Think::Off, &[151_645][..]));
        let both = Description::new(Some(CONFIG), Some(&descriptor)).unwrap();
        assert_eq!((both.name.as_str(), both.hidden), ("qwen3-4b", 2560));
        assert!(toml::from_str::<Descriptor>("lyers = 3").is_err());
    }

    #[test]
    fn thinking_keys_follow_the_vendors_order() {
        let think = |keys: &str| {
            let text = CONFIG.replacen('{', &format!("{{{keys},"), 1);
            Description::new(Some(&text), None).unwrap().think
        };
        assert_eq!(think(r#""enable_thinking": false, "thinking_mode": "think""#), Think::Off);
        assert_eq!(think(r#""thinking_mode": "think""#), Think::On);
        assert_eq!(think(r#""thinking_mode": "no_think""#), Think::Off);
        assert_eq!(think(r#""thinking_mode": "auto""#), Think::Default);
    }

    #[test]
    fn what_is_missing_is_named() {
        let failure = Description::new(Some(r#"{"model_name": "x"}"#), None).unwrap_err();
        assert!(failure.detail.contains("template_filename_axmodel"), "{}", failure.detail);
        assert!(failure.detail.contains("layer_template"), "{}", failure.detail);
    }

    #[test]
    fn layer_templates_take_exactly_one_number() {
        assert_eq!(LayerTemplate::new("l%02d.x").unwrap().name(7), "l07.x");
        assert_eq!(LayerTemplate::new("100%%_%u").unwrap().name(7), "100%_7");
        for wrong in ["l.x", "l%s.x", "l%d_%d.x", "l%", "l%99d", "l%n"] {
            assert!(LayerTemplate::new(wrong).is_err(), "{wrong}");
        }
    }
}
