//! Connections that wait for the user.

use lodge_proto::control::egress_notice::Notice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{access, exchange, gateway, policy, question, rest, session, tunnel};
use crate::common::origin::Origin;
use crate::common::runner::Runner;
use crate::common::soon;

#[tokio::test]
async fn the_user_is_asked_and_the_connection_waits() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = gateway(data.path(), port).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, true)).await;
    let target = format!("unlisted.example:{port}");
    let request = format!("CONNECT {target} HTTP/1.1\r\n\r\n");
    let lease = session.lease.lease_id.as_str();

    let mut waiting = UnixStream::connect(&session.socket).await.unwrap();
    waiting.write_all(request.as_bytes()).await.unwrap();
    let asked = question(&mut runner).await;
    assert_eq!(
        (asked.host.as_str(), asked.port, asked.seconds),
        ("unlisted.example", port.into(), 120)
    );
    assert_eq!(access(&mut runner).await.decision, "asked");
    assert!(origin.seen().is_empty(), "nothing is dialled before the answer");
    assert!(!runner.answer("lease-other", &asked.id, "once").await);
    assert!(runner.answer(lease, &asked.id, "once").await);
    assert!(
        !runner.answer(lease, &asked.id, "once").await,
        "an answer counts once"
    );
    let mut head = [0; 12];
    soon("the tunnel stands", waiting.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    drop(waiting);

    // Once is once; a session's answer is for all that follow.
    let mut waiting = UnixStream::connect(&session.socket).await.unwrap();
    waiting.write_all(request.as_bytes()).await.unwrap();
    let asked = loop {
        if let Some(Notice::Question(asked)) = runner.notice().await.notice {
            break asked;
        }
    };
    assert!(runner.answer(lease, &asked.id, "session").await);
    soon("the tunnel stands", waiting.read_exact(&mut head))
        .await
        .unwrap();
    tunnel(&session.socket, &target).await;

    // What the policy denies is never asked for.
    let denied = format!("CONNECT denied.example:{port} HTTP/1.1\r\n\r\n");
    assert!(
        exchange(&session.socket, denied)
            .await
            .starts_with("HTTP/1.1 403 ")
    );
}

#[tokio::test]
async fn without_a_runner_to_ask_it_is_a_denial() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = gateway(data.path(), port).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, true)).await;
    let request = format!("CONNECT unlisted.example:{port} HTTP/1.1\r\n\r\n");
    let mut waiting = UnixStream::connect(&session.socket).await.unwrap();
    waiting.write_all(request.as_bytes()).await.unwrap();
    question(&mut runner).await;
    drop(runner);
    let answer = rest(&mut waiting).await;
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("withdrawn"),
        "{answer}"
    );
    let answer = exchange(&session.socket, request).await;
    assert!(answer.contains("nobody is there to be asked"), "{answer}");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_question_is_withdrawn_when_the_guest_hangs_up() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = gateway(data.path(), 443).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(443, true)).await;
    let mut waiting = UnixStream::connect(&session.socket).await.unwrap();
    waiting
        .write_all(b"CONNECT unlisted.example:443 HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let asked = question(&mut runner).await;
    drop(waiting);
    loop {
        if let Some(Notice::Closed(closed)) = runner.notice().await.notice {
            assert_eq!(closed.id, asked.id);
            break;
        }
    }
}
