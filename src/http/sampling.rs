//! Sampling parameters that dialects call by the same names.

use serde_json_borrow::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type, wrong_value};
use crate::chat::Sampling;

const STOPS: usize = 16;
const ALTERNATIVES: i64 = 20;
/// More than any context holds.
pub const MANY: i64 = i32::MAX as i64;

/// Reads all of them from the object they are in.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn read(fields: &Fields<'_>) -> Result<Sampling, ApiError> {
    // Some clients write −1 for "all".
    let top_k = fields.integer("top_k", -1..=MANY)?.map(|k| u32::try_from(k).unwrap_or(0));
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_k,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        min_p: fields.number("min_p", 0.0..=1.0)?,
        typical_p: fields.number("typical_p", 0.0..=1.0)?,
        repeat_penalty: repeat_penalty(fields, "repeat_penalty")?,
        repeat_last_n: fields.integer("repeat_last_n", -1..=MANY)?.and_then(|n| i32::try_from(n).ok()),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        logit_bias: Vec::new(),
        seed: fields.typed("seed", "an integer", seed)?,
        stop: stop(fields)?,
    })
}

/// The repeat penalty, called `name`.
pub fn repeat_penalty(fields: &Fields<'_>, name: &str) -> Result<Option<f32>, ApiError> {
    fields.number(name, 0.01..=10.0)
}

/// Any whole number is a seed; those beyond 64 bits by their floating-point form.
fn seed(value: &Value<'_>) -> Option<u64> {
    let float = || value.as_f64().filter(|float| float.fract() == 0.0);
    value.as_u64().or(value.as_i64().map(i64::cast_unsigned)).or_else(|| match float()? {
        float if float.abs() < 9e15 => Some((float as i64).cast_unsigned()),
        float => Some(float.to_bits()),
    })
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let path = fields.path("stop");
    let stops = match fields.get("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Str(stop)) => vec![stop.clone().into_owned()],
        Some(Value::Array(stops)) => {
            let each = stops.iter().enumerate().map(|(index, stop)| {
                let text = stop.as_str().map(str::to_owned);
                text.ok_or_else(|| wrong_type(&format!("{path}[{index}]"), "a string", stop))
            });
            each.collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong_type(&path, "a string or an array of strings", other)),
    };
    if stops.len() > STOPS {
        return Err(wrong_value(
            &path,
            format_args!("has {} strings, at most {STOPS} are taken", stops.len()),
        ));
    }
    // An empty string would end every answer before it begins.
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}

/// `logprobs` and `top_logprobs`: how many alternatives to tell of each token, if any.
///
/// # Errors
/// 400 with the name of the wrong parameter.
pub fn logprobs(fields: &Fields<'_>) -> Result<Option<u8>, ApiError> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=ALTERNATIVES)?;
    match (wanted, top) {
        (false, Some(1..)) => Err(wrong_value("top_logprobs", "is given, but 'logprobs' is not true")),
        (false, _) => Ok(None),
        (true, top) => Ok(Some(top.and_then(|top| u8::try_from(top).ok()).unwrap_or(0))),
    }
}
