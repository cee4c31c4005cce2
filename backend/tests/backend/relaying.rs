//! Commands, replies and the runner's comings and goings.

use crate::fake_runner::FakeRunner;
use crate::support::{Backend, SESSION, within};
use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_command_reaches_the_runner_with_its_actor_and_the_reply_comes_back() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    let channel = within(runner.recv_control("attach")).await.header.channel;
    browser
        .say_text(r#"{"id":"a","cmd":"get_models","x-later":1.50}"#)
        .await;
    let received = within(runner.recv_command()).await;
    assert_eq!(received.header.channel, channel);
    assert_eq!(
        received.json["actor"],
        json!({"account": "local", "name": "local", "rights": "own"})
    );
    assert_eq!(received.json["command"]["x-later"], 1.5, "unknown fields go on");
    runner
        .reply(channel, &json!({"id": "a", "ok": {"models": []}}))
        .await;
    assert_eq!(
        browser.next().await,
        json!({"response": {"id": "a", "ok": {"models": []}}})
    );
    drop(browser);
    assert_eq!(
        within(runner.recv_control("detach")).await.header.channel,
        channel
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_said_so_and_the_connection_lives() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    within(runner.recv_control("attach")).await;
    browser.say_text("{\"id\":").await;
    let rejected = browser.next_control("rejected").await;
    assert_eq!(rejected["control"]["error"]["code"], "invalid_argument");
    assert_eq!(rejected["control"]["error"]["details"]["column"], 6);
    browser.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    browser.next_control("rejected").await;
    browser
        .say(&json!({"id": "b", "cmd": "abort", "session_id": SESSION}))
        .await;
    let refused = browser.next().await;
    assert_eq!(refused["response"]["error"]["details"]["field"], "client_id");
    browser.say(&json!({"id": "c", "cmd": "session.list"})).await;
    assert_eq!(
        within(runner.recv_command()).await.json["command"]["id"],
        "c",
        "only this one got through"
    );
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_a_reason() {
    let backend = Backend::start().await;
    let mut browser = backend.browse(&backend.login().await).await;
    browser.say_text(&"x".repeat((1 << 20) + 1)).await;
    assert_eq!(browser.closed_with().await, 1009);
}

#[tokio::test]
async fn who_says_too_much_is_told_so_by_command() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    within(runner.recv_control("attach")).await;
    for n in 0..3000 {
        browser
            .say(&json!({"id": n.to_string(), "cmd": "session.list"}))
            .await;
    }
    let refused = browser.next().await;
    assert_eq!(refused["response"]["error"]["code"], "rate_limited");
    let id: u32 = refused["response"]["id"].as_str().unwrap().parse().unwrap();
    assert!(id >= 400, "the burst passes: {id}");
}

#[tokio::test]
async fn clients_are_told_of_a_runner_that_goes_and_comes() {
    let (backend, runner, mut connection) = Backend::with_runner().await;
    let mut browser = backend.browse(&backend.login().await).await;
    let channel = within(connection.recv_control("attach")).await.header.channel;
    connection.subscribe(channel, 5, SESSION, 1..3).await;
    let first = browser.next_control("subscribed").await["session"].clone();
    browser.next().await;
    browser.next().await;
    drop(connection);
    let lost = browser.next_control("runner_lost").await;
    assert_eq!(lost["control"]["error"]["code"], "unavailable");
    browser.say(&json!({"id": "x", "cmd": "session.list"})).await;
    assert_eq!(browser.next().await["response"]["error"]["code"], "unavailable");
    // What changes something stays unanswered, so that the client sends it again when the runner is back.
    browser
        .say(&json!({"id": "y", "client_id": "y", "cmd": "abort", "session_id": SESSION}))
        .await;
    let mut connection = within(runner.accept()).await;
    assert_eq!(
        within(connection.recv_control("attach")).await.header.channel,
        channel,
        "announced again"
    );
    browser.next_control("runner_ready").await;
    browser.hello(json!({SESSION: "1.2"})).await;
    let subscribe = within(connection.recv_control("subscribe")).await;
    assert_eq!(subscribe.json["cursors"], json!({SESSION: "1.2"}));
    connection.subscribe(channel, 5, SESSION, 3..4).await;
    assert_ne!(
        browser.next_control("subscribed").await["session"],
        first,
        "handles are not used again"
    );
    assert_eq!(browser.next().await["event"]["seq"], 3);
}

#[tokio::test]
async fn a_browser_may_come_before_the_runner() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::start_on(directory.path()).await;
    let mut browser = backend.browse(&backend.login().await).await;
    browser.next_control("runner_lost").await;
    let runner = FakeRunner::bind(directory.path());
    let mut connection = within(runner.accept_silent()).await;
    assert!(within(connection.recv()).await.is("hello"));
    connection
        .relay_control(0, 0, &json!({"type": "hello", "version": 1, "runner_epoch": 1}))
        .await;
    for _ in 0..2 {
        within(connection.recv_control("attach")).await;
    }
    loop {
        // A first failed attempt may say `runner_lost` once more.
        let frame = browser.next().await;
        if frame["control"]["type"] == "runner_ready" {
            break;
        }
        assert_eq!(frame["control"]["type"], "runner_lost");
    }
}

#[tokio::test]
async fn controls_for_all_reach_all() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let mut browsers = [backend.browse(&cookie).await, backend.browse(&cookie).await];
    for _ in 0..2 {
        within(runner.recv_control("attach")).await;
    }
    runner
        .control(0, 0, &json!({"type": "session_removed", "session_id": SESSION}))
        .await;
    for browser in &mut browsers {
        assert_eq!(
            browser.next_control("session_removed").await["control"]["session_id"],
            SESSION
        );
    }
}
