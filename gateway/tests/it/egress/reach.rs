//! Names, ports and contents.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lodge_proto::control::EgressPolicy;
use tokio::io::AsyncWriteExt;

use super::{access, exchange, gateway, get, here, policy, rest, session, tunnel};
use crate::common::origin::Origin;
use crate::common::runner::Runner;
use crate::common::{Running, soon};

#[tokio::test]
async fn names_and_ports_decide_and_every_decision_is_told() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = gateway(data.path(), port).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, false)).await;

    let mut stream = tunnel(&session.socket, &format!("A.example:{port}")).await;
    stream
        .write_all(get(&format!("a.example:{port}")).as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    // Half of the connection is closed, and still the answer comes.
    assert!(rest(&mut stream).await.ends_with("hi"));
    let told = access(&mut runner).await;
    assert_eq!(
        (
            told.host.as_str(),
            told.port,
            told.decision.as_str(),
            told.rule.as_str()
        ),
        ("a.example", u32::from(port), "allowed", "allow a.example")
    );
    let mut told = access(&mut runner).await;
    if told.sent == 0 {
        told = access(&mut runner).await;
    }
    assert_eq!(
        (told.connections, told.sent > 20, told.received > 20),
        (0, true, true)
    );

    for (target, rule, word) in [
        (
            format!("denied.example:{port}"),
            "deny denied.example",
            "policy says",
        ),
        (
            format!("unlisted.example:{port}"),
            "unlisted",
            "does not allow this host",
        ),
        ("a.example:22".to_owned(), "ports", "does not allow this port"),
        (format!("127.0.0.1:{port}"), "address", "no address"),
    ] {
        let answer = exchange(&session.socket, format!("CONNECT {target} HTTP/1.1\r\n\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains(word),
            "{target}: {answer}"
        );
        let told = access(&mut runner).await;
        assert_eq!(
            (told.decision.as_str(), told.rule.as_str()),
            ("denied", rule),
            "{target}"
        );
    }
    for target in [
        "a.example%00.b.example:80",
        "a.example.:80",
        "0x7f.1:80",
        "u@a.example:80",
        "a.example:080",
    ] {
        let answer = exchange(&session.socket, format!("CONNECT {target} HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert_eq!(origin.seen().len(), 1, "nothing else was dialled");
}

#[tokio::test]
async fn without_a_policy_there_is_no_way_out() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let _gateway = gateway(data.path(), origin.port).await;
    let mut runner = Runner::connect(data.path());
    let bare = runner.session(data.path(), "bare", 0).await;
    let empty = EgressPolicy {
        ports: vec![origin.port.into()],
        ..EgressPolicy::default()
    };
    let empty = runner.session_with(data.path(), "empty", 0, Some(empty)).await;
    for socket in [&bare.socket, &empty.socket] {
        let target = format!("a.example:{}", origin.port);
        let answer = exchange(socket, format!("CONNECT {target} HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        let plain = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert!(exchange(socket, plain).await.starts_with("HTTP/1.1 403 "));
    }
    assert!(origin.seen().is_empty());
    // A policy that cannot be meant is refused with the pattern.
    let wide = EgressPolicy {
        allow: vec!["*".into()],
        ..EgressPolicy::default()
    };
    let socket = data.path().join("wide.sock");
    let listener = lodge_proto::sock::bind(&socket).unwrap();
    let open = lodge_proto::control::LeaseOpen {
        session_id: "wide".into(),
        harness: "pi".into(),
        ttl_seconds: 0,
        egress: Some(wide),
        narrow: None,
    };
    let request = lodge_proto::control::lease_request::Request::Open(open);
    match runner.call(request, Some(&listener)).await {
        lodge_proto::control::lease_reply::Reply::Error(error) => {
            assert_eq!(error.code, "invalid_argument");
            assert!(error.message.contains("egress.allow: `*`"), "{}", error.message);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn plain_requests_are_one_a_connection_and_for_one_host() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = gateway(data.path(), port).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, false)).await;
    let first = format!(
        "POST http://a.example:{port}/x HTTP/1.1\r\nHost: a.example:{port}\r\nContent-Length: 4\r\n\r\nbody"
    );
    let second = get("denied.example");
    let answer = exchange(&session.socket, format!("{first}{second}")).await;
    assert!(answer.ends_with("hi"), "{answer}");
    let seen = origin.seen();
    assert!(
        seen[0].starts_with("POST /x HTTP/1.1\r\n") && seen[0].ends_with("body"),
        "{seen:?}"
    );
    let other = format!("GET http://a.example:{port}/ HTTP/1.1\r\nHost: denied.example\r\n\r\n");
    assert!(
        exchange(&session.socket, other)
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    let smuggling = format!(
        "POST http://a.example:{port}/ HTTP/1.1\r\nHost: a.example:{port}\r\nContent-Length: 4\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert!(
        exchange(&session.socket, smuggling)
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_tunnel_carries_no_request_for_another_host() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = gateway(data.path(), port).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, false)).await;
    let mut stream = tunnel(&session.socket, &format!("a.example:{port}")).await;
    let good = get(&format!("a.example:{port}"));
    let bad = get(&format!("denied.example:{port}"));
    stream.write_all(format!("{good}{bad}").as_bytes()).await.unwrap();
    rest(&mut stream).await;
    assert!(!origin.seen()[0].contains("denied.example"));
    loop {
        let told = access(&mut runner).await;
        if told.decision == "denied" {
            assert_eq!(told.rule, "content");
            assert!(told.reason.contains("another host"), "{}", told.reason);
            break;
        }
    }
}

#[tokio::test]
async fn names_of_local_addresses_are_refused_without_the_operators_word() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = Running::start_with(data.path(), "", |config| config.egress.resolver = here()).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, false)).await;
    let answer = exchange(
        &session.socket,
        format!("CONNECT a.example:{port} HTTP/1.1\r\n\r\n"),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("loopback"),
        "{answer}"
    );
    let told = access(&mut runner).await;
    assert_eq!(
        (told.decision.as_str(), told.rule.as_str()),
        ("denied", "addresses")
    );
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn socks_by_name_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = gateway(data.path(), port).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, false)).await;
    let request = |command: u8, name: &[u8]| {
        let length = u8::try_from(name.len()).unwrap();
        [&[5, 1, 0, 5, command, 0, 3, length], name, &port.to_be_bytes()].concat()
    };
    for (bytes, code) in [
        (request(1, b"denied.example"), 2),
        (request(1, b"a.example\0.evil"), 2),
        (request(1, b"127.0.0.1"), 2),
        (request(2, b"a.example"), 7),
        (request(3, b"a.example"), 7),
    ] {
        let answer = exchange(&session.socket, &bytes).await;
        assert_eq!(&answer.as_bytes()[..4], &[5, 0, 5, code], "{bytes:?}");
    }
    let bytes = [request(1, b"a.example"), get(&format!("a.example:{port}")).into()].concat();
    let answer = exchange(&session.socket, bytes).await;
    assert!(
        answer.as_bytes()[..4] == [5, 0, 5, 0] && answer.ends_with("hi"),
        "{answer:?}"
    );
    assert_eq!(origin.seen().len(), 1);
}

/// A real client, whose hellos are no work of ours. It speaks SOCKS over the session's socket.
async fn curl(socket: &Path, arguments: &[&str]) -> std::process::Output {
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "-k", "--max-time", "10", "--proxy"])
        .arg(format!("socks5h://localhost{}", socket.display()))
        .args(arguments)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    soon("curl ends", output)
        .await
        .expect("curl is needed for this test: apt install curl")
}

#[tokio::test]
async fn real_curl_gets_through_and_its_server_name_is_checked() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let port = origin.port;
    let _gateway = gateway(data.path(), port).await;
    let mut runner = Runner::connect(data.path());
    let session = session(&mut runner, data.path(), policy(port, false)).await;
    let output = curl(&session.socket, &[&format!("http://a.example:{port}/")]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hi", "{output:?}");

    // Encrypted: the server is none, but it sees the hello of the right name, and of the wrong one nothing.
    let url = format!("https://a.example:{port}/");
    let arguments = [url.as_str()];
    let fails = curl(&session.socket, &arguments);
    let hello = async {
        loop {
            if let Some(seen) = origin.seen().get(1).filter(|seen| seen.contains("a.example")) {
                return seen.as_bytes()[0];
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        kind = soon("the client's hello arrives", hello) => assert_eq!(kind, 22),
        output = fails => panic!("ended too early: {output:?}"),
    }
    let to = format!("b.example:{port}:a.example:{port}");
    let output = curl(
        &session.socket,
        &["--connect-to", &to, &format!("https://b.example:{port}/")],
    )
    .await;
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(
        origin.seen().get(2).map(String::as_str),
        Some(""),
        "nothing of the foreign hello went through"
    );
}
