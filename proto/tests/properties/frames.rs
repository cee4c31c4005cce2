//! The frame codec: however the bytes are cut, and whatever they are.

use lodge_proto::frame::{
    Decoder, FrameError, HEADER_LEN, Header, Kind, MAX_PAYLOAD, VERSION, decode_header, encode, encode_header,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const KINDS: [Kind; 6] = [
    Kind::Event,
    Kind::Reply,
    Kind::Control,
    Kind::Credit,
    Kind::Blob,
    Kind::Command,
];

fn header() -> impl Strategy<Value = Header> {
    (
        select(KINDS.to_vec()),
        any::<u16>(),
        any::<u32>(),
        any::<u64>(),
        any::<u64>(),
        any::<u32>(),
    )
        .prop_map(|(kind, flags, channel, session, seq, epoch)| Header {
            kind,
            flags,
            channel,
            session,
            seq,
            epoch,
        })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => vec(any::<u8>(), 0..64), 1 => vec(any::<u8>(), 0..5000)]
}

type Frames = Vec<(Header, Vec<u8>)>;

fn stream(frames: &Frames) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, payload) in frames {
        encode(header, payload, &mut bytes).unwrap();
    }
    bytes
}

/// Pushes one piece and takes out what is whole.
fn feed(decoder: &mut Decoder, piece: &[u8], out: &mut Frames) -> Result<(), FrameError> {
    decoder.push(piece);
    while let Some((header, payload)) = decoder.next_frame()? {
        out.push((header, payload.to_vec()));
    }
    Ok(())
}

/// Cuts `bytes` at the given places.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    at.push(bytes.len());
    let mut start = 0;
    at.into_iter()
        .map(|end| &bytes[std::mem::replace(&mut start, end)..end])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_gives_the_same_frames(
        frames in vec((header(), payload()), 0..6),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let bytes = stream(&frames);
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        for piece in pieces(&bytes, &cuts) {
            feed(&mut decoder, piece, &mut out).unwrap();
        }
        prop_assert_eq!(&out, &frames);
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn byte_by_byte_gives_the_same_frames(frames in vec((header(), vec(any::<u8>(), 0..40)), 1..4)) {
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        for byte in stream(&frames) {
            feed(&mut decoder, &[byte], &mut out).unwrap();
        }
        prop_assert_eq!(out, frames);
    }

    #[test]
    fn an_end_inside_a_frame_says_how_much_is_missing(
        frames in vec((header(), payload()), 1..4),
        cut in any::<Index>(),
    ) {
        let bytes = stream(&frames);
        let end = cut.index(bytes.len());
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        feed(&mut decoder, &bytes[..end], &mut out).unwrap();
        let mut start = 0;
        let mut expected = Ok(());
        for (_, payload) in &frames {
            let next = start + HEADER_LEN + payload.len();
            if end > start && end < next {
                let known = if end - start < HEADER_LEN { start + HEADER_LEN } else { next };
                expected = Err(FrameError::Torn { missing: known - end });
            }
            start = next;
        }
        prop_assert_eq!(decoder.finish(), expected);
    }

    /// Garbage is refused or is a frame by chance; never a panic, and what is refused stays refused.
    #[test]
    fn garbage_is_refused(bytes in vec(any::<u8>(), 0..400), cuts in vec(any::<Index>(), 0..4)) {
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        let mut failure = None;
        for piece in pieces(&bytes, &cuts) {
            if let Err(error) = feed(&mut decoder, piece, &mut out) {
                failure.get_or_insert(error);
            }
        }
        if let Some(failure) = failure {
            prop_assert_eq!(decoder.next_frame().unwrap_err(), failure.clone());
            prop_assert_eq!(decoder.finish().unwrap_err(), failure);
        } else {
            prop_assert!(out.is_empty() || bytes.len() >= HEADER_LEN);
        }
    }

    #[test]
    fn one_wrong_byte_in_the_head_is_named(
        header in header(),
        payload in vec(any::<u8>(), 0..32),
        version in any::<u8>(),
        kind in any::<u8>(),
        over in 1usize..(u32::MAX as usize - MAX_PAYLOAD),
    ) {
        let mut good = Vec::new();
        encode(&header, &payload, &mut good).unwrap();
        let first = |bytes: &[u8]| {
            let mut decoder = Decoder::new();
            decoder.push(bytes);
            decoder.next_frame().map(|frame| frame.map(|(header, _)| header))
        };
        let mut wrong = good.clone();
        wrong[4] = version;
        prop_assert_eq!(first(&wrong), if version == VERSION { Ok(Some(header)) } else { Err(FrameError::Version(version)) });
        let mut wrong = good.clone();
        wrong[5] = kind;
        match Kind::try_from(kind) {
            Ok(kind) => prop_assert_eq!(first(&wrong), Ok(Some(Header { kind, ..header }))),
            Err(error) => prop_assert_eq!(first(&wrong), Err(error)),
        }
        let mut wrong = good.clone();
        let length = u32::try_from(MAX_PAYLOAD + over).unwrap();
        wrong[0..4].copy_from_slice(&length.to_le_bytes());
        prop_assert_eq!(first(&wrong), Err(FrameError::Oversized(MAX_PAYLOAD + over)));
    }

    #[test]
    fn a_header_survives(header in header(), length in 0..=MAX_PAYLOAD) {
        let bytes = encode_header(&header, length).unwrap();
        prop_assert_eq!(decode_header(&bytes).unwrap(), (header, length));
    }

    /// The decoder holds the frame that is under way and the piece that came last, never what was taken out.
    #[test]
    fn memory_is_bounded_by_a_frame_and_a_piece(
        lengths in vec(0usize..30_000, 1..60),
        piece in 1usize..9_000,
    ) {
        let frames: Frames = lengths.iter().map(|length| (Header::new(Kind::Event), vec![7; *length])).collect();
        let longest = HEADER_LEN + lengths.iter().max().unwrap();
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        for piece in stream(&frames).chunks(piece) {
            feed(&mut decoder, piece, &mut out).unwrap();
            prop_assert!(decoder.buffered() <= 2 * (longest + piece.len()), "{} bytes held", decoder.buffered());
        }
        prop_assert_eq!(out.len(), frames.len());
    }
}

#[test]
fn every_kind_number_is_known_or_refused() {
    for number in 0..=u8::MAX {
        match Kind::try_from(number) {
            Ok(kind) => assert_eq!(kind as u8, number),
            Err(error) => assert_eq!(error, FrameError::UnknownKind(number)),
        }
    }
    assert_eq!(KINDS.map(|kind| kind as u8), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_longest_payload_passes_and_one_byte_more_does_not() {
    let header = Header::new(Kind::Blob);
    let payload = vec![9; MAX_PAYLOAD];
    let mut bytes = Vec::new();
    encode(&header, &payload, &mut bytes).unwrap();
    let (mut decoder, mut whole) = (Decoder::new(), 0);
    for piece in bytes.chunks(64 * 1024) {
        decoder.push(piece);
        while let Some((_, payload)) = decoder.next_frame().unwrap() {
            whole += usize::from(payload.len() == MAX_PAYLOAD);
        }
        assert!(decoder.buffered() <= bytes.len());
    }
    assert_eq!(whole, 1);
    let long = vec![9; MAX_PAYLOAD + 1];
    let before = bytes.len();
    assert_eq!(
        encode(&header, &long, &mut bytes),
        Err(FrameError::Oversized(MAX_PAYLOAD + 1))
    );
    assert_eq!(bytes.len(), before, "nothing of a refused frame is written");
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut decoder = Decoder::new();
    decoder.push(&encode_header(&Header::new(Kind::Blob), MAX_PAYLOAD).unwrap());
    assert!(decoder.next_frame().unwrap().is_none());
    assert_eq!(decoder.buffered(), HEADER_LEN);
    assert_eq!(decoder.finish(), Err(FrameError::Torn { missing: MAX_PAYLOAD }));
}
