//! The file's bytes as text. Editors of all kinds wrote them.

use std::path::Path;

use crate::config::Problem;

/// More is not read: nobody writes that by hand.
pub const LONGEST: usize = 256 << 10;
const BOM: &str = "\u{feff}";

/// What of `bytes` is text: as long, byte for byte, so that places in it are places in the
/// file. What is no UTF-8 becomes `?` in comments, and a comment elsewhere.
pub fn read(bytes: &[u8], path: &Path) -> (String, Vec<Problem>) {
    let wrong = |line, what: &str| Problem { file: path.into(), line, key: String::new(), what: what.into() };
    if bytes.len() > LONGEST {
        let what = "is longer than 256 KiB: write settings only; those of the last start apply";
        return (String::new(), vec![wrong(None, what)]);
    }
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        let what = "is UTF-16: save it as UTF-8; the settings of the last start apply";
        return (String::new(), vec![wrong(None, what)]);
    }
    let mut problems = Vec::new();
    let mut text = String::with_capacity(bytes.len());
    for (number, line) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
        match std::str::from_utf8(line) {
            Ok(line) => text.push_str(line),
            Err(_) if line.trim_ascii_start().starts_with(b"#") => text.extend(line.iter().map(ascii)),
            Err(_) => {
                problems.push(wrong(Some(number), "is no UTF-8, and left out: save the file as UTF-8"));
                text.push('#');
                text.extend(line.iter().skip(1).map(ascii));
            }
        }
    }
    if text.starts_with(BOM) {
        text.replace_range(..BOM.len(), "   ");
    }
    (text, problems)
}

fn ascii(byte: &u8) -> char {
    if byte.is_ascii() { char::from(*byte) } else { '?' }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> (String, Vec<String>) {
        let (text, problems) = read(bytes, Path::new("a"));
        assert!(text.is_empty() || text.len() == bytes.len());
        (text, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn text_stays_and_a_byte_order_mark_is_no_part_of_it() {
        assert_eq!(of("# Büro\r\na = 1\r\n".as_bytes()), ("# Büro\r\na = 1\r\n".into(), vec![]));
        assert_eq!(of("\u{feff}a = 1".as_bytes()), ("   a = 1".into(), vec![]));
        assert_eq!(of(b""), (String::new(), vec![]));
    }

    #[test]
    fn a_line_in_another_encoding_is_left_out_and_named() {
        let (text, problems) = of(b"# B\xfcro\na = \"\xe4\"\nb = 2\n");
        assert_eq!(text, "# B?ro\n# = \"?\"\nb = 2\n");
        assert_eq!(problems, ["a:2: is no UTF-8, and left out: save the file as UTF-8"]);
    }

    #[test]
    fn what_is_no_such_file_at_all_is_refused_whole() {
        assert!(of(b"\xff\xfea\0").1[0].contains("UTF-16"));
        assert!(of(b"\xfe\xff\0a").1[0].contains("UTF-16"));
        assert!(of(&vec![b'#'; LONGEST + 1]).1[0].contains("256 KiB"));
    }
}
