//! Bounded lines of JSON over a blocking stream.

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// No line is longer; a longer one is garbage.
pub const LONGEST: usize = 64 << 10;

/// The next line's value, or `None` at the stream's end.
///
/// # Errors
/// Those of the stream, and what is not a line of such a value.
pub fn receive<T: DeserializeOwned>(stream: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    stream.take(LONGEST as u64).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
    }
    serde_json::from_slice(&line).map(Some).map_err(Into::into)
}

/// Sends `value` as one line.
///
/// # Errors
/// Those of the stream.
pub fn send(mut stream: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn lines_are_read_one_by_one_and_garbage_is_told() {
        let mut text = Vec::new();
        send(&mut text, &json!("a\nb")).unwrap();
        send(&mut text, &json!({"done": null})).unwrap();
        let mut stream = &text[..];
        assert_eq!(receive::<Value>(&mut stream).unwrap(), Some(json!("a\nb")));
        assert_eq!(receive::<Value>(&mut stream).unwrap(), Some(json!({"done": null})));
        assert_eq!(receive::<Value>(&mut stream).unwrap(), None);
        assert!(receive::<Value>(&mut &b"{\"done\":null}"[..]).is_err());
        assert!(receive::<Value>(&mut &b"nonsense\n"[..]).is_err());
        assert!(receive::<Value>(&mut &vec![b' '; LONGEST + 1][..]).is_err());
    }
}
