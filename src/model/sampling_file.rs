//! `post_config.json`: the package's sampling defaults, mapped to ours.

use std::path::Path;

use serde::Deserialize;

use super::directory::read_text;
use crate::chat::Sampling;
use crate::fault::{Failure, Fault, Result};

/// The vendor's keys. A value counts only where its `enable_…` switch is on; of top-p and
/// top-k the vendor applies one, top-p where both are on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PostConfig {
    enable_temperature: bool,
    temperature: Option<f32>,
    enable_repetition_penalty: bool,
    repetition_penalty: Option<f32>,
    penalty_window: Option<i32>,
    enable_top_p_sampling: bool,
    top_p: Option<f32>,
    enable_top_k_sampling: bool,
    top_k: Option<u32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
}

/// Reads the file; no defaults where there is none.
///
/// # Errors
/// [`Fault::ModelInvalid`] where it is not JSON of the vendor's kind.
pub fn read(path: &Path) -> Result<Sampling> {
    let Some(text) = read_text(path)? else { return Ok(Sampling::default()) };
    parse(&text).map_err(|e| Failure::new(Fault::ModelInvalid, format!("{}: {e}", path.display())))
}

fn parse(text: &str) -> serde_json::Result<Sampling> {
    let file: PostConfig = serde_json::from_str(text)?;
    let mut sampling = Sampling {
        temperature: file.temperature.filter(|_| file.enable_temperature),
        repeat_penalty: file.repetition_penalty.filter(|_| file.enable_repetition_penalty),
        repeat_last_n: file.penalty_window.filter(|_| file.enable_repetition_penalty),
        frequency_penalty: file.frequency_penalty,
        presence_penalty: file.presence_penalty,
        ..Sampling::default()
    };
    if file.enable_top_p_sampling {
        sampling.top_p = file.top_p;
    } else if file.enable_top_k_sampling {
        sampling.top_k = file.top_k;
    } else if !file.enable_temperature {
        // With every switch off the vendor takes the likeliest token.
        sampling.temperature = Some(0.0);
    }
    Ok(sampling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_count_only_where_they_are_switched_on() {
        let sampling = parse(
            r#"{"enable_temperature":true,"temperature":0.9,"enable_repetition_penalty":false,
                "repetition_penalty":1.2,"penalty_window":20,"enable_top_p_sampling":false,
                "top_p":0.8,"enable_top_k_sampling":true,"top_k":10}"#,
        )
        .unwrap();
        assert_eq!(sampling.temperature, Some(0.9));
        assert_eq!(sampling.top_k, Some(10));
        assert_eq!((sampling.top_p, sampling.repeat_penalty, sampling.repeat_last_n), (None, None, None));
    }

    #[test]
    fn top_p_wins_over_top_k_and_no_switch_means_greedy() {
        let both =
            parse(r#"{"enable_top_p_sampling":true,"top_p":0.8,"enable_top_k_sampling":true,"top_k":10}"#)
                .unwrap();
        assert_eq!((both.top_p, both.top_k), (Some(0.8), None));
        assert_eq!(parse("{}").unwrap().temperature, Some(0.0));
    }
}
