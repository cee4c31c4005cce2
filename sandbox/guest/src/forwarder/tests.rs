//! Connections over the framed stream, with the host's end played by the test.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lodge_guest::mux::{CONNECTION_WINDOW, CONNECTIONS, Decoder, Frame, Kind, encode_into};
use nix::poll::PollFlags;

use super::{Forwarder, Gateway, Ipv4Addr};
use crate::link::Link;
use crate::poller::{Poller, Token};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a forwarder until the host hangs up; returns the port to connect to and the host's end.
fn forwarder() -> (u16, UnixStream, JoinHandle<usize>) {
    let (host, guest) = UnixStream::pair().unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut link = Link::new(OwnedFd::from(guest)).unwrap();
    let mut forwarder = Forwarder::new(Gateway::Stream);
    forwarder.listen(0).unwrap();
    let port = forwarder.listeners[0].0.local_addr().unwrap().port();
    let running = std::thread::spawn(move || {
        loop {
            forwarder.settle(Instant::now(), &mut link);
            if link.flush().is_err() {
                return forwarder.connections.len();
            }
            let mut poller = Poller::default();
            poller.add(Token::Mux, link.fd(), link.interest(false));
            forwarder.interest(&mut poller);
            let patience = if forwarder.sendable(&link) {
                Duration::ZERO
            } else {
                PATIENCE
            };
            for (token, ready) in poller.wait(Some(patience)).unwrap() {
                if token != Token::Mux {
                    forwarder.ready(token, ready, &mut link);
                } else if ready.contains(PollFlags::POLLIN) {
                    let mut frames = Vec::new();
                    if !link.receive(&mut frames).unwrap() {
                        return forwarder.connections.len();
                    }
                    for frame in frames {
                        forwarder.frame(&frame, &mut link).unwrap();
                    }
                }
            }
        }
    });
    (port, host, running)
}

struct Host {
    stream: UnixStream,
    decoder: Decoder,
}

impl Host {
    fn next(&mut self) -> Frame {
        let mut chunk = vec![0; 1 << 16];
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return frame;
            }
            let got = self.stream.read(&mut chunk).unwrap();
            assert_ne!(got, 0);
            self.decoder.push(&chunk[..got]);
        }
    }

    fn send(&mut self, kind: Kind, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode_into(kind, stream, payload, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }
}

fn host(stream: UnixStream) -> Host {
    Host {
        stream,
        decoder: Decoder::new(),
    }
}

#[test]
fn bytes_and_half_close_pass_within_the_windows() {
    let (port, stream, running) = forwarder();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    let request = sent.clone();
    let asking = std::thread::spawn(move || {
        client.write_all(&request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    });
    let mut host = host(stream);
    let open = host.next();
    assert_eq!((open.kind, open.stream >= CONNECTIONS), (Kind::Open, true));
    let id = open.stream;
    // Nothing is granted until the whole window is used up: no more than that may come.
    let mut got = Vec::new();
    while got.len() < CONNECTION_WINDOW as usize {
        let frame = host.next();
        assert_eq!((frame.kind, frame.stream), (Kind::Data, id));
        got.extend(frame.payload);
    }
    assert_eq!(got.len(), CONNECTION_WINDOW as usize);
    host.send(Kind::Credit, id, &u32::MAX.to_le_bytes());
    loop {
        let frame = host.next();
        assert_eq!(frame.kind, Kind::Data);
        if frame.payload.is_empty() {
            break;
        }
        got.extend(frame.payload);
    }
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    // Back, as the guest grants it.
    let mut room = u64::from(CONNECTION_WINDOW);
    for chunk in got.chunks(40_000) {
        while room < chunk.len() as u64 {
            let frame = host.next();
            assert_eq!(frame.kind, Kind::Credit);
            room += u64::from(frame.credit().unwrap());
        }
        room -= chunk.len() as u64;
        host.send(Kind::Data, id, chunk);
    }
    host.send(Kind::Data, id, &[]);
    assert!(asking.join().unwrap() == sent);
    drop(host);
    assert_eq!(
        running.join().unwrap(),
        0,
        "nothing is kept of a connection that is over"
    );
}

#[test]
fn a_connection_that_the_host_gives_up_ends_for_the_guest_and_the_other_way_round() {
    let (port, stream, running) = forwarder();
    let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut host = host(stream);
    let first = host.next();
    host.send(Kind::Close, first.stream, &[]);
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0);
    drop(refused);
    let leaving = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let second = loop {
        let frame = host.next();
        if frame.kind == Kind::Open {
            break frame.stream;
        }
    };
    assert_ne!(second, first.stream);
    drop(leaving);
    let end = host.next();
    assert_eq!((end.kind, end.stream, end.payload.len()), (Kind::Data, second, 0));
    // An answer that nobody takes any more.
    for _ in 0..100 {
        host.send(Kind::Data, second, &[1; 1000]);
    }
    let close = host.next();
    assert_eq!((close.kind, close.stream), (Kind::Close, second));
    drop(host);
    assert_eq!(running.join().unwrap(), 0);
}
