//! How much, how many, how long.

use tokio::io::AsyncWriteExt;

use super::{access, exchange, gateway, get, here, policy, private, rest, session, tunnel};
use crate::common::Running;
use crate::common::origin::Origin;
use crate::common::runner::Runner;

#[tokio::test]
async fn decisions_are_counted_together() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = gateway(data.path(), 443).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(443, false)).await;
    for _ in 0..50 {
        exchange(&session.socket, "CONNECT unlisted.example:443 HTTP/1.1\r\n\r\n").await;
    }
    let (mut connections, mut notices) = (0, 0);
    while connections < 50 {
        connections += access(&mut runner).await.connections;
        notices += 1;
    }
    assert!(notices < 10, "{notices} notices for 50 connections");
}

#[tokio::test]
async fn tunnels_end_with_their_lease_and_with_the_gateway() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let target = format!("a.example:{}", origin.port);
    let gateway = gateway(data.path(), origin.port).await;
    let mut runner = Runner::connect(data.path());
    let first = session(&mut runner, data.path(), policy(origin.port, false)).await;
    let mut cut = tunnel(&first.socket, &target).await;
    runner.close(&first).await;
    assert_eq!(rest(&mut cut).await, "");
    let second = session(&mut runner, data.path(), policy(origin.port, false)).await;
    let mut cut = tunnel(&second.socket, &target).await;
    gateway.stop().await;
    assert_eq!(rest(&mut cut).await, "");
}

#[tokio::test]
async fn a_session_has_so_many_connections_and_bytes() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = Running::start_with(data.path(), "", |config| {
        config.egress.resolver = here();
        config.egress.allow_private = private(port);
        config.egress.connections = 2;
        config.egress.bytes = 300;
    })
    .await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, false)).await;
    let target = format!("a.example:{port}");
    let first = tunnel(&session.socket, &target).await;
    let mut second = tunnel(&session.socket, &target).await;
    let answer = exchange(&session.socket, format!("CONNECT {target} HTTP/1.1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(first);
    // Each request and its answer are some eighty bytes.
    let request = get(&target);
    for _ in 0..10 {
        if second.write_all(request.as_bytes()).await.is_err() {
            break;
        }
    }
    rest(&mut second).await;
    assert!(origin.seen()[1].len() <= 300);
}
