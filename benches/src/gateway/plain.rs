//! The least that a gateway can be: hyper on both sides, the key swapped, bodies streamed. It has no accounts, limits,
//! policy or record: it is a floor, not a rival.

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

type Upstream = Client<HttpConnector, Incoming>;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model.
    #[arg(long)]
    upstream: SocketAddr,
    /// The Unix socket to serve too.
    #[arg(long)]
    socket: PathBuf,
}

/// Serves on a port of its own and on the socket until killed; says its port when it is ready.
pub(super) async fn serve(args: &Args) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let unix = UnixListener::bind(&args.socket)?;
    println!("ready {}", tcp.local_addr()?);
    loop {
        tokio::select! {
            accepted = tcp.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                tokio::spawn(relay(client.clone(), args.upstream, stream));
            }
            accepted = unix.accept() => {
                tokio::spawn(relay(client.clone(), args.upstream, accepted?.0));
            }
        }
    }
}

async fn relay(
    client: Upstream,
    upstream: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client = client.clone();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = format!("http://{upstream}{path}").parse::<Uri>();
        async move {
            *request.uri_mut() = uri?;
            request.headers_mut().remove(HOST);
            let key = HeaderValue::from_static("Bearer sk-provider");
            request.headers_mut().insert(AUTHORIZATION, key);
            anyhow::Ok(client.request(request).await?)
        }
    });
    // A client that goes away in the middle is its own affair.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
