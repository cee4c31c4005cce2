//! A guest's way out: over its own socket, by name, as far as its policy goes.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lodge_gateway::egress::decisions::{Access, Decisions, Question};
use lodge_gateway::egress::dial::Resolver;
use lodge_gateway::egress::name::Host;
use lodge_gateway::egress::{self, EgressPolicy as Policy, Settings, Unlisted};
use lodge_proto::control::{EgressAccess, EgressPolicy, EgressQuestion, egress_notice::Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::common::origin::Origin;
use crate::common::runner::{Runner, Session};
use crate::common::{Running, soon};

const NAMES: [&str; 4] = ["a.example", "b.example", "denied.example", "unlisted.example"];

/// Every name is this machine.
fn here() -> Resolver {
    Resolver::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }))
}

fn private(port: u16) -> Vec<(Host, u16)> {
    NAMES
        .iter()
        .map(|name| (Host::parse(name.as_bytes()).unwrap(), port))
        .collect()
}

/// A gateway for which the names of these tests are local services.
async fn gateway(data: &Path, port: u16) -> Running {
    Running::start_with(data, "", |config| {
        config.egress.resolver = here();
        config.egress.allow_private = private(port);
    })
    .await
}

fn policy(port: u16, ask: bool) -> EgressPolicy {
    EgressPolicy {
        allow: vec!["a.example".into(), "b.example".into(), "denied.example".into()],
        deny: vec!["denied.example".into()],
        ports: vec![port.into()],
        ask,
    }
}

async fn session(runner: &mut Runner, data: &Path, policy: EgressPolicy) -> Session {
    runner.session_with(data, "s", 0, Some(policy)).await
}

/// Sends bytes, says that this is all, returns everything that comes back.
async fn exchange(socket: &Path, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream.shutdown().await.unwrap();
    rest(&mut stream).await
}

async fn rest(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    soon("the end of an answer", stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A tunnel that stands.
async fn tunnel(socket: &Path, target: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 39];
    soon("the tunnel stands", stream.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 Connection Established\r\n\r\n");
    stream
}

async fn access(runner: &mut Runner) -> EgressAccess {
    match runner.notice().await.notice {
        Some(Notice::Access(access)) => access,
        other => panic!("no decision: {other:?}"),
    }
}

async fn question(runner: &mut Runner) -> EgressQuestion {
    match runner.notice().await.notice {
        Some(Notice::Question(question)) => question,
        other => panic!("no question: {other:?}"),
    }
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

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

#[derive(Debug, Default)]
struct Heard(std::sync::Mutex<Vec<Access>>);

impl Decisions for Heard {
    fn access(&self, access: Access) {
        self.0.lock().unwrap().push(access);
    }

    fn ask(&self, _: &Question) -> bool {
        false
    }

    fn closed(&self, _: &str) {}
}

/// Serves in this process, without any gateway.
fn alone(
    socket: &Path,
    port: u16,
    decisions: &Arc<Heard>,
) -> (tokio::task::JoinHandle<()>, tokio::sync::oneshot::Sender<()>) {
    let listener = UnixListener::bind(socket).unwrap();
    let policy = Policy::new(&["a.example"], &[] as &[&str], &[port.into()], Unlisted::Ask).unwrap();
    let settings = Settings {
        resolver: here(),
        allow_private: private(port),
        ..Settings::default()
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let decisions = Arc::clone(decisions) as Arc<dyn Decisions>;
    let serving = tokio::spawn(async move {
        egress::serve(listener, policy, settings, decisions, async {
            let _told_or_gone = stopped.await;
        })
        .await;
    });
    (serving, stop)
}

#[tokio::test]
async fn the_broker_alone_serves_without_a_gateway() {
    let data = tempfile::tempdir().unwrap();
    let socket = data.path().join("alone.sock");
    let origin = Origin::start().await;
    let heard = Arc::new(Heard::default());
    let (serving, stop) = alone(&socket, origin.port, &heard);
    let mut stream = tunnel(&socket, &format!("a.example:{}", origin.port)).await;
    let request = format!("CONNECT unlisted.example:{} HTTP/1.1\r\n\r\n", origin.port);
    assert!(
        exchange(&socket, request)
            .await
            .contains("nobody is there to be asked")
    );
    let models = exchange(&socket, "POST /demo/v1/messages HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(models.starts_with("HTTP/1.1 400 "), "{models}");
    assert_eq!(heard.0.lock().unwrap().len(), 3);
    drop(stop);
    soon("the broker ends", serving).await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test(start_paused = true)]
async fn whoever_dawdles_is_let_go() {
    let data = tempfile::tempdir().unwrap();
    let socket = data.path().join("alone.sock");
    let heard = Arc::new(Heard::default());
    let (_serving, _stop) = alone(&socket, 443, &heard);
    let mut slow = UnixStream::connect(&socket).await.unwrap();
    slow.write_all(b"CONNECT a.exam").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let mut silent = UnixStream::connect(&socket).await.unwrap();
    silent.read_to_string(&mut answer).await.unwrap();
    let mut socks = UnixStream::connect(&socket).await.unwrap();
    socks.write_all(&[5, 1]).await.unwrap();
    socks.read_to_string(&mut answer).await.unwrap();
}
