//! Bytes of terminals, both ways, behind what agents do.

use crate::fake_runner::Connection;
use crate::support::{Backend, Browser, within};
use futures_util::{SinkExt, StreamExt};
use lodge_proto::frame::{Header, Kind, flags};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const TERMINAL: u32 = 7;

fn typed(bytes: &[u8]) -> Message {
    let mut frame = TERMINAL.to_le_bytes().to_vec();
    frame.extend_from_slice(bytes);
    Message::binary(frame)
}

async fn blob(runner: &mut Connection, channel: u32, bytes: &[u8], first: bool) {
    let mut header = Header::new(Kind::Blob)
        .channel(channel)
        .session(u64::from(TERMINAL));
    if first {
        header = header.flags(flags::FOLDED);
    }
    let mut frame = Vec::new();
    lodge_proto::frame::encode(&header, bytes, &mut frame).unwrap();
    runner.send_bytes(&frame).await;
}

enum Heard {
    Text(Value),
    Bytes(Vec<u8>),
}

async fn hear(browser: &mut Browser) -> Heard {
    loop {
        match within(browser.socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => return Heard::Text(serde_json::from_str(&text).unwrap()),
            Message::Binary(bytes) => {
                let (id, bytes) = bytes.split_first_chunk::<4>().unwrap();
                assert_eq!(u32::from_le_bytes(*id), TERMINAL);
                return Heard::Bytes(bytes.to_vec());
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_is_typed_and_what_is_shown_pass_unchanged() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    let channel = within(runner.recv_control("attach")).await.header.channel;
    browser.socket.send(typed(b"ls\xff\n")).await.unwrap();
    let received = within(runner.recv()).await;
    assert_eq!(received.header.kind, Kind::Blob);
    assert_eq!(
        (received.header.channel, received.header.session),
        (channel, u64::from(TERMINAL))
    );
    assert_eq!(received.bytes, b"ls\xff\n");
    let shown: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
    blob(&mut runner, channel, &shown, true).await;
    let mut bytes = Vec::new();
    while bytes.len() < shown.len() {
        match hear(&mut browser).await {
            Heard::Bytes(slice) => {
                assert!(slice.len() <= 32 * 1024, "{}", slice.len());
                bytes.extend(slice);
            }
            Heard::Text(text) => panic!("{text}"),
        }
    }
    assert_eq!(bytes, shown);
}

/// A browser that does not read: what is there for it grows up to a bound, and a reply still comes first.
#[tokio::test]
async fn a_slow_client_loses_the_terminals_output_and_nothing_else() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    let channel = within(runner.recv_control("attach")).await.header.channel;
    let flood = vec![b'y'; 256 * 1024];
    let detached = loop {
        blob(&mut runner, channel, &flood, false).await;
        let next = tokio::time::timeout(std::time::Duration::from_millis(1), runner.recv()).await;
        if let Ok(received) = next {
            break received;
        }
    };
    assert!(detached.is("terminal_detach"), "{detached:?}");
    assert_eq!(detached.json["terminal_id"], TERMINAL);
    runner.reply(channel, &json!({"id": "r", "ok": {}})).await;
    blob(&mut runner, channel, b"of before", false).await;
    blob(&mut runner, channel, b"shown", true).await;
    let mut texts = Vec::new();
    let last = loop {
        match hear(&mut browser).await {
            Heard::Bytes(bytes) if bytes.starts_with(b"y") => {}
            Heard::Bytes(bytes) => break bytes,
            Heard::Text(text) => texts.push(text),
        }
    };
    assert_eq!(
        last, b"shown",
        "what was under way when the client was cut off is dropped"
    );
    assert_eq!(texts[0]["control"]["type"], "terminal_lagged");
    assert_eq!(texts[1]["response"]["id"], "r");
}
