//! Whatever happens in whatever order, each client gets exactly the sequence.

use super::fanout::{Fanout, Port};
use super::signal::{CloseReason, Signal};
use crate::upstream::UpstreamError;
use bytes::Bytes;
use lodge_proto::SessionId;
use lodge_proto::frame::{Header, Kind, flags};
use lodge_proto::relay::ToClient;
use lodge_proto::{ErrorBody, ErrorCode};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const SESSIONS: usize = 3;
const CLIENTS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Append {
        session: usize,
        bytes: usize,
    },
    Subscribe {
        client: usize,
        session: usize,
    },
    Unsubscribe {
        client: usize,
        session: usize,
    },
    /// The runner answers what was asked; the client may take frames in the midst of it.
    Answer {
        draining: bool,
    },
    Drain {
        client: usize,
        budget: usize,
    },
    Wait {
        millis: u64,
    },
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Request {
    From(u64),
    Snapshot,
    Leave,
}

/// What a client knows: sessions by handle, and the next number it expects in each.
#[derive(Debug, Default)]
struct Client {
    channel: u32,
    sessions: HashMap<u64, usize>,
    expected: [Option<u64>; SESSIONS],
}

impl Client {
    fn take(&mut self, text: &Bytes) {
        let frame: Value = serde_json::from_slice(text).unwrap();
        let handle = frame["session"].as_u64();
        if frame["control"]["type"] == "runner_lost" {
            self.sessions.clear();
            self.expected = [None; SESSIONS];
        } else if frame["control"]["type"] == "subscribed" {
            let session = usize::try_from(frame["control"]["s"].as_u64().unwrap()).unwrap();
            self.sessions.insert(handle.unwrap(), session);
            self.expected[session] = Some(frame["control"]["cursor"].as_u64().unwrap() + 1);
        } else if frame["event"].is_object() {
            let session = self.sessions[&handle.expect("an event has a handle")];
            assert_eq!(
                frame["event"]["s"], session,
                "the handle is bound to this session"
            );
            let seq = frame["event"]["seq"].as_u64().unwrap();
            assert_eq!(
                Some(seq),
                self.expected[session],
                "session {session} of channel {}",
                self.channel
            );
            self.expected[session] = Some(seq + 1);
        }
    }
}

/// A runner as the protocol wants it, and its clients behind a fanout.
struct World {
    fanout: Fanout,
    now: Instant,
    log: [u64; SESSIONS],
    joined: [[bool; SESSIONS]; CLIENTS],
    requests: Vec<(usize, usize, Request)>,
    clients: Vec<Client>,
}

fn session_id(session: usize) -> SessionId {
    SessionId(Uuid::from_u128(session as u128 + 1))
}

fn event(session: usize, seq: u64, bytes: usize) -> String {
    format!(r#"{{"s":{session},"seq":{seq},"pad":"{}"}}"#, "x".repeat(bytes))
}

impl World {
    fn new() -> Self {
        let mut fanout = Fanout::new(Arc::default());
        let clients = (0..CLIENTS)
            .map(|_| Client {
                channel: fanout.attach(Port::Socket(Arc::default())),
                ..Client::default()
            })
            .collect();
        Self {
            fanout,
            now: Instant::now(),
            log: [0; SESSIONS],
            joined: [[false; SESSIONS]; CLIENTS],
            requests: Vec::new(),
            clients,
        }
    }

    fn frame(&mut self, header: &Header, text: &str) {
        self.fanout.on_frame(header, text, self.now).unwrap();
    }

    fn append(&mut self, session: usize, bytes: usize) {
        self.log[session] += 1;
        let header = Header::new(Kind::Event).session(session as u64 + 1);
        let text = event(session, self.log[session], bytes);
        self.frame(&header, &text);
    }

    fn answer(&mut self, draining: bool) {
        for (client, session, request) in std::mem::take(&mut self.requests) {
            let channel = self.clients[client].channel;
            let head = |kind| Header::new(kind).channel(channel).session(session as u64 + 1);
            let cursor = match request {
                Request::Leave => {
                    self.joined[client][session] = false;
                    self.frame(
                        &head(Kind::Control).flags(flags::FOR_RELAY),
                        r#"{"type":"leave"}"#,
                    );
                    continue;
                }
                Request::Snapshot => self.log[session],
                Request::From(cursor) => cursor,
            };
            let subscribed = format!(r#"{{"type":"subscribed","s":{session},"cursor":{cursor}}}"#);
            self.frame(&head(Kind::Control), &subscribed);
            if draining {
                self.drain(client, 200);
            }
            for seq in cursor + 1..=self.log[session] {
                let text = event(session, seq, 0);
                self.frame(&head(Kind::Event), &text);
                if draining {
                    self.drain(client, 60);
                }
            }
            let join = format!(r#"{{"type":"join","session_id":"{}"}}"#, session_id(session));
            self.frame(&head(Kind::Control).flags(flags::FOR_RELAY), &join);
            self.joined[client][session] = true;
        }
    }

    fn drain(&mut self, client: usize, budget: usize) -> bool {
        let drained = self.fanout.drain(self.clients[client].channel, budget, self.now);
        for text in &drained.texts {
            self.clients[client].take(text);
        }
        for id in drained.resync {
            let session = (0..SESSIONS).find(|session| session_id(*session) == id).unwrap();
            self.requests.push((client, session, Request::Snapshot));
        }
        drained.more
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { session, bytes } => self.append(session, bytes),
            Step::Subscribe { client, session } => {
                let cursor = self.clients[client].expected[session].map_or(0, |next| next - 1);
                self.requests.push((client, session, Request::From(cursor)));
            }
            Step::Unsubscribe { client, session } => self.requests.push((client, session, Request::Leave)),
            Step::Answer { draining } => self.answer(draining),
            Step::Drain { client, budget } => {
                self.drain(client, budget);
            }
            Step::Wait { millis } => self.now += Duration::from_millis(millis),
            Step::Restart => {
                let error = ErrorBody::new(ErrorCode::Unavailable, "gone");
                self.fanout.runner_lost(&ToClient::RunnerLost { error }, self.now);
                self.fanout.runner_ready();
                self.requests.clear();
                self.joined = Default::default();
            }
        }
    }

    /// Lets everybody catch up, then says who is where.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.answer(false);
            for client in 0..CLIENTS {
                while self.drain(client, 1 << 20) {}
            }
            if self.requests.is_empty() {
                break;
            }
        }
        assert!(self.requests.is_empty(), "no end of resyncs");
        for (client, joined) in self.clients.iter().zip(self.joined) {
            for session in (0..SESSIONS).filter(|session| joined[*session]) {
                assert_eq!(
                    client.expected[session],
                    Some(self.log[session] + 1),
                    "all was received"
                );
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let session = 0..SESSIONS;
    let client = 0..CLIENTS;
    let bytes = prop_oneof![24 => 0..200usize, 1 => 700_000..900_000usize];
    prop_oneof![
        12 => (session.clone(), bytes).prop_map(|(session, bytes)| Step::Append { session, bytes }),
        4 => (client.clone(), session.clone()).prop_map(|(client, session)| Step::Subscribe { client, session }),
        1 => (client.clone(), session).prop_map(|(client, session)| Step::Unsubscribe { client, session }),
        6 => any::<bool>().prop_map(|draining| Step::Answer { draining }),
        8 => (client, 1..2000usize).prop_map(|(client, budget)| Step::Drain { client, budget }),
        1 => (0..4000u64).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_client_gets_exactly_the_sequence(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}

fn attach(fanout: &mut Fanout) -> (u32, Arc<Signal>) {
    let signal = Arc::<Signal>::default();
    (fanout.attach(Port::Socket(Arc::clone(&signal))), signal)
}

fn join(fanout: &mut Fanout, channel: u32, handle: u64, session: usize) -> Result<(), UpstreamError> {
    let header = Header::new(Kind::Control)
        .channel(channel)
        .session(handle)
        .flags(flags::FOR_RELAY);
    let text = format!(r#"{{"type":"join","session_id":"{}"}}"#, session_id(session));
    fanout.on_frame(&header, &text, Instant::now())
}

#[test]
fn a_client_that_lags_takes_a_snapshot_and_others_do_not() {
    let mut fanout = Fanout::new(Arc::default());
    let (slow, _) = attach(&mut fanout);
    let (quick, _) = attach(&mut fanout);
    join(&mut fanout, slow, 1, 0).unwrap();
    join(&mut fanout, quick, 1, 0).unwrap();
    let text = format!("\"{}\"", "x".repeat(300_000));
    for _ in 0..10 {
        fanout
            .on_frame(&Header::new(Kind::Event).session(1), &text, Instant::now())
            .unwrap();
        assert_eq!(fanout.drain(quick, usize::MAX, Instant::now()).texts.len(), 1);
    }
    let drained = fanout.drain(slow, usize::MAX, Instant::now());
    assert_eq!((drained.texts.len(), drained.resync), (0, vec![session_id(0)]));
    fanout
        .on_frame(&Header::new(Kind::Event).session(1), &text, Instant::now())
        .unwrap();
    assert!(
        fanout.drain(slow, usize::MAX, Instant::now()).texts.is_empty(),
        "nothing live before the join"
    );
    assert_eq!(fanout.drain(quick, usize::MAX, Instant::now()).texts.len(), 1);
}

#[test]
fn what_waits_for_one_client_is_bounded() {
    let mut fanout = Fanout::new(Arc::default());
    let (channel, signal) = attach(&mut fanout);
    let text = format!("\"{}\"", "x".repeat(1 << 20));
    for _ in 0..40 {
        fanout
            .on_frame(&Header::new(Kind::Reply).channel(channel), &text, Instant::now())
            .unwrap();
    }
    assert_eq!(signal.closing(), Some(CloseReason::Overflow));
}

#[test]
fn a_runner_that_breaks_the_rules_is_told_apart() {
    let mut fanout = Fanout::new(Arc::default());
    let (channel, _) = attach(&mut fanout);
    join(&mut fanout, channel, 1, 0).unwrap();
    let rebinding = join(&mut fanout, channel, 1, 1).unwrap_err();
    assert!(rebinding.is_violation(), "{rebinding}");
    assert!(join(&mut fanout, channel, 0, 0).is_err());
    let mut refused =
        |header: Header, text: &str| fanout.on_frame(&header, text, Instant::now()).unwrap_err();
    refused(Header::new(Kind::Command), "{}");
    refused(Header::new(Kind::Control).flags(flags::FOR_RELAY), "{}");
    refused(
        Header::new(Kind::Control).flags(flags::FOR_RELAY),
        r#"{"type":"hello","version":1,"runner_epoch":1}"#,
    );
    let joins = (2..100_000).find(|handle| join(&mut fanout, channel, *handle, 0).is_err());
    assert_eq!(joins, Some(1025), "sessions of a client are bounded");
    let refused_handle = (2..100_000).find(|handle| {
        let header = Header::new(Kind::Event).channel(channel).session(*handle);
        fanout.on_frame(&header, "{}", Instant::now()).is_err()
    });
    assert_eq!(refused_handle, Some(65_537), "handles are bounded");
    fanout
        .on_frame(&Header::new(Kind::Reply).channel(999), "{}", Instant::now())
        .unwrap();
}
