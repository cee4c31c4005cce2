//! The listener for keys of people: laptops, tests, clients outside of any sandbox.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::accept;
use crate::guest::{self, Door, Gateway};
use crate::line::{self, Line};

/// A connection without a request is closed after this.
const IDLE: Duration = Duration::from_mins(2);
/// Pause where the process has run out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until dropped. As many connections as the configuration says, and as there are descriptors for; others wait.
pub(crate) async fn serve(gateway: Arc<Gateway>, listener: TcpListener) {
    let most = gateway.limits.connections.min(accept::connections());
    let places = Arc::new(Semaphore::new(most));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let gateway = Arc::clone(&gateway);
                let tracker = gateway.connections.clone();
                tracker.spawn(async move {
                    connection(gateway, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(gateway: Arc<Gateway>, stream: TcpStream) {
    let _not_vital = stream.set_nodelay(true);
    // One that comes while the gateway drains is told so, and closed: ended before its first request, it would learn nothing.
    let drains = gateway.stopping.is_cancelled();
    let stopping = gateway.stopping.clone();
    let (cut, patience) = (gateway.cut.clone(), gateway.limits.patience());
    let (line, half_closed) = Line::new(stream, patience);
    let service = service_fn(move |request| {
        let (gateway, half_closed) = (Arc::clone(&gateway), Arc::clone(&half_closed));
        async move {
            let response = guest::handle(&gateway, &Door::Open, request).await;
            Ok::<_, Infallible>(line::last(response, &half_closed))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .keep_alive(!drains)
        .serve_connection(TokioIo::new(line), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = cut.cancelled() => return,
        () = stopping.cancelled(), if !drains => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                done = connection => done,
                () = cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = done {
        tracing::debug!(error = crate::causes(&error), "a client's connection ended");
    }
}
