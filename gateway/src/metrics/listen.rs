//! `GET /metrics` on a loopback address, where the configuration names one; never on a guest's socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::guest::Gateway;

/// The format, as scrapers ask for it.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// At a time.
const MAX_CONNECTIONS: usize = 16;
/// Of one connection, from beginning to end.
const LONGEST: Duration = Duration::from_secs(30);
/// Pause where the process has run out of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until dropped; without a listener, nothing.
pub(crate) async fn serve(gateway: &Arc<Gateway>, listener: Option<TcpListener>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let gateway = Arc::clone(gateway);
                tokio::spawn(async move {
                    let _too_slow = tokio::time::timeout(LONGEST, connection(gateway, stream)).await;
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
    let service = service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(answer(&gateway, &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = crate::causes(&error), "a scraper's connection ended");
    }
}

async fn answer(gateway: &Gateway, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    if !is_loopback(request.headers().get(HOST)) {
        // A page in a browser that had its name point here.
        return plain(StatusCode::MISDIRECTED_REQUEST, "ask for a loopback address\n");
    }
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "GET /metrics\n");
    }
    match super::show(gateway).await {
        Ok(text) => {
            let mut response = Response::new(Full::new(text.into()));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
            response
        }
        Err(error) => {
            tracing::error!(error = crate::causes(&error), "the ledger");
            plain(StatusCode::SERVICE_UNAVAILABLE, "the ledger does not answer\n")
        }
    }
}

fn is_loopback(host: Option<&HeaderValue>) -> bool {
    let host = host.and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<hyper::http::uri::Authority>().ok());
    host.is_some_and(|host| {
        let name = host.host().trim_matches(['[', ']']);
        let address: Option<std::net::IpAddr> = name.parse().ok();
        name == "localhost" || address.is_some_and(|address| address.is_loopback())
    })
}
