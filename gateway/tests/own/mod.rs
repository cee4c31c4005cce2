//! A gateway in a process of its own: the program of the test, started once more on a data directory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hyper_util::rt::TokioIo;
use lodge_gateway::{Config, Error};
use tonic::transport::Channel;

/// Set: this process is the gateway, on that data directory.
const DATA: &str = "LODGE_TEST_GATEWAY_DATA";

/// The program: its one test, as runners list and start it; or the gateway, where it was started by [`Gateway::start`].
pub(crate) fn main<G: Future<Output = ()>>(
    name: &str,
    gateway: impl FnOnce(PathBuf) -> G,
    test: impl Future<Output = ()>,
) {
    match std::env::var_os(DATA) {
        Some(data) => runtime().block_on(gateway(data.into())),
        None => run(name, test),
    }
}

/// The same of a test whose gateway is in its own process.
pub(crate) fn run(name: &str, test: impl Future<Output = ()>) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if asked("--list") {
        // Runners ask for the ignored ones apart; there are none.
        if !asked("--ignored") {
            println!("{name}: test");
        }
        return;
    }
    runtime().block_on(test);
    println!("test {name} ... ok\n\ntest result: ok. 1 passed; 0 failed");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// What the process of the gateway does: serves until it is told to stop, and says when it is ready.
pub(crate) async fn serve(config: Config, told: impl Future<Output = ()>) {
    let served: Result<(), Error> = lodge_gateway::serve(config, || println!("ready"), told).await;
    served.unwrap();
}

/// A gateway of its own process; dropped, it is killed.
pub(crate) struct Gateway(pub(crate) Child);

impl Gateway {
    /// Starts it with these variables; returns when its sockets are there.
    pub(crate) async fn start(data: &Path, variables: &[(&str, String)], log: Option<File>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(DATA, data).stdout(Stdio::piped());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        if let Some(log) = log {
            command.stderr(log);
        }
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let started = Self(child);
        let ready = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).map(|_| line)
        });
        assert_eq!(ready.await.unwrap().unwrap(), "ready\n", "the gateway started");
        started
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The way to its administration; none where nobody listens.
pub(crate) async fn channel(data: &Path) -> Option<Channel> {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    endpoint.connect_with_connector(connect).await.ok()
}
