//! The framed stream, as a guest may send it: in any pieces the same frames, none over the limit, and exactly the
//! bytes that came when they are written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_guest::mux::{
    Configure, Decoder, Exit, Frame, HEADER_LEN, Hello, Kind, Limit, MAX_PAYLOAD, MuxError, Resize, Signal,
    Start, StartFailed, Started,
};

/// All frames, and how the stream ended.
fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, Result<(), MuxError>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        assert!(decoder.buffered() < HEADER_LEN + MAX_PAYLOAD);
    }
    (frames, decoder.finish())
}

/// Reads the payload as what its kind says; it may be refused, and no more.
fn payload(frame: &Frame) {
    let _ = match frame.kind {
        Kind::Start => frame.parse::<Start>().map(drop),
        Kind::Started => frame.parse::<Started>().map(drop),
        Kind::StartFailed => frame.parse::<StartFailed>().map(drop),
        Kind::Exit => frame.parse::<Exit>().map(drop),
        Kind::Signal => frame.parse::<Signal>().map(drop),
        Kind::Hello => frame.parse::<Hello>().map(drop),
        Kind::Resize => frame.parse::<Resize>().map(drop),
        Kind::Configure => frame.parse::<Configure>().map(drop),
        Kind::Limit => frame.parse::<Limit>().map(drop),
        _ => Ok(()),
    };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, bytes)) = bytes.split_first() else {
        return;
    };
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(step).max(1)).collect();
    let read = decode(&pieces);
    assert_eq!(read, decode(&[bytes]), "pieces make no difference");
    let (frames, end) = read;
    let mut again = Vec::new();
    for frame in &frames {
        assert!(frame.payload.len() <= MAX_PAYLOAD);
        payload(frame);
        frame
            .encode_into(&mut again)
            .expect("what was read can be written");
    }
    assert!(bytes.starts_with(&again), "frames are what came");
    assert!(
        end.is_err() || again.len() == bytes.len(),
        "nothing is left out in silence"
    );
});
