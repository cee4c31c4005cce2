//! What a tunnel carries: the same passes in any pieces, what passed is in order by itself, and plain HTTP names the
//! host of the connection in every request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_egress::gate::{Gate, GateError};
use lodge_egress::head::{Body, Head};
use lodge_egress::name::Host;

/// What passed, whether it was to the end, and whether a WebSocket was opened.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    bytes: Vec<u8>,
    end: Result<(), GateError>,
    opened: bool,
}

fn host() -> Host {
    Host::parse(b"a.example").expect("a name")
}

/// Sends all of it; the server answers `status` to whoever asks for another protocol.
fn through(port: u16, pieces: &[&[u8]], status: u16) -> Passed {
    let mut gate = Gate::new(host(), port);
    let (mut bytes, mut opened) = (Vec::new(), false);
    for piece in pieces {
        let mut end = gate.feed(piece, &mut bytes);
        while end.is_ok() && gate.awaits_answer() {
            opened |= status == 101;
            end = gate.answered(status, &mut bytes);
        }
        if end.is_err() {
            return Passed { bytes, end, opened };
        }
    }
    Passed {
        bytes,
        end: Ok(()),
        opened,
    }
}

/// Every request in `bytes` is for the host.
fn for_the_host(mut bytes: &[u8], port: u16) {
    while !bytes.is_empty() {
        let head = Head::parse(bytes)
            .expect("a head")
            .expect("whole heads are passed");
        assert_eq!(head.host(port), Ok(Some((host(), port))));
        assert!(head.method != b"CONNECT");
        assert_eq!(head.values("http2-settings").count(), 0);
        let mut body = Body::new(head.framing().expect("one length"));
        bytes = &bytes[head.length..];
        let taken = body.take(bytes).expect("bodies are checked before they pass");
        bytes = &bytes[taken..];
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [step, mode, bytes @ ..] = bytes else {
        return;
    };
    let port = [80, 443, 22, 8443][usize::from(mode & 3)];
    let status = if mode & 4 == 0 { 200 } else { 101 };
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*step).max(1)).collect();
    let passed = through(port, &pieces, status);
    let whole = through(port, &[bytes], status);
    assert_eq!(passed.end.is_ok(), whole.end.is_ok());
    assert_eq!(passed.opened, whole.opened);
    // Of what ends in an error, more or less may have passed before; the shorter is how the longer begins.
    let shared = passed.bytes.len().min(whole.bytes.len());
    assert_eq!(passed.bytes[..shared], whole.bytes[..shared]);
    if passed.end.is_ok() {
        assert_eq!(passed, whole);
    }
    let again = through(port, &[&passed.bytes], status);
    assert_eq!(
        (again.end, &again.bytes),
        (Ok(()), &passed.bytes),
        "what passed is in order"
    );
    if port == 80 && !passed.opened {
        for_the_host(&passed.bytes, port);
    }
});
