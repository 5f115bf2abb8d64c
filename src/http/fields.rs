//! Typed access to a JSON object; `null` counts as absent. Wrong types and values are
//! told in OpenAI's words, with the parameter's name.

use std::ops::RangeInclusive;

use hyper::StatusCode;
use serde_json::{Map, Value};

use super::error::ApiError;

/// Deepest nesting of a request's body. What reads it further on goes down level by level.
const DEPTH: usize = 64;
/// Most values in a request's body: each takes much more memory than its text may.
const VALUES: usize = 1 << 16;

/// A request's body as JSON.
///
/// # Errors
/// 400 where it is not, or is nested too deeply; 413 where it has too many values.
pub fn json(body: &[u8]) -> Result<Value, ApiError> {
    let Shape { depth, values } = Shape::of(body);
    if depth > DEPTH {
        let message = format!(
            "The request's body is nested too deeply: at most {DEPTH} objects and arrays may stand in one another."
        );
        return Err(ApiError::invalid(message).code("nested_too_deeply"));
    }
    if values > VALUES {
        return Err(ApiError::invalid(format!("The request's body has more than {VALUES} values."))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
            .code("request_too_large"));
    }
    serde_json::from_slice(body).map_err(|e| {
        ApiError::invalid(format!("The request's body is not valid JSON: {e}.")).code("invalid_json")
    })
}

/// What reading a JSON text will cost; text that is none has any shape.
struct Shape {
    /// How many objects and arrays stand in one another, at most.
    depth: usize,
    /// About how many values there are: never fewer than are read.
    values: usize,
}

impl Shape {
    fn of(text: &[u8]) -> Self {
        let (mut depth, mut values, mut now) = (0, 1, 0_usize);
        let (mut quoted, mut escaped) = (false, false);
        for byte in text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b',' => values += 1,
                b'{' | b'[' => {
                    (now, values) = (now + 1, values + 1);
                    depth = depth.max(now);
                }
                b'}' | b']' => now = now.saturating_sub(1),
                _ => {}
            }
        }
        Self { depth, values }
    }
}

/// Sets a field of an object that is written.
pub fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value.into());
    }
}

/// A JSON object and the name it goes by in errors.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Empty, or ends with a dot.
    prefix: String,
}

impl<'a> Fields<'a> {
    /// The whole request.
    pub fn root(value: &'a Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { map, prefix: String::new() }),
            other => Err(ApiError::invalid(format!(
                "The request's body must be a JSON object, but it is {}.",
                kind(other)
            ))),
        }
    }

    /// An object within it, called `name`.
    pub fn nested(value: &'a Value, name: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { map, prefix: format!("{name}.") }),
            other => Err(wrong_type(name, "an object", other)),
        }
    }

    /// The name of a field in errors.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A field, unless absent or null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// An object field.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        self.get(name).map(|value| Fields::nested(value, &self.path(name))).transpose()
    }

    /// A list field.
    pub fn list(&self, name: &str) -> Result<Option<&'a [Value]>, ApiError> {
        self.typed(name, "an array", |value| value.as_array().map(Vec::as_slice))
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, "a string", Value::as_str)
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "a boolean", Value::as_bool)
    }

    /// A number within `range`.
    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
        let Some(number) = self.typed(name, "a number", Value::as_f64)? else { return Ok(None) };
        self.within(name, number, &range)?;
        Ok(Some(number as f32))
    }

    /// A whole number within `range`; `3.0` is one.
    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let whole = |value: &Value| {
            let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
            value.as_i64().or(float.map(|float| float as i64)).or(value.as_u64().map(|_| i64::MAX))
        };
        let Some(number) = self.typed(name, "an integer", whole)? else { return Ok(None) };
        self.within(name, number, &range)?;
        Ok(Some(number))
    }

    /// Any field, turned by `read`; `expected` says what it should have been.
    pub fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong_type(&self.path(name), expected, value))
    }

    fn within<T: PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        number: T,
        range: &RangeInclusive<T>,
    ) -> Result<(), ApiError> {
        if range.contains(&number) {
            return Ok(());
        }
        let (least, most) = (range.start(), range.end());
        Err(wrong_value(&self.path(name), format!("is {number}, but must be {least} to {most}")))
    }
}

/// 400: not the type it should be.
pub fn wrong_type(path: &str, expected: &str, value: &Value) -> ApiError {
    ApiError::invalid(format!(
        "Invalid type for '{path}': expected {expected}, but got {} instead.",
        kind(value)
    ))
    .param(path)
    .code("invalid_type")
}

/// 400: of the right type, but not possible. `what` goes on after the parameter's name.
pub fn wrong_value(path: &str, what: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("Invalid value: '{path}' {what}.")).param(path).code("invalid_value")
}

/// 400: not there.
pub fn missing(path: &str) -> ApiError {
    ApiError::invalid(format!("Missing required parameter: '{path}'."))
        .param(path)
        .code("missing_required_parameter")
}

/// 400: possible, but not here.
pub fn unsupported(path: &str, what: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("Unsupported parameter: '{path}' {what}."))
        .param(path)
        .code("unsupported_parameter")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_texts() {
        for (text, expected) in [
            ("", 0),
            ("7", 0),
            ("{}", 1),
            ("[[],[[]],{}]", 3),
            (r#"{"a": "[[[[", "b": ["\"[[{", "\\", [1]]}"#, 3),
            (r#"{"a\\": [1]}"#, 2),
            ("]]]][[", 2),
        ] {
            assert_eq!(Shape::of(text.as_bytes()).depth, expected, "{text}");
        }
    }

    #[test]
    fn what_is_nested_too_deeply_is_told_so() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(json(nested(DEPTH).as_bytes()).is_ok());
        for levels in [DEPTH + 1, 128, 129, 100_000] {
            let error = json(nested(levels).as_bytes()).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, Some("nested_too_deeply")), "{levels}");
            assert!(error.message.contains("at most 64"), "{}", error.message);
        }
        assert_eq!(json(b"{").unwrap_err().code, Some("invalid_json"));
    }
}
