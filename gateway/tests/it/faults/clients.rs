//! Clients that are slow, close one side, or vanish.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{PATHS, Raw, Scene, head, typed};
use crate::common::guest::{Guest, post};
use crate::common::soon;
use crate::common::upstream::{Exchange, Upstream};

const ASK: &str = r#"{"model":"m","max_tokens":50,"messages":[]}"#;

async fn trickles(mut raw: Raw<impl AsyncRead + AsyncWrite + Unpin>, path: &str, key: &str) {
    let whole = head(path, key, "content-length: 2\r\n");
    raw.say(&whole[..whole.len() - 4]).await;
    let (status, _, value) = raw.answer().await;
    assert_eq!(status, 408, "{value}");
    typed(path, 408, &value, "headers of the request");
    assert!(raw.rest().await.is_empty());
}

#[tokio::test]
async fn headers_that_trickle_are_given_up_in_each_dialect() {
    let scene = Scene::with(|config| config.limits.head = Duration::from_millis(300)).await;
    for path in PATHS {
        trickles(scene.raw().await, path, scene.key()).await;
        let (raw, key) = scene.person().await;
        trickles(raw, path, &key).await;
    }
    // The second request of a connection too.
    let mut raw = scene.raw().await;
    raw.say(head("/nobody/v1/x", scene.key(), "content-length: 2\r\n") + "{}")
        .await;
    assert_eq!(raw.answer().await.0, 404);
    trickles(raw, PATHS[2], scene.key()).await;
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up_in_each_dialect() {
    let mut scene = Scene::with(|config| config.limits.slow = Duration::from_millis(300)).await;
    for path in PATHS {
        for length in ["content-length: 1000\r\n", "transfer-encoding: chunked\r\n"] {
            let mut raw = scene.raw().await;
            raw.say(head(path, scene.key(), length)).await;
            raw.say("5\r\n{\"a\":").await;
            let (status, _, value) = raw.answer().await;
            assert_eq!(status, 408, "{value}");
            typed(path, 408, &value, "too slowly");
        }
    }
    assert!(scene.upstream.is_untouched());
}

/// Sends a whole request, closes the side for sending, and reads the answer to its end.
async fn half_closes(mut raw: Raw<impl AsyncRead + AsyncWrite + Unpin>, key: &str, upstream: &mut Upstream) {
    let length = format!("content-length: {}\r\n", ASK.len());
    raw.say(head(PATHS[2], key, &length) + ASK).await;
    raw.stream.shutdown().await.unwrap();
    let mut exchange = upstream.next().await;
    // The gateway has seen the end of what the client sends, and asks whether it is there.
    assert_eq!(raw.head().await.0, 100);
    exchange.begin_stream().await;
    for _ in 0..3 {
        exchange.chunk("data: {}\n\n").await;
    }
    exchange.write("0\r\n\r\n").await;
    let (mut status, mut lines) = raw.head().await;
    if status == 100 {
        (status, lines) = raw.head().await;
    }
    assert_eq!(status, 200, "{lines}");
    let rest = String::from_utf8(raw.rest().await).unwrap();
    assert_eq!(rest.matches("data: {}").count(), 3, "{rest}");
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}

#[tokio::test]
async fn a_client_that_only_closes_its_side_gets_its_answer() {
    let mut scene = Scene::new().await;
    let key = scene.key().to_owned();
    half_closes(scene.raw().await, &key, &mut scene.upstream).await;
    let (raw, key) = scene.person().await;
    half_closes(raw, &key, &mut scene.upstream).await;
    // Also where the answer is there at once.
    let mut raw = scene.raw().await;
    raw.say(head("/nobody/v1/x", "", "content-length: 2\r\n") + "{}")
        .await;
    raw.stream.shutdown().await.unwrap();
    assert_eq!(raw.answer().await.0, 401);
    assert!(raw.rest().await.is_empty());
}

/// The provider is silent: nothing but the client's end can end the request.
async fn vanishes(
    mut raw: Raw<impl AsyncRead + AsyncWrite + Unpin>,
    key: &str,
    upstream: &mut Upstream,
    begun: bool,
) {
    let length = format!("content-length: {}\r\n", ASK.len());
    raw.say(head(PATHS[1], key, &length) + ASK).await;
    let mut exchange = upstream.next().await;
    if begun {
        exchange.begin_stream().await;
        exchange.chunk("data: {}\n\n").await;
        assert_eq!(raw.head().await.0, 200);
    }
    drop(raw);
    exchange.cancelled().await;
}

#[tokio::test]
async fn a_client_that_vanishes_cancels_its_request_whatever_it_waits_for() {
    let mut scene = Scene::new().await;
    for begun in [false, true] {
        let (key, raw) = (scene.key().to_owned(), scene.raw().await);
        vanishes(raw, &key, &mut scene.upstream, begun).await;
        let (raw, key) = scene.person().await;
        vanishes(raw, &key, &mut scene.upstream, begun).await;
    }
}

/// A relay as it stands between a sandbox and its socket: it passes on that a side has closed, and learns that the other
/// one has gone when it cannot be written to.
async fn relay(from: tokio::net::TcpListener, to: std::path::PathBuf) {
    while let Ok((mut client, _)) = from.accept().await {
        let mut gateway = tokio::net::UnixStream::connect(&to).await.unwrap();
        tokio::spawn(async move {
            let _either_ended = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
        });
    }
}

#[tokio::test]
async fn a_client_that_vanishes_behind_a_relay_cancels_its_request() {
    let mut scene = Scene::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(relay(listener, scene.session.socket.clone()));
    for begun in [false, true] {
        let raw = Raw::new(tokio::net::TcpStream::connect(address).await.unwrap());
        let key = scene.key().to_owned();
        vanishes(raw, &key, &mut scene.upstream, begun).await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_in_its_body_leaves_nothing() {
    let mut scene = Scene::new().await;
    for _ in 0..8 {
        let mut raw = scene.raw().await;
        raw.say(head(PATHS[0], scene.key(), "content-length: 1000000\r\n"))
            .await;
        raw.say(vec![b' '; 10_000]).await;
    }
    // Eight such bodies are twice what a session may have in memory.
    let mut guest = Guest::connect(&scene.session.socket).await;
    let (answer, ()) = tokio::join!(guest.send(post(PATHS[0], scene.key(), ASK)), async {
        scene.upstream.next().await.answer("200 OK", "", "{}").await;
    });
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_provider_back_and_loses_nothing() {
    const PIECE: usize = 64 << 10;
    const MOST: usize = 1024;
    let mut scene = Scene::new().await;
    let mut guest = Guest::connect(&scene.session.socket).await;
    let (answer, mut exchange) = tokio::join!(guest.send(post(PATHS[2], scene.key(), ASK)), async {
        let mut exchange = scene.upstream.next().await;
        exchange.begin_stream().await;
        exchange
    });
    // Nobody reads: so much goes into buffers, and no more.
    let piece = "x".repeat(PIECE);
    let mut sent = 0;
    while sent < MOST && fits(&mut exchange, &piece).await {
        sent += 1;
    }
    assert!(sent < MOST / 2, "{sent} pieces of 64 KiB are in memory somewhere");
    // From where it stopped, in the middle of a piece, it goes on when the client reads.
    let finish = async {
        exchange.finish().await;
        for _ in 0..10 {
            exchange.chunk(&piece).await;
        }
        exchange.write("0\r\n\r\n").await;
    };
    let (body, ()) = tokio::join!(answer.into_body().collect(), soon("the rest is taken", finish));
    let body = body.unwrap().to_bytes();
    assert_eq!(body.len(), (sent + 1 + 10) * PIECE);
    assert!(body.iter().all(|byte| *byte == b'x'));
}

/// Whether the gateway takes another piece within a moment.
async fn fits(exchange: &mut Exchange, piece: &str) -> bool {
    let chunk = exchange.offer(piece);
    tokio::time::timeout(Duration::from_millis(700), chunk)
        .await
        .is_ok()
}
