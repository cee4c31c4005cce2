//! A made-up guest on the machine's side of the stream.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use lodge_guest::mux::{CONNECTION_WINDOW, Exit, MuxError, Start};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::super::process::tokio_stream;
use super::*;

const FIRST: u32 = CONNECTIONS;
const PATIENCE: Duration = Duration::from_mins(1);

/// Both ends of a bridge whose machine says what a test wants.
struct Bridge {
    asker: Frames,
    to_asker: OwnedWriteHalf,
    guest: Frames,
    to_guest: OwnedWriteHalf,
    outcome: JoinHandle<Result<(), ProtocolError>>,
}

fn pair() -> (UnixStream, UnixStream) {
    let (one, two) = StdStream::pair().unwrap();
    let stream = |end: StdStream| tokio_stream(OwnedFd::from(end)).unwrap();
    (stream(one), stream(two))
}

fn bridge(gateway: &Path) -> Bridge {
    let (asker, asked) = pair();
    let (machine, guest) = pair();
    let (from_asker, to_asker) = asker.into_split();
    let (from_guest, to_guest) = guest.into_split();
    let outcome = tokio::spawn(pass(asked, Machine::new(machine), gateway.to_owned()));
    Bridge {
        asker: Frames::new(from_asker),
        to_asker,
        guest: Frames::new(from_guest),
        to_guest,
        outcome,
    }
}

async fn send(to: &mut OwnedWriteHalf, kind: Kind, stream: u32, payload: &[u8]) {
    let mut bytes = Vec::new();
    Frame::new(kind, stream, payload).encode_into(&mut bytes).unwrap();
    to.write_all(&bytes).await.unwrap();
}

async fn next(frames: &mut Frames) -> Option<Frame> {
    timeout(PATIENCE, frames.next())
        .await
        .expect("a frame in time")
        .unwrap()
}

/// What the bridge ends with when the guest sends these bytes.
async fn refusal(bytes: &[u8]) -> ProtocolError {
    let mut bridge = bridge(Path::new("/nowhere"));
    bridge.to_guest.write_all(bytes).await.unwrap();
    let outcome = timeout(PATIENCE, bridge.outcome).await.expect("an end in time");
    outcome.unwrap().expect_err("a refusal")
}

fn frame(kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::new(kind, stream, payload).encode_into(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn frames_of_commands_pass_both_ways() {
    let mut bridge = bridge(Path::new("/nowhere"));
    let start = Start {
        argv: vec!["true".into()],
        env: Vec::new(),
        cwd: "/".into(),
        pty: false,
        size: None,
    };
    let start = serde_json::to_vec(&start).unwrap();
    send(&mut bridge.to_asker, Kind::Start, 1, &start).await;
    assert_eq!(
        next(&mut bridge.guest).await,
        Some(Frame::new(Kind::Start, 1, start))
    );
    let exit = Exit {
        code: Some(0),
        signal: None,
    };
    let exit = serde_json::to_vec(&exit).unwrap();
    send(&mut bridge.to_guest, Kind::Exit, 1, &exit).await;
    drop((bridge.to_guest, bridge.guest));
    assert_eq!(
        next(&mut bridge.asker).await,
        Some(Frame::new(Kind::Exit, 1, exit))
    );
    assert_eq!(next(&mut bridge.asker).await, None);
    assert_eq!(bridge.outcome.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_machine_ends_with_whoever_asked() {
    let Bridge {
        asker,
        to_asker,
        outcome,
        guest: _guest,
        to_guest: _to_guest,
    } = bridge(Path::new("/nowhere"));
    drop((asker, to_asker));
    let outcome = timeout(PATIENCE, outcome).await.expect("an end in time");
    assert_eq!(outcome.unwrap(), Ok(()));
}

#[tokio::test]
async fn what_no_init_would_send_ends_the_machine() {
    assert!(matches!(refusal(&[0xff; 64]).await, ProtocolError::Frame(_)));
    let oversized = [0, 0, 0x20, 0, Kind::Stdout as u8, 0, 0, 0, 1, 0, 0, 0];
    assert!(matches!(
        refusal(&oversized).await,
        ProtocolError::Frame(MuxError::Oversized { .. })
    ));
    let unknown = [0, 0, 0, 0, 99, 0, 0, 0, 1, 0, 0, 0];
    assert!(matches!(
        refusal(&unknown).await,
        ProtocolError::Frame(MuxError::UnknownKind { kind: 99 })
    ));
    for kind in [
        Kind::Start,
        Kind::Configure,
        Kind::Hello,
        Kind::Shutdown,
        Kind::Signal,
    ] {
        let error = refusal(&frame(kind, 1, &[])).await;
        assert_eq!(error, ProtocolError::Direction { kind, stream: 1 });
    }
    // A command's frame on a connection's stream, and the other way round.
    for (kind, stream) in [(Kind::Stdout, FIRST), (Kind::Data, 1), (Kind::Open, 7)] {
        let error = refusal(&frame(kind, stream, &[1])).await;
        assert_eq!(error, ProtocolError::Direction { kind, stream });
    }
}

#[tokio::test]
async fn whoever_asked_cannot_speak_for_the_launcher() {
    let mut bridge = bridge(Path::new("/nowhere"));
    send(&mut bridge.to_asker, Kind::Configure, 0, b"{}").await;
    let outcome = timeout(PATIENCE, bridge.outcome).await.expect("an end in time");
    let (kind, stream) = (Kind::Configure, 0);
    assert_eq!(outcome.unwrap(), Err(ProtocolError::Direction { kind, stream }));
}

#[tokio::test]
async fn only_a_hello_is_a_beginning() {
    for (kind, payload) in [(Kind::Stdout, &b"x"[..]), (Kind::Hello, br#"{"version":9}"#)] {
        let (ours, theirs) = pair();
        let (_from, mut to) = theirs.into_split();
        send(&mut to, kind, 0, payload).await;
        assert!(Machine::new(ours).hello().await.is_err(), "{kind:?}");
    }
    let (ours, theirs) = pair();
    drop(theirs);
    assert_eq!(Machine::new(ours).hello().await, Ok(false));
}

#[tokio::test]
async fn connections_are_broken_when_their_rules_are() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gateway.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let open = frame(Kind::Open, FIRST, &[]);
    let with = |more: Vec<u8>| [open.clone(), more].concat();
    let outcome = |bytes: Vec<u8>| {
        let socket = socket.clone();
        async move {
            let mut bridge = bridge(&socket);
            bridge.to_guest.write_all(&bytes).await.unwrap();
            timeout(PATIENCE, bridge.outcome)
                .await
                .expect("an end in time")
                .unwrap()
        }
    };
    let stream = FIRST;
    assert_eq!(
        outcome(with(open.clone())).await,
        Err(ProtocolError::Reopened { stream })
    );
    let much = frame(Kind::Data, FIRST, &vec![0; CONNECTION_WINDOW as usize + 1]);
    assert_eq!(outcome(with(much)).await, Err(ProtocolError::Overrun { stream }));
    let after_end = [frame(Kind::Data, FIRST, &[]), frame(Kind::Data, FIRST, b"more")].concat();
    assert_eq!(
        outcome(with(after_end)).await,
        Err(ProtocolError::Overrun { stream })
    );
    let credit = frame(Kind::Credit, FIRST, &u32::MAX.to_le_bytes());
    assert_eq!(
        outcome(with(credit)).await,
        Err(ProtocolError::Overrun { stream })
    );
    assert!(matches!(
        outcome(with(frame(Kind::Credit, FIRST, b"x"))).await,
        Err(ProtocolError::Frame(MuxError::Payload { .. }))
    ));
}

#[tokio::test]
async fn a_request_that_is_ended_is_still_answered() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gateway.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        connection.read_to_end(&mut request).await.unwrap();
        connection.write_all(&vec![7; 400_000]).await.unwrap();
        request
    });
    let mut bridge = bridge(&socket);
    send(&mut bridge.to_guest, Kind::Open, FIRST, &[]).await;
    send(&mut bridge.to_guest, Kind::Data, FIRST, b"request").await;
    send(&mut bridge.to_guest, Kind::Data, FIRST, &[]).await;
    let mut got = 0;
    loop {
        let frame = next(&mut bridge.guest).await.expect("a frame");
        match frame.kind {
            Kind::Data if frame.payload.is_empty() => break,
            Kind::Data => {
                got += frame.payload.len();
                let granted = u32::try_from(frame.payload.len()).unwrap();
                send(&mut bridge.to_guest, Kind::Credit, FIRST, &granted.to_le_bytes()).await;
            }
            Kind::Credit => assert_eq!(frame.payload, 7_u32.to_le_bytes()),
            kind => panic!("{kind:?}"),
        }
    }
    assert_eq!(got, 400_000);
    assert_eq!(server.await.unwrap(), b"request");
    // The id is free again.
    send(&mut bridge.to_guest, Kind::Open, FIRST, &[]).await;
    drop((bridge.to_guest, bridge.guest));
    assert_eq!(bridge.outcome.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn no_more_than_was_granted_is_sent_into_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gateway.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let _ = connection.write_all(&vec![7; 4 << 20]).await;
    });
    let mut bridge = bridge(&socket);
    send(&mut bridge.to_guest, Kind::Open, FIRST, &[]).await;
    let mut got = 0;
    while got < CONNECTION_WINDOW as usize {
        let frame = next(&mut bridge.guest).await.expect("a frame");
        assert_eq!(frame.kind, Kind::Data);
        got += frame.payload.len();
    }
    assert_eq!(got, CONNECTION_WINDOW as usize);
    let more = timeout(Duration::from_millis(200), bridge.guest.next()).await;
    assert!(more.is_err(), "{more:?}");
    send(&mut bridge.to_guest, Kind::Close, FIRST, &[]).await;
    timeout(PATIENCE, server)
        .await
        .expect("the connection ends")
        .unwrap();
}

#[tokio::test]
async fn a_gateway_that_is_not_there_closes_the_connection() {
    let mut bridge = bridge(Path::new("/nowhere/gateway.sock"));
    send(&mut bridge.to_guest, Kind::Open, FIRST, &[]).await;
    assert_eq!(
        next(&mut bridge.guest).await,
        Some(Frame::new(Kind::Close, FIRST, []))
    );
}
