//! The line splitter under arbitrary chunking.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;

use lodge_shim::shim::lines::{HEAD, Line, Lines, MAX_LINE};
use proptest::prelude::*;

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Whole(Vec<u8>),
    Unterminated(Vec<u8>),
    Oversize(Vec<u8>, u64),
}

fn split<'a>(lines: &mut Lines, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut note = |line: Line<'_>| {
        seen.push(match line {
            Line::Whole(bytes) => Seen::Whole(bytes.to_vec()),
            Line::Unterminated(bytes) => Seen::Unterminated(bytes.to_vec()),
            Line::Oversize { head, length } => Seen::Oversize(head.to_vec(), length),
        });
        Ok::<_, Infallible>(())
    };
    for chunk in chunks {
        lines.push(chunk, &mut note).unwrap();
    }
    lines.finish(&mut note).unwrap();
    seen
}

/// The obvious way, for text that is there at once.
fn expected(text: &[u8], max: usize) -> Vec<Seen> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let rest = lines.pop().unwrap();
    let cut = |line: &[u8]| Seen::Oversize(line[..line.len().min(HEAD)].to_vec(), line.len() as u64);
    let whole = |line: &&[u8]| {
        if line.len() > max {
            cut(line)
        } else {
            Seen::Whole(line.to_vec())
        }
    };
    let mut seen: Vec<_> = lines.iter().map(whole).collect();
    if rest.len() > max {
        seen.push(cut(rest));
    } else if !rest.is_empty() {
        seen.push(Seen::Unterminated(rest.to_vec()));
    }
    seen
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_lines(
        text in prop::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r')], 0..300),
        sizes in prop::collection::vec(1usize..40, 1..20),
        max in 1usize..30,
    ) {
        let mut rest = &text[..];
        let mut sizes = sizes.iter().cycle();
        let chunks = std::iter::from_fn(|| {
            let (chunk, tail) = rest.split_at((*sizes.next()?).min(rest.len()));
            rest = tail;
            (!chunk.is_empty()).then_some(chunk)
        });
        prop_assert_eq!(split(&mut Lines::with_max(max), chunks), expected(&text, max));
    }
}

#[test]
fn a_line_of_exactly_the_limit_is_whole_and_one_byte_more_is_cut() {
    for (length, whole) in [(MAX_LINE, true), (MAX_LINE + 1, false)] {
        let mut text = vec![b'x'; length];
        text.extend_from_slice(b"\nnext\n");
        let seen = split(&mut Lines::default(), text.chunks(1 << 20));
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1], Seen::Whole(b"next".to_vec()));
        match &seen[0] {
            Seen::Whole(line) => assert!(whole && line.len() == length),
            Seen::Oversize(head, cut) => {
                assert!(!whole);
                assert_eq!((head.len(), *cut), (HEAD, length as u64));
            }
            Seen::Unterminated(_) => panic!("it has a newline"),
        }
    }
}
