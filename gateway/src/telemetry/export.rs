//! Sending spans away, in batches, beside everything else: nobody ever waits for it. While the collector is away the queue
//! fills, and what does not fit is dropped and counted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use prost::Message;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::wire::{Export, Resource, ResourceSpans, Scope, ScopeSpans, Span, text};
use super::{Settings, Telemetry};
use crate::proxy::Upstream;

/// Spans of one message.
const BATCH: usize = 512;
/// Longest that a span waits for others.
const WAIT: Duration = Duration::from_secs(5);
/// For one answer of the collector.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two attempts at one batch; after the last it is dropped.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
];

const AGENT: &str = concat!("lodge-gateway/", env!("CARGO_PKG_VERSION"));

/// Sends until `end`; then what waits, once and without trying again.
pub(super) async fn run(
    telemetry: &Telemetry,
    settings: &Settings,
    upstream: &Upstream,
    mut receiver: Receiver<Span>,
    end: CancellationToken,
) {
    let mut is_away = false;
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            count = receiver.recv_many(&mut batch, BATCH) => if count == 0 { return },
            () = end.cancelled() => return,
        }
        let until = tokio::time::Instant::now() + WAIT;
        while batch.len() < BATCH {
            let left = BATCH - batch.len();
            tokio::select! {
                biased;
                count = receiver.recv_many(&mut batch, left) => if count == 0 { break },
                () = tokio::time::sleep_until(until) => break,
                () = end.cancelled() => break,
            }
        }
        let count = batch.len() as u64;
        match deliver(settings, upstream, batch, &end).await {
            Ok(()) => {
                telemetry.sent.fetch_add(count, Ordering::Relaxed);
                if std::mem::take(&mut is_away) {
                    tracing::info!("the collector of spans takes them again");
                }
            }
            Err(why) => {
                telemetry.dropped.fetch_add(count, Ordering::Relaxed);
                // Once: it may be away for hours.
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(collector = %settings.uri, why, "spans are dropped until the collector takes them");
                }
            }
        }
    }
}

async fn deliver(
    settings: &Settings,
    upstream: &Upstream,
    spans: Vec<Span>,
    end: &CancellationToken,
) -> Result<(), String> {
    let body = Bytes::from(message(settings, spans).encode_to_vec());
    let mut pauses = AGAIN.into_iter();
    loop {
        let why = match tokio::time::timeout(ANSWER, upstream.raw(request(settings, body.clone()))).await {
            Ok(Ok(status)) if status.is_success() => return Ok(()),
            Ok(Ok(status)) => {
                let why = format!("it answered with HTTP {}", status.as_u16());
                if !may_be_sent_again(status) {
                    return Err(why);
                }
                why
            }
            Ok(Err(why)) => why,
            Err(_) => format!("it did not answer within {} s", ANSWER.as_secs()),
        };
        let Some(pause) = pauses.next() else {
            return Err(why);
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = end.cancelled() => return Err(why),
        }
    }
}

/// As the protocol has it.
fn may_be_sent_again(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504)
}

fn request(settings: &Settings, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = settings.uri.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in &settings.headers {
        headers.insert(name.clone(), value.clone());
    }
    request
}

fn message(settings: &Settings, spans: Vec<Span>) -> Export {
    let scope = Scope {
        name: "lodge.gateway".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let attributes = vec![
        text("service.name", settings.service.clone()),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    Export {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans,
            }],
        }],
    }
}
