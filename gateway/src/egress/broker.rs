//! One connection of a guest that wants out.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::connect::{self, Request};
use super::decisions::Outcome;
use super::dial::DialError;
use super::gate::{Gate, GateError};
use super::head::Body;
use super::name::Host;
use super::session::{Opened, Refusal, Session};
use super::sniff::{Guest, Spoken};
use super::socks::{self, Reply, SocksError};
use super::tunnel::{Carries, Cut, carry};

/// Time in which a request to the broker has to be there.
const REQUEST: Duration = super::tunnel::SLOW;
/// Bytes a guest may send ahead while its connection is being made.
const MAX_AHEAD: usize = 64 << 10;
/// How often it is looked whether a guest that says nothing more is still there: the kernel tells only who asks.
const HANG_UP_POLL: Duration = Duration::from_millis(500);
/// Time to take an answer that refuses.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why there is no request.
enum NoRequest<E> {
    Malformed(E),
    Slow,
    Gone,
}

/// Serves a connection that speaks to the proxy.
pub(crate) async fn serve(session: &Session, mut guest: Guest, spoken: Spoken) {
    match spoken {
        Spoken::Socks => socks_connection(session, &mut guest).await,
        Spoken::Proxy | Spoken::Models => http_connection(session, &mut guest).await,
    }
}

async fn http_connection(session: &Session, guest: &mut Guest) {
    let request = match request(guest, connect::parse).await {
        Ok(request) => request,
        Err(NoRequest::Malformed(error)) => {
            session.tell_malformed(error.to_string());
            return say(guest, &answer(400, "Bad Request", &error.to_string())).await;
        }
        Err(NoRequest::Slow) => {
            return say(
                guest,
                &answer(408, "Request Timeout", "the request did not come to its end"),
            )
            .await;
        }
        Err(NoRequest::Gone) => return,
    };
    let (host, port, length) = match &request {
        Request::Tunnel { host, port, length }
        | Request::Forward {
            host, port, length, ..
        } => (host.clone(), *port, *length),
    };
    guest.buffer.drain(..length);
    let Some(opened) = open(session, guest, &host, port).await else {
        return;
    };
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            let (code, reason) = status(&refusal);
            let text = format!("{host}:{port}: {refusal}");
            return say(guest, &answer(code, reason, &text)).await;
        }
    };
    let (carries, ready) = match request {
        Request::Tunnel { .. } => {
            let ready = guest
                .stream
                .write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n")
                .await;
            (Carries::Tunnel(Gate::new(host.clone(), port)), ready)
        }
        Request::Forward { head, framing, .. } => {
            let ready = opened.server.write_all(&head).await;
            (Carries::Body(Body::new(framing)), ready)
        }
    };
    if ready.is_ok() {
        carry_and_tell(session, guest, opened, (host, port), carries).await;
    }
}

async fn socks_connection(session: &Session, guest: &mut Guest) {
    match request(guest, socks::greeting).await {
        Ok(length) => drop(guest.buffer.drain(..length)),
        Err(NoRequest::Malformed(error)) => {
            session.tell_malformed(error.to_string());
            return say(guest, &socks::NO_METHOD).await;
        }
        Err(NoRequest::Slow | NoRequest::Gone) => return,
    }
    if guest.stream.write_all(&socks::WELCOME).await.is_err() {
        return;
    }
    let wanted = match request(guest, socks::request).await {
        Ok(request) => request,
        Err(NoRequest::Malformed(error)) => {
            session.tell_malformed(error.to_string());
            return say(guest, &SocksError::reply(error).bytes()).await;
        }
        Err(NoRequest::Slow | NoRequest::Gone) => return,
    };
    guest.buffer.drain(..wanted.length);
    let Some(opened) = open(session, guest, &wanted.host, wanted.port).await else {
        return;
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => return say(guest, &reply(&refusal).bytes()).await,
    };
    if guest.stream.write_all(&Reply::Succeeded.bytes()).await.is_ok() {
        let carries = Carries::Tunnel(Gate::new(wanted.host.clone(), wanted.port));
        carry_and_tell(session, guest, opened, (wanted.host, wanted.port), carries).await;
    }
}

/// Reads until `parse` has found something at the start.
async fn request<T, E>(
    guest: &mut Guest,
    parse: impl Fn(&[u8]) -> Result<Option<T>, E>,
) -> Result<T, NoRequest<E>> {
    let deadline = Instant::now() + REQUEST;
    loop {
        match parse(&guest.buffer) {
            Err(error) => return Err(NoRequest::Malformed(error)),
            Ok(Some(request)) => return Ok(request),
            Ok(None) => {}
        }
        match tokio::time::timeout_at(deadline, guest.fill()).await {
            Err(_) => return Err(NoRequest::Slow),
            Ok(Ok(1..)) => {}
            Ok(_) => return Err(NoRequest::Gone),
        }
    }
}

/// A connection, or why there is none; `None` when the guest did not wait for it.
async fn open(
    session: &Session,
    guest: &mut Guest,
    host: &Host,
    port: u16,
) -> Option<Result<Opened, Refusal>> {
    tokio::select! {
        opened = session.open(host, port) => Some(opened),
        () = hang_up(guest) => None,
    }
}

/// Returns when the guest has closed the connection, or sends more than it should before it is answered. One that only
/// has nothing more to say still waits for its answer.
async fn hang_up(guest: &mut Guest) {
    loop {
        match guest.fill().await {
            Ok(1..) if guest.buffer.len() < MAX_AHEAD => {}
            Ok(0) => break,
            _ => return,
        }
    }
    while !is_hung_up(guest) {
        tokio::time::sleep(HANG_UP_POLL).await;
    }
}

/// Whether the other end is closed in both directions.
fn is_hung_up(guest: &Guest) -> bool {
    let mut fds = [PollFd::new(&guest.stream, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut fds, Some(&now)) {
        Ok(_) => fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
        Err(_) => true,
    }
}

async fn carry_and_tell(
    session: &Session,
    guest: &mut Guest,
    opened: Opened,
    (host, port): (Host, u16),
    carries: Carries,
) {
    let is_http = matches!(carries, Carries::Body(_)) || port == 80;
    let carried = carry(
        guest,
        opened.server,
        carries,
        &session.meter,
        session.settings.idle,
    )
    .await;
    session.tell_end(&host, port, opened.rule, carried.sent, carried.received);
    drop(opened.permit);
    match carried.end {
        Err(Cut::Gate(error)) => {
            let reason = GateError::to_string(&error);
            session.tell(&host, port, Outcome::Denied, "content".to_owned(), reason.clone());
            // Where nothing was answered yet, the guest can be told why.
            if is_http && carried.received == 0 {
                let text = format!("{host}:{port}: {reason}");
                say(guest, &answer(403, "Forbidden", &text)).await;
            }
        }
        Err(Cut::Exhausted(error)) => {
            session.tell(
                &host,
                port,
                Outcome::Denied,
                "bytes".to_owned(),
                error.to_string(),
            );
        }
        Err(cut) => tracing::debug!(%host, port, error = crate::causes(&cut), "a guest's connection was cut"),
        Ok(()) => {}
    }
}

/// Says a last word; what the guest still sends is of no interest.
async fn say(guest: &mut Guest, bytes: &[u8]) {
    let saying = async {
        guest.stream.write_all(bytes).await?;
        guest.stream.shutdown().await
    };
    let _whoever_listens = tokio::time::timeout(LAST_WORDS, saying).await;
}

fn answer(code: u16, reason: &str, text: &str) -> Vec<u8> {
    let body = format!("lodge: {text}\n");
    format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn status(refusal: &Refusal) -> (u16, &'static str) {
    match refusal {
        Refusal::Denied { .. } | Refusal::Dial(DialError::Address(_)) => (403, "Forbidden"),
        Refusal::Busy(_) => (503, "Service Unavailable"),
        Refusal::Dial(DialError::ConnectTimeout | DialError::ResolveTimeout) => (504, "Gateway Timeout"),
        Refusal::Dial(_) => (502, "Bad Gateway"),
    }
}

fn reply(refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::Denied { .. } | Refusal::Dial(DialError::Address(_)) => Reply::NotAllowed,
        Refusal::Busy(_) => Reply::Failure,
        Refusal::Dial(DialError::Connect(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Reply::Refused
        }
        Refusal::Dial(_) => Reply::HostUnreachable,
    }
}
