//! What an event carries so that its receiver can tell when it was made and whether one before it is missing.
//!
//! `@<CLOCK_MONOTONIC in nanoseconds>@<number from 0>@` and padding. The runner's scripted harness writes the same
//! on its directive `stamp N MS`.

use crate::clock::now_ns;
use std::fmt::Write as _;

/// Bytes of an event's text: that of a few tokens.
pub const TEXT_BYTES: usize = 60;

/// Writes the text of event `index`, made now.
pub fn write(out: &mut String, index: u64) {
    out.clear();
    // Writing to a string cannot fail.
    let _ = write!(out, "@{}@{index}@", now_ns());
    while out.len() < TEXT_BYTES {
        out.push('x');
    }
}

/// Calls `each` with time and number of every marker in `text`.
pub fn scan(text: &[u8], mut each: impl FnMut(u64, u64)) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'@', rest) {
        rest = &rest[at + 1..];
        let Some((stamp, after)) = number(rest).filter(|(_, after)| rest.len() - after.len() > 9) else {
            continue;
        };
        let Some((index, after)) = number(after) else {
            continue;
        };
        rest = after;
        each(stamp, index);
    }
}

/// A decimal number that ends with `@`, and what follows.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value: u64 = 0;
    for (at, byte) in text.iter().enumerate().take(20) {
        match byte {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            b'@' if at > 0 => return Some((value, &text[at + 1..])),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        scan(text.as_bytes(), |stamp, index| found.push((stamp, index)));
        found
    }

    #[test]
    fn what_is_written_is_found() {
        let (mut one, mut two) = (String::new(), String::new());
        write(&mut one, 0);
        write(&mut two, 17);
        assert_eq!(one.len(), TEXT_BYTES);
        let indices: Vec<u64> = all(&format!("{{\"a\":\"{one}{two}\"}}"))
            .iter()
            .map(|(_, index)| *index)
            .collect();
        assert_eq!(indices, [0, 17]);
    }

    #[test]
    fn other_text_is_not_taken_for_a_marker() {
        assert!(all("a@b.example @12@3@ @@@ @99999999999999999999999@1@").is_empty());
        assert_eq!(all("@@1234567890123@5@@"), [(1_234_567_890_123, 5)]);
    }
}
