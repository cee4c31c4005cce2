//! A client that does not read harms nobody and gets a snapshot when it reads again.

use crate::support::{Backend, SESSION, within};
use serde_json::json;

#[tokio::test]
async fn a_slow_client_is_resynced_and_a_quick_one_gets_everything() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let mut slow = backend.browse(&cookie).await;
    let slow_channel = within(runner.recv_control("attach")).await.header.channel;
    let mut quick = backend.browse(&cookie).await;
    let quick_channel = within(runner.recv_control("attach")).await.header.channel;
    for channel in [slow_channel, quick_channel] {
        runner.subscribe(channel, 1, SESSION, 1..2).await;
    }
    for browser in [&mut slow, &mut quick] {
        browser.next_control("subscribed").await;
        browser.next().await;
    }
    // 40 MB: more than both ends' socket buffers hold, several times the tail.
    let pad = "x".repeat(100_000);
    for seq in 2..400u64 {
        runner
            .event(0, 1, &json!({"session_id": SESSION, "seq": seq, "pad": pad}))
            .await;
        assert_eq!(
            quick.next().await["event"]["seq"],
            seq,
            "the quick one misses nothing"
        );
    }
    let mut last = 1;
    let resync = loop {
        tokio::select! {
            received = runner.recv() => break received,
            frame = slow.next() => {
                let seq = frame["event"]["seq"].as_u64().unwrap();
                assert_eq!(seq, last + 1, "what the slow one gets has no hole");
                last = seq;
            }
        }
    };
    assert!(resync.is("resync"), "{resync:?}");
    assert_eq!(
        (resync.header.channel, &resync.json["session_id"]),
        (slow_channel, &SESSION.into())
    );
    assert!(last < 399, "it was behind");
    runner
        .event(0, 1, &json!({"session_id": SESSION, "seq": 400}))
        .await;
    runner.subscribe(slow_channel, 1, SESSION, 401..401).await;
    runner
        .event(0, 1, &json!({"session_id": SESSION, "seq": 401}))
        .await;
    let subscribed = loop {
        let frame = slow.next().await;
        if frame["control"].is_object() {
            break frame;
        }
        last += 1;
        assert_eq!(frame["event"]["seq"], last, "until the snapshot there is no hole");
    };
    assert_eq!(subscribed["control"]["cursor"], "1.400");
    assert_eq!(slow.next().await["event"]["seq"], 401);
    assert_eq!(quick.next().await["event"]["seq"], 400);
    assert_eq!(quick.next().await["event"]["seq"], 401);
}

#[tokio::test]
async fn a_long_text_arrives_whole() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    let channel = within(runner.recv_control("attach")).await.header.channel;
    let text = "ä€😀".repeat(300_000);
    runner.reply(channel, &json!({"id": "long", "ok": text})).await;
    assert_eq!(browser.next().await["response"]["ok"], text);
}
