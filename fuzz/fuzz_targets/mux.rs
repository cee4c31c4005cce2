//! The framed stream, as a guest may send it: in any pieces the same frames, and none over the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_guest::mux::{Decoder, Frame, MAX_PAYLOAD, MuxError};

fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, Option<MuxError>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(step).max(1)).collect();
    let (frames, error) = decode(&pieces);
    let (whole, same_error) = decode(&[bytes]);
    assert_eq!(frames, whole);
    assert_eq!(error.is_some(), same_error.is_some());
    for frame in frames {
        assert!(frame.payload.len() <= MAX_PAYLOAD);
    }
});
