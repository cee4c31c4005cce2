//! The wire codec: whatever the chunking, and whatever the bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use lodge_shim::journal::{self, Kind, Record};
use lodge_shim::stream::{Channel, FromStream, LiveTerminal, StartStream, StreamExit, Terminal, ToStream};
use lodge_shim::wire::{
    Decoder, ErrorReply, Harness, Hello, HelloReply, MAX_FRAME, Stop, ToRunner, ToShim, WireError,
};
use proptest::prelude::*;

const TERMINAL: Terminal = Terminal {
    id: 5,
    rows: 24,
    cols: 80,
    opened_at: 6,
};

fn requests(bytes: &[u8], number: u64) -> Vec<ToShim<'_>> {
    vec![
        ToShim::Hello(Hello {
            version: 1,
            fence: number,
            from_seq: 7,
        }),
        ToShim::Input { id: [1; 16], bytes },
        ToShim::Append {
            kind: Kind::Closed,
            sync: true,
            id: [2; 16],
            bytes,
        },
        ToShim::Ack {
            durable: number,
            prune_before: 3,
        },
        ToShim::Signal(-2),
        ToShim::Stop(Stop { grace_ms: number }),
        ToShim::GetListener,
        ToShim::Stream(ToStream::Start {
            tag: number,
            start: StartStream {
                argv: vec!["sh".into()],
                env: vec![("A".into(), "b".into())],
                terminal: Some(TERMINAL),
            },
        }),
        ToShim::Stream(ToStream::Input { stream: 7, bytes }),
        ToShim::Stream(ToStream::Resize {
            stream: 7,
            rows: 24,
            cols: 80,
        }),
        ToShim::Stream(ToStream::Signal { stream: 7, signal: 9 }),
        ToShim::Stream(ToStream::Credit { stream: 7, bytes: 1 }),
    ]
}

fn replies(record: Record<'_>) -> Vec<ToRunner<'_>> {
    let (version, generation, pid) = (1, 2, 3);
    vec![
        ToRunner::HelloReply(HelloReply {
            version,
            generation,
            pid,
            harness: Harness::Exited,
            head_seq: 9,
            terminals: vec![LiveTerminal {
                stream: 2,
                terminal: TERMINAL,
            }],
        }),
        ToRunner::Record(record),
        ToRunner::Fenced,
        ToRunner::Error(ErrorReply {
            code: "range".into(),
            message: "why".into(),
        }),
        ToRunner::Listener,
        ToRunner::Stream(FromStream::Opened { tag: 1, stream: 2 }),
        ToRunner::Stream(FromStream::Refused {
            tag: 1,
            reason: "why",
        }),
        ToRunner::Stream(FromStream::Output {
            stream: 2,
            channel: Channel::Replay,
            bytes: b"said",
        }),
        ToRunner::Stream(FromStream::Exit {
            stream: 2,
            exit: StreamExit {
                error: Some("no such file".into()),
                errno: 2,
                ..StreamExit::default()
            },
        }),
    ]
}

proptest! {
    #[test]
    fn every_message_survives_any_chunking(
        bytes in prop::collection::vec(any::<u8>(), 0..200), number in any::<u64>(), size in 1usize..64,
    ) {
        let mut record = Vec::new();
        journal::encode_into(&mut record, number, 5, Kind::Out, 1, &[&bytes]);
        let record = Record::decode(&record).unwrap();
        let (requests, replies) = (requests(&bytes, number), replies(record));
        let mut stream = Vec::new();
        for message in &requests {
            message.encode_into(&mut stream).unwrap();
        }
        for message in &replies {
            message.encode_into(&mut stream).unwrap();
        }
        let mut decoder = Decoder::new();
        let mut seen = 0usize;
        for chunk in stream.chunks(size) {
            decoder.push(chunk);
            while let Some(frame) = decoder.next().unwrap() {
                match seen.checked_sub(requests.len()) {
                    None => prop_assert_eq!(&ToShim::parse(frame).unwrap(), &requests[seen]),
                    Some(at) => prop_assert_eq!(&ToRunner::parse(frame).unwrap(), &replies[at]),
                }
                seen += 1;
            }
        }
        prop_assert_eq!(seen, requests.len() + replies.len());
    }

    #[test]
    fn garbage_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        while let Ok(Some(frame)) = decoder.next() {
            let _ = ToShim::parse(frame);
            let _ = ToRunner::parse(frame);
        }
        let _ = Record::decode(&bytes);
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_by_its_header() {
    let mut decoder = Decoder::new();
    decoder.push(&u32::try_from(MAX_FRAME + 1).unwrap().to_le_bytes());
    decoder.push(&[2, 0, 0, 0]);
    assert!(matches!(decoder.next(), Err(WireError::TooLong { length }) if length == MAX_FRAME + 1));
}

#[test]
fn a_runner_cannot_append_the_shims_own_kinds() {
    for kind in [
        Kind::Generation,
        Kind::Out,
        Kind::Exit,
        Kind::InBegin,
        Kind::InDone,
        Kind::Unknown(99),
    ] {
        let mut stream = Vec::new();
        ToShim::Append {
            kind,
            sync: false,
            id: [0; 16],
            bytes: b"x",
        }
        .encode_into(&mut stream)
        .unwrap();
        let mut decoder = Decoder::new();
        decoder.push(&stream);
        let frame = decoder.next().unwrap().unwrap();
        assert!(
            matches!(ToShim::parse(frame), Err(WireError::Malformed { .. })),
            "{kind:?}"
        );
    }
}
