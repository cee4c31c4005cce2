//! Frames of terminals.

use super::*;

fn frames(bytes: &Bytes) -> Vec<(Header, Vec<u8>)> {
    let mut decoder = frame::Decoder::new();
    decoder.push(bytes);
    let mut found = Vec::new();
    while let Some((header, payload)) = decoder.next_frame().unwrap() {
        found.push((header, payload.to_vec()));
    }
    found
}

#[test]
fn output_is_cut_into_slices_and_the_first_says_so() {
    let found = frames(&blobs(9, 3, &vec![1; SLICE + 1], flags::FOLDED));
    let lengths: Vec<usize> = found.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lengths, [SLICE, 1]);
    assert_eq!((found[0].0.channel, found[0].0.session), (3, 9));
    assert_eq!((found[0].0.flags, found[1].0.flags), (flags::FOLDED, 0));
}

#[test]
fn an_attachment_begins_with_a_frame_even_when_nothing_was_shown() {
    let found = frames(&blobs(9, 3, &[], flags::FOLDED));
    assert_eq!(found.len(), 1);
    assert!(frames(&blobs(9, 3, &[], 0)).is_empty());
}

#[test]
fn an_end_without_a_status_has_a_reason() {
    assert!(told(StreamExit::default()).reason.is_some());
    let exit = StreamExit {
        code: Some(0),
        ..StreamExit::default()
    };
    assert_eq!(told(exit).reason, None);
}

#[test]
fn sizes_are_bounded() {
    for (rows, cols) in [(0, 80), (24, 0), (1001, 80), (24, u16::MAX)] {
        assert_eq!(
            check_size(rows, cols).unwrap_err().code,
            ErrorCode::InvalidArgument
        );
    }
    assert!(check_size(1, 1000).is_ok());
}
