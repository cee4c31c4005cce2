//! Keys and sockets: which belongs to which, how long, and across what.

use std::os::unix::net::UnixListener;

use http_body_util::BodyExt;
use lodge_proto::control::{
    LeaseOpen, LeaseRequest, ListModelsRequest, lease_reply::Reply, lease_request::Request,
};
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::guest::{self, Guest, post};
use crate::common::runner::Runner;
use crate::common::{Running, soon};

const CHAT: &str = "/demo/v1/chat/completions";

fn say(text: &str) -> String {
    json!({ "model": "demo", "messages": [{ "role": "user", "content": format!("say {text}") }] }).to_string()
}

/// Whether the key is accepted on the socket.
async fn works(socket: &std::path::Path, key: &str) -> bool {
    let (status, body) = guest::json(
        Guest::connect(socket)
            .await
            .send(post(CHAT, key, say("hi")))
            .await,
    )
    .await;
    assert!(status == 200 || status == 401, "{body}");
    status == 200
}

#[tokio::test]
async fn a_key_works_on_its_own_socket_only() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = Running::start(data.path(), "").await;
    let mut runner = Runner::connect(data.path());
    let a = runner.session(data.path(), "a", 0).await;
    let b = runner.session(data.path(), "b", 0).await;
    assert_ne!(a.lease.virtual_key, b.lease.virtual_key);
    assert_eq!((a.lease.ttl_seconds, a.lease.models.len()), (60, 1));
    assert!(works(&a.socket, &a.lease.virtual_key).await);
    assert!(works(&b.socket, &b.lease.virtual_key).await);
    assert!(!works(&a.socket, &b.lease.virtual_key).await);
    assert!(!works(&b.socket, &a.lease.virtual_key).await);
    assert!(!works(&a.socket, &a.lease.lease_id).await);

    // Refused in the words of each dialect.
    for (path, field, value) in [
        (
            "/demo/v1/chat/completions",
            "/error/code",
            json!("invalid_api_key"),
        ),
        ("/demo/v1/responses", "/error/code", json!("invalid_api_key")),
        ("/demo/v1/messages", "/error/type", json!("authentication_error")),
        (
            "/demo/v1beta/models/demo:generateContent",
            "/error/status",
            json!("UNAUTHENTICATED"),
        ),
    ] {
        let response = Guest::connect(&a.socket)
            .await
            .send(post(path, &b.lease.virtual_key, "{}"))
            .await;
        let (status, body) = guest::json(response).await;
        assert_eq!(
            (status, body.pointer(field)),
            (401, Some(&value)),
            "{path}: {body}"
        );
    }
    let without = hyper::Request::post(CHAT)
        .body(http_body_util::Full::default())
        .unwrap();
    assert_eq!(
        guest::json(Guest::connect(&a.socket).await.send(without).await)
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn the_key_outlives_the_gateway() {
    let data = tempfile::tempdir().unwrap();
    let gateway = Running::start(data.path(), "").await;
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    gateway.kill().await;
    // A request in between waits in the listener's queue.
    let mut waiting = Guest::connect(&session.socket).await;
    let request = post(CHAT, &session.lease.virtual_key, say("patience"));
    let waiting = tokio::spawn(async move { waiting.send(request).await.status() });

    let _gateway = Running::start(data.path(), "").await;
    let mut runner = Runner::connect(data.path());
    let id = session.lease.lease_id.as_str();
    assert_eq!(runner.renew(&[id]).await, [id]);
    let Reply::Granted(granted) = runner.resume(&session).await else {
        panic!("not resumed")
    };
    assert_eq!(
        (granted.lease_id.as_str(), granted.virtual_key.as_str()),
        (id, "")
    );
    assert_eq!(soon("the queued request is served", waiting).await.unwrap(), 200);
    assert!(works(&session.socket, &session.lease.virtual_key).await);
    assert!(!works(&session.socket, "lodge-sk-other").await);
    assert!(runner.renew(&[id]).await.is_empty());
}

#[tokio::test]
async fn a_lease_lives_on_without_its_runner_until_it_lapses() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = Running::start(data.path(), "").await;
    let mut runner = Runner::connect(data.path());
    let session = runner.session(data.path(), "s", 3).await;
    drop(runner);
    let idle = Guest::connect(&session.socket).await;
    assert!(works(&session.socket, &session.lease.virtual_key).await);
    idle.closed().await;

    let mut runner = Runner::connect(data.path());
    let id = session.lease.lease_id.as_str();
    assert_eq!(runner.renew(&[id]).await, [id]);
    assert!(matches!(runner.resume(&session).await, Reply::Granted(_)));
    assert!(works(&session.socket, &session.lease.virtual_key).await);
}

#[tokio::test]
async fn a_new_lease_of_a_session_ends_the_old_one() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = Running::start(data.path(), "").await;
    let mut runner = Runner::connect(data.path());
    let old = runner.session(data.path(), "s", 0).await;
    let idle = Guest::connect(&old.socket).await;
    assert!(works(&old.socket, &old.lease.virtual_key).await);
    let new = runner.session(data.path(), "s", 0).await;
    idle.closed().await;
    assert!(!works(&new.socket, &old.lease.virtual_key).await);
    assert!(works(&new.socket, &new.lease.virtual_key).await);
    assert!(matches!(runner.resume(&old).await, Reply::Error(_)));
}

#[tokio::test]
async fn a_lease_is_resumed_for_its_own_session_only() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = Running::start(data.path(), "").await;
    let mut runner = Runner::connect(data.path());
    let mine = runner.session(data.path(), "mine", 0).await;
    let mut other = runner.session(data.path(), "other", 0).await;
    other.lease.lease_id.clone_from(&mine.lease.lease_id);
    let Reply::Error(error) = runner.resume(&other).await else {
        panic!("the lease of one session was resumed on the socket of another");
    };
    assert_eq!(error.code, "not_found");
    assert!(!works(&other.socket, &mine.lease.virtual_key).await);
    assert!(works(&mine.socket, &mine.lease.virtual_key).await);
}

#[tokio::test]
async fn what_is_no_lease_request_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = Running::start(data.path(), "").await;
    let mut runner = Runner::connect(data.path());
    let open = |session: &str, ttl_seconds| {
        Request::Open(LeaseOpen {
            session_id: session.into(),
            harness: "pi".into(),
            ttl_seconds,
            egress: None,
            narrow: None,
        })
    };
    let refused = |reply| match reply {
        Reply::Error(error) => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(runner.call(open("s", 0), None).await), "invalid_argument");
    let listener = lodge_proto::sock::bind(&data.path().join("x.sock")).unwrap();
    for (session, ttl) in [("../s", 0), ("", 0), ("s", 100_000)] {
        assert_eq!(
            refused(runner.call(open(session, ttl), Some(&listener)).await),
            "invalid_argument"
        );
    }
    let connected = lodge_proto::sock::connect(&data.path().join("x.sock")).unwrap();
    let not_listening = UnixListener::from(std::os::fd::OwnedFd::from(connected));
    assert_eq!(
        refused(runner.call(open("s", 0), Some(&not_listening)).await),
        "invalid_argument"
    );
    // A message that is too long, and a descriptor nobody asked for: the connection is given up.
    let renew = Request::Renew(lodge_proto::control::LeaseRenew {
        lease_ids: vec!["x".repeat(70_000)],
    });
    assert!(runner.try_call(renew, None).await.is_none());
    let mut runner = Runner::connect(data.path());
    let renew = Request::Renew(lodge_proto::control::LeaseRenew { lease_ids: vec![] });
    assert!(runner.try_call(renew.clone(), Some(&listener)).await.is_some());
    assert!(runner.try_call(renew, None).await.is_none());
}

#[tokio::test]
async fn other_users_are_refused_on_both_sockets() {
    let data = tempfile::tempdir().unwrap();
    let _gateway = Running::start_with(data.path(), "", |config| config.peer_uid += 1).await;
    for socket in ["gateway-lease.sock", "gateway-admin.sock"] {
        let stream = lodge_proto::sock::connect(&data.path().join("run").join(socket)).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut stream = tokio::net::UnixStream::from_std(stream).unwrap();
        let request = LeaseRequest {
            id: 1,
            request: Some(Request::Models(ListModelsRequest::default())),
        };
        let _may_be_closed_already = stream.write_all(&request.encode_length_delimited_to_vec()).await;
        let mut answer = Vec::new();
        let _or_reset = soon("the connection is closed", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "{socket}");
    }
}

#[tokio::test]
async fn stopping_lets_a_stream_finish() {
    let data = tempfile::tempdir().unwrap();
    let gateway = Running::start(data.path(), "").await;
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    let mut guest = Guest::connect(&session.socket).await;
    let body =
        json!({ "model": "demo", "stream": true, "messages": [{ "role": "user", "content": "long 20 20" }] });
    let response = guest
        .send(post(CHAT, &session.lease.virtual_key, body.to_string()))
        .await;
    let (body, ()) = tokio::join!(response.into_body().collect(), gateway.stop());
    assert!(body.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
}
