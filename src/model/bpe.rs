//! Byte-pair encoding by rank: GPT-2's byte alphabet, and the merge rules implied by a
//! vocabulary whose ids are ranks.

use std::collections::HashMap;

/// The printable character that stands for a byte in byte-level vocabularies.
pub fn char_of_byte(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=b' ' => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte a character stands for, if it stands for one.
pub fn byte_of_char(c: char) -> Option<u8> {
    let byte = match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The spelling of bytes in a byte-level vocabulary.
pub fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char_of_byte(b)).collect()
}

/// The two tokens that are merged into `token`: what is left of its bytes when only tokens
/// of lower rank are merged. `None` for single bytes and tokens no merge leads to.
pub fn parents<'a>(token: &'a [u8], rank: u32, ranks: &HashMap<&[u8], u32>) -> Option<(&'a [u8], &'a [u8])> {
    // Ends of the parts the token is made of so far.
    let mut ends: Vec<usize> = (1..=token.len()).collect();
    let start_of =
        |ends: &[usize], i: usize| i.checked_sub(1).and_then(|i| ends.get(i)).copied().unwrap_or(0);
    while ends.len() > 2 {
        let best = (0..ends.len().saturating_sub(1))
            .filter_map(|i| {
                let pair = token.get(start_of(&ends, i)..*ends.get(i + 1)?)?;
                ranks.get(pair).map(|&r| (r, i))
            })
            .min()?;
        if best.0 >= rank {
            return None;
        }
        ends.remove(best.1);
    }
    match ends.as_slice() {
        &[middle, _] => Some(token.split_at(middle)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_is_a_bijection() {
        for byte in 0..=255u8 {
            assert_eq!(byte_of_char(char_of_byte(byte)), Some(byte));
        }
        assert_eq!(spell(b" \n\xad"), "ĠĊŃ");
        assert_eq!(byte_of_char('日'), None);
    }

    #[test]
    fn merges_follow_from_ranks() {
        let vocabulary: [&[u8]; 7] = [b"a", b"b", b"c", b"ab", b"abc", b"bc", b"cab"];
        let ranks: HashMap<&[u8], u32> = vocabulary.iter().copied().zip(0..).collect();
        assert_eq!(parents(b"ab", 3, &ranks), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(parents(b"abc", 4, &ranks), Some((&b"ab"[..], &b"c"[..])));
        assert_eq!(parents(b"cab", 6, &ranks), Some((&b"c"[..], &b"ab"[..])));
        assert_eq!(parents(b"a", 0, &ranks), None);
        assert_eq!(parents(b"cc", 9, &ranks), Some((&b"c"[..], &b"c"[..])));
    }
}
