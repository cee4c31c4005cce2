//! Subscribed, missed, join, live: in that order, for many clients at once.

use crate::fake_runner::{Connection, event};
use crate::support::{Backend, Browser, SESSION, within};
use serde_json::json;

const OTHER: &str = "0191a0b0-0000-7000-8000-000000000002";

async fn expect_events(
    browser: &mut Browser,
    handle: &serde_json::Value,
    seqs: impl IntoIterator<Item = u64>,
) {
    for seq in seqs {
        let frame = browser.next().await;
        assert_eq!(
            (&frame["event"]["seq"], &frame["session"]),
            (&seq.into(), handle),
            "{frame}"
        );
    }
}

async fn live(runner: &mut Connection, session: u64, id: &str, seq: u64) {
    runner.event(0, session, &event(id, seq)).await;
}

#[tokio::test]
async fn thirty_clients_that_join_at_different_moments_get_the_same_log() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let mut browsers = Vec::new();
    let mut seq = 0;
    for _ in 0..30 {
        browsers.push(backend.browse(&cookie).await);
        let channel = within(runner.recv_control("attach")).await.header.channel;
        browsers.last_mut().unwrap().hello(json!({SESSION: null})).await;
        within(runner.recv_control("subscribe")).await;
        runner.subscribe(channel, 1, SESSION, 1..seq + 1).await;
        for _ in 0..7 {
            seq += 1;
            live(&mut runner, 1, SESSION, seq).await;
        }
    }
    for browser in &mut browsers {
        let handle = browser.next_control("subscribed").await["session"].clone();
        assert!(handle.is_u64());
        expect_events(browser, &handle, 1..=seq).await;
    }
}

#[tokio::test]
async fn sessions_have_handles_of_their_own_and_their_own_viewers() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let mut one = backend.browse(&cookie).await;
    let first = within(runner.recv_control("attach")).await.header.channel;
    let mut both = backend.browse(&cookie).await;
    let second = within(runner.recv_control("attach")).await.header.channel;
    runner.subscribe(first, 1, SESSION, 1..2).await;
    runner.subscribe(second, 1, SESSION, 1..2).await;
    runner.subscribe(second, 2, OTHER, 1..2).await;
    live(&mut runner, 2, OTHER, 2).await;
    live(&mut runner, 1, SESSION, 2).await;
    let handle = one.next_control("subscribed").await["session"].clone();
    expect_events(&mut one, &handle, 1..=2).await;
    let here = both.next_control("subscribed").await["session"].clone();
    expect_events(&mut both, &here, 1..=1).await;
    let there = both.next_control("subscribed").await["session"].clone();
    assert_ne!(here, there);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let frame = both.next().await;
        seen.push((frame["session"].clone(), frame["event"]["seq"].as_u64().unwrap()));
    }
    let of = |handle: &serde_json::Value| -> Vec<u64> {
        seen.iter()
            .filter(|(of, _)| of == handle)
            .map(|(_, seq)| *seq)
            .collect()
    };
    assert_eq!((of(&here), of(&there)), (vec![2], vec![1, 2]));
}

#[tokio::test]
async fn who_leaves_gets_no_more() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    let channel = within(runner.recv_control("attach")).await.header.channel;
    runner.subscribe(channel, 1, SESSION, 1..2).await;
    browser.next_control("subscribed").await;
    browser.next().await;
    runner.relay_control(channel, 1, &json!({"type": "leave"})).await;
    live(&mut runner, 1, SESSION, 2).await;
    runner.reply(channel, &json!({"id": "end", "ok": {}})).await;
    assert_eq!(browser.next().await["response"]["id"], "end");
}

#[tokio::test]
async fn an_event_of_another_session_is_passed_on_for_the_client_to_drop() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    let channel = within(runner.recv_control("attach")).await.header.channel;
    runner.subscribe(channel, 1, SESSION, 1..2).await;
    let handle = browser.next_control("subscribed").await["session"].clone();
    browser.next().await;
    live(&mut runner, 1, OTHER, 2).await;
    let frame = browser.next().await;
    assert_eq!(
        (&frame["session"], &frame["event"]["session_id"]),
        (&handle, &OTHER.into())
    );
}
