//! Typed access to a JSON object; `null` counts as absent. Wrong types and values are
//! told in OpenAI's words, with the parameter's name.

use std::fmt;
use std::ops::RangeInclusive;

use hyper::StatusCode;
use memchr::memchr2;
use serde::Deserialize;
use serde_json_borrow::{ObjectAsVec, Value};

use super::error::ApiError;

/// Deepest nesting of a request's body. What reads it further on goes down level by level.
const DEPTH: usize = 64;
/// Most values in a request's body: each takes much more memory than its text may.
const VALUES: usize = 1 << 16;

/// A request's body as JSON: a [`Value`] that points into it, or one that may be changed.
///
/// # Errors
/// 400 where it is not, or is nested too deeply; 413 where it has too many values.
pub fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
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
        let mut rest = text.iter();
        while let Some(byte) = rest.next() {
            match byte {
                b'"' => rest = after_string(rest.as_slice()).iter(),
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

/// What follows a string that has been opened before `text`.
fn after_string(text: &[u8]) -> &[u8] {
    let mut rest = text;
    loop {
        match memchr2(b'"', b'\\', rest).and_then(|at| rest.split_at_checked(at)) {
            Some((_, [b'\\', _, after @ ..])) => rest = after,
            Some((_, [b'"', after @ ..])) => return after,
            _ => return &[],
        }
    }
}

/// Sets a field of an object that is written.
pub fn set(object: &mut serde_json::Value, name: &str, value: impl Into<serde_json::Value>) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value.into());
    }
}

/// A JSON object and the name it goes by in errors.
pub struct Fields<'a> {
    map: &'a ObjectAsVec<'a>,
    /// None for the request itself.
    name: Option<Name>,
}

/// What an object within a request is called.
enum Name {
    /// An element of one of the request's lists: put together only where something is wrong.
    Element(&'static str, usize),
    Other(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(list, index) => write!(f, "{list}[{index}]"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl<'a> Fields<'a> {
    /// The whole request.
    pub fn root(value: &'a Value<'a>) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { map, name: None }),
            other => Err(ApiError::invalid(format!(
                "The request's body must be a JSON object, but it is {}.",
                kind(other)
            ))),
        }
    }

    /// An object within it, called `name`.
    pub fn nested(value: &'a Value<'a>, name: &str) -> Result<Self, ApiError> {
        Self::called(value, Name::Other(name.to_owned()))
    }

    /// An element of the request's list `list`.
    pub fn element(value: &'a Value<'a>, list: &'static str, index: usize) -> Result<Self, ApiError> {
        Self::called(value, Name::Element(list, index))
    }

    fn called(value: &'a Value<'a>, name: Name) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { map, name: Some(name) }),
            other => Err(wrong_type(&name.to_string(), "an object", other)),
        }
    }

    /// The name of a field in errors.
    pub fn path(&self, name: &str) -> String {
        match &self.name {
            None => name.to_owned(),
            Some(object) => format!("{object}.{name}"),
        }
    }

    /// A field, unless absent or null.
    pub fn get(&self, name: &str) -> Option<&'a Value<'a>> {
        // Of a name given twice the last one counts, as for other readers of JSON.
        let named = self.map.iter().filter(|(key, _)| *key == name).last();
        named.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// An object field.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        self.get(name).map(|value| Fields::nested(value, &self.path(name))).transpose()
    }

    /// A list field.
    pub fn list(&self, name: &str) -> Result<Option<&'a [Value<'a>]>, ApiError> {
        self.typed(name, "an array", Value::as_array)
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
        let whole = |value: &Value<'_>| {
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
        read: impl FnOnce(&'a Value<'a>) -> Option<T>,
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
pub fn wrong_type(path: &str, expected: &str, value: &Value<'_>) -> ApiError {
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

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::Str(_) => "a string",
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
            (r#"{"a": "[\"#, 1),
            (r#"["[[\\", "[\\\""]"#, 1),
        ] {
            assert_eq!(Shape::of(text.as_bytes()).depth, expected, "{text}");
        }
    }

    #[test]
    fn of_a_name_given_twice_the_last_counts() {
        let value = json(br#"{"a": 1, "b": null, "\u0061": "t\u0077o", "b": 3, "b": null}"#).unwrap();
        let fields = Fields::root(&value).unwrap();
        assert_eq!(fields.text("a").unwrap(), Some("two"));
        assert_eq!(fields.get("b"), None);
    }

    #[test]
    fn what_is_nested_too_deeply_is_told_so() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(json::<Value<'_>>(nested(DEPTH).as_bytes()).is_ok());
        for levels in [DEPTH + 1, 128, 129, 100_000] {
            let error = json::<Value<'_>>(nested(levels).as_bytes()).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, Some("nested_too_deeply")), "{levels}");
            assert!(error.message.contains("at most 64"), "{}", error.message);
        }
        assert_eq!(json::<Value<'_>>(b"{").unwrap_err().code, Some("invalid_json"));
    }
}
