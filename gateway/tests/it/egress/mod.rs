//! A guest's way out: over its own socket, by name, as far as its policy goes.

mod alone;
mod ask;
mod limits;
mod reach;

use std::path::Path;

use lodge_gateway::egress::dial::Resolver;
use lodge_gateway::egress::name::Host;
use lodge_proto::control::{EgressAccess, EgressPolicy, EgressQuestion, egress_notice::Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

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
