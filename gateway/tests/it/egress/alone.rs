//! The broker without a gateway.

use std::path::Path;
use std::sync::Arc;

use lodge_gateway::egress::decisions::{Access, Decisions, Question};
use lodge_gateway::egress::{self, EgressPolicy as Policy, Settings, Unlisted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{exchange, here, private, rest, tunnel};
use crate::common::origin::Origin;
use crate::common::soon;

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
