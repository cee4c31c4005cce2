//! The codec survives any chunking and answers every kind of garbage with a typed error.

use lodge_guest::mux::{Decoder, Frame, HEADER_LEN, Kind, MAX_PAYLOAD, MuxError, Start, encode_into};
use proptest::collection::vec;
use proptest::prelude::*;

fn kind() -> impl Strategy<Value = Kind> {
    (1u8..=13).prop_map(|k| Kind::try_from(k).expect("all kinds from 1 to 13 exist"))
}

fn frame() -> impl Strategy<Value = Frame> {
    (kind(), any::<u32>(), vec(any::<u8>(), 0..300)).prop_map(|(k, s, p)| Frame::new(k, s, p))
}

fn drain(decoder: &mut Decoder, into: &mut Vec<Frame>) -> Result<(), MuxError> {
    while let Some(frame) = decoder.next()? {
        into.push(frame);
    }
    Ok(())
}

proptest! {
    #[test]
    fn frames_survive_any_chunking(frames in vec(frame(), 0..12), cuts in vec(1usize..400, 1..40)) {
        let mut wire = Vec::new();
        for frame in &frames {
            frame.encode_into(&mut wire).unwrap();
        }
        let (mut decoder, mut got) = (Decoder::new(), Vec::new());
        let (mut rest, mut cuts) = (wire.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            decoder.push(now);
            drain(&mut decoder, &mut got).unwrap();
            rest = later;
        }
        prop_assert_eq!(decoder.finish(), Ok(()));
        prop_assert_eq!(got, frames);
    }

    #[test]
    fn a_torn_end_is_an_error(frame in frame(), keep in 1usize..300) {
        let mut wire = Vec::new();
        frame.encode_into(&mut wire).unwrap();
        let keep = keep.min(wire.len() - 1);
        let mut decoder = Decoder::new();
        decoder.push(&wire[..keep]);
        prop_assert_eq!(decoder.next(), Ok(None));
        let torn = matches!(decoder.finish(), Err(MuxError::Torn { have, .. }) if have == keep);
        prop_assert!(torn);
    }

    #[test]
    fn garbage_never_panics_and_stays_refused(bytes in vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        let mut got = Vec::new();
        if let Err(error) = drain(&mut decoder, &mut got) {
            decoder.push(&bytes);
            prop_assert_eq!(decoder.next(), Err(error));
            prop_assert_eq!(decoder.buffered(), 0);
        }
    }
}

#[test]
fn the_largest_payload_passes_and_one_more_is_refused() {
    let mut wire = Vec::new();
    encode_into(Kind::Stdout, 1, &vec![7; MAX_PAYLOAD], &mut wire).unwrap();
    let mut decoder = Decoder::new();
    decoder.push(&wire);
    assert_eq!(decoder.next().unwrap().unwrap().payload.len(), MAX_PAYLOAD);

    let before = wire.len();
    let refused = encode_into(Kind::Stdout, 1, &vec![7; MAX_PAYLOAD + 1], &mut wire);
    assert_eq!(
        refused,
        Err(MuxError::Oversized {
            length: MAX_PAYLOAD + 1
        })
    );
    assert_eq!(wire.len(), before);

    let mut header = [0u8; HEADER_LEN];
    header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    header[4] = Kind::Stdout as u8;
    let mut decoder = Decoder::new();
    decoder.push(&header);
    assert_eq!(
        decoder.next(),
        Err(MuxError::Oversized {
            length: u32::MAX as usize
        })
    );
}

#[test]
fn unknown_kinds_and_reserved_bits_are_refused() {
    for (at, value, want) in [
        (4, 0, MuxError::UnknownKind { kind: 0 }),
        (4, 18, MuxError::UnknownKind { kind: 18 }),
        (
            5,
            1,
            MuxError::ReservedBits {
                flags: 1,
                reserved: 0,
            },
        ),
        (
            7,
            1,
            MuxError::ReservedBits {
                flags: 0,
                reserved: 256,
            },
        ),
    ] {
        let mut header = [0u8; HEADER_LEN];
        header[4] = Kind::Stdin as u8;
        header[at] = value;
        let mut decoder = Decoder::new();
        decoder.push(&header);
        assert_eq!(decoder.next(), Err(want));
    }
}

#[test]
fn a_payload_that_is_not_its_json_names_its_kind() {
    let frame = Frame::new(Kind::Start, 1, *b"{}");
    let error = frame.parse::<Start>().unwrap_err();
    assert!(
        matches!(
            error,
            MuxError::Payload {
                kind: Kind::Start,
                ..
            }
        ),
        "{error}"
    );
}
