//! The guest's side: one connection after the other on the session's own socket, for models or for other hosts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::bodies;
use crate::body::{self, GuestBody};
use crate::caller::Caller;
use crate::config::{Config, Limits};
use crate::demo::Demo;
use crate::dialect::{self, Route, WireError};
use crate::egress::sniff::{Guest, Rewound, Spoken};
use crate::egress::{self, broker};
use crate::forward::{self, Routing};
use crate::intake::{self, Body, Intake, Room};
use crate::key::KeyHasher;
use crate::keys::Keys;
use crate::lease::{Lease, Leases};
use crate::ledger::Ledger;
use crate::line::{self, Line};
use crate::meter::Live;
use crate::metrics::Metrics;
use crate::models;
use crate::people::People;
use crate::provider::{self, Kind, ProviderSpec, Providers};
use crate::proxy::{self, Upstream};

/// A connection without a request is closed after this.
const IDLE: Duration = Duration::from_mins(5);

/// What every connection needs.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) providers: Arc<Providers>,
    /// Woken when a provider was entered or forgotten.
    pub(crate) providers_changed: Notify,
    pub(crate) leases: Leases,
    /// Keys of people.
    pub(crate) keys: Keys,
    /// The people, as far as they are known by name.
    pub(crate) people: People,
    /// For request bodies.
    pub(crate) room: Room,
    pub(crate) ledger: Ledger,
    /// Where keys of people are accepted, if anywhere.
    pub(crate) address: Option<std::net::SocketAddr>,
    pub(crate) hasher: KeyHasher,
    pub(crate) upstream: Upstream,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    /// What can be ended by hand.
    pub(crate) live: Arc<Live>,
    /// Keys that are being entered.
    pub(crate) exchanges: crate::exchange::Exchanges,
    pub(crate) routing: Routing,
    /// The way of spans to a collector.
    pub(crate) telemetry: crate::telemetry::Telemetry,
    /// What there is to be used, for whoever asks.
    pub(crate) catalog: models::Catalog,
    /// As it was last read.
    pub(crate) config: ArcSwap<Config>,
    pub(crate) reloading: crate::reload::Reloading,
    pub(crate) demo: Demo,
    pub(crate) limits: Limits,
    /// Bounds of what guests reach besides models.
    pub(crate) egress: Arc<egress::Settings>,
    /// Whose processes may take leases and administer.
    pub(crate) peer_uid: u32,
    /// Cancelled at the end: no new requests, those under way may finish.
    pub(crate) stopping: CancellationToken,
    /// Cancelled after that: what is under way is cut.
    pub(crate) cut: CancellationToken,
    pub(crate) connections: TaskTracker,
    /// Of all guests together.
    pub(crate) guest_connections: Arc<Semaphore>,
}

impl Gateway {
    /// Whether sessions of that uid are served: the runner's own, and those of people who are known by name.
    pub(crate) fn may_hold_leases(&self, uid: u32) -> bool {
        uid == self.peer_uid || self.people.of_uid(uid).is_some()
    }
}

/// What a connection came through, which decides whose key is accepted on it.
#[derive(Debug)]
pub(crate) enum Door {
    /// A session's own socket: its own key and no other.
    Session(Arc<Lease>),
    /// The listener for people: any key of theirs, and no session's.
    Open,
}

/// The peer's uid, if it is the one that may speak here.
pub(crate) fn permitted_peer(stream: &UnixStream, permitted: u32) -> Option<u32> {
    match lodge_proto::sock::peer_uid(stream) {
        Ok(uid) if uid == permitted => Some(uid),
        Ok(uid) => {
            tracing::warn!(uid, permitted, "refusing a connection of another user");
            None
        }
        Err(error) => {
            tracing::warn!(error = crate::causes(&error), "refusing a connection of nobody");
            None
        }
    }
}

/// Serves one connection of a guest until it closes or its lease ends.
pub(crate) async fn serve_connection(gateway: Arc<Gateway>, lease: Arc<Lease>, stream: UnixStream) {
    let (tracker, ended, stopping) = (
        gateway.connections.clone(),
        lease.ended.clone(),
        gateway.stopping.clone(),
    );
    let serve = async {
        let mut guest = Guest::new(stream);
        let spoken = tokio::select! {
            spoken = guest.sniff() => spoken,
            () = stopping.cancelled() => None,
        };
        match spoken {
            None => {}
            Some(Spoken::Models) => serve_models(gateway, lease, guest.into()).await,
            // Tunnels have no end that could be waited for: they are cut when the gateway stops.
            Some(spoken @ (Spoken::Proxy | Spoken::Socks)) => tokio::select! {
                () = broker::serve(&lease.egress, guest, spoken) => {}
                () = stopping.cancelled() => {}
            },
        }
    };
    // Dropping the connection drops the requests in it, and each of them its request to the provider.
    tracker
        .track_future(async {
            tokio::select! { () = serve => {}, () = ended.cancelled() => {} }
        })
        .await;
}

/// Serves requests for models.
async fn serve_models(gateway: Arc<Gateway>, lease: Arc<Lease>, stream: Rewound) {
    let (stopping, limits) = (gateway.stopping.clone(), gateway.limits);
    let door = Arc::new(Door::Session(lease));
    let (line, half_closed) = Line::new(stream, limits.patience());
    let service = service_fn(move |request| {
        let (gateway, door) = (Arc::clone(&gateway), Arc::clone(&door));
        let half_closed = Arc::clone(&half_closed);
        async move { Ok::<_, Infallible>(line::last(handle(&gateway, &door, request).await, &half_closed)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(line), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(error = crate::causes(&error), "a guest's connection ended");
    }
}

/// Answers one request, whatever it is.
pub(crate) async fn handle(
    gateway: &Arc<Gateway>,
    door: &Door,
    request: Request<Incoming>,
) -> Response<GuestBody> {
    let (parts, mut incoming) = request.into_parts();
    let path = parts.uri.path();
    let (name, native) = split(path);
    let provider = gateway.providers.current().get(name).cloned();
    let known = provider.as_ref().map(|provider| provider.name.clone());
    let found = provider
        .as_ref()
        .map(|provider| forward::find_route(provider, &parts, native));
    let dialect = match (&found, &provider) {
        (Some(Ok(route)), _) => route.dialect,
        (_, Some(provider)) if provider.dialects().len() == 1 => provider.dialects()[0],
        _ => dialect::guess(&parts.headers, path),
    };
    let answer = async {
        if gateway.stopping.is_cancelled() {
            return Err(drains());
        }
        let caller = match parts.method {
            // Clients send this one before they use their key; the answer says nothing.
            Method::HEAD => None,
            _ => Some(authenticate(gateway, door, &parts)?),
        };
        if let (provider::OWN, Some(caller)) = (name, &caller) {
            return models::answer(gateway, caller, &parts, native).await;
        }
        let provider = provider.ok_or_else(|| no_provider(name))?;
        let route = found
            .transpose()
            .map_err(|error| WireError::not_found(error.to_string()))?;
        let route = route.ok_or_else(|| no_provider(name))?;
        match caller {
            Some(caller) => dispatch(gateway, &caller, &provider, &route, &parts, &mut incoming).await,
            None => Ok(body::empty()),
        }
    };
    let response = match answer.await {
        Ok(response) => response,
        Err(error) => {
            gateway.metrics.refused(error.status);
            intake::linger(&parts, incoming, gateway.limits.max_body);
            body::error(dialect, &error)
        }
    };
    let status = response.status().as_u16();
    gateway.metrics.answered(known.as_deref(), dialect, status);
    let session = match door {
        Door::Session(lease) => &lease.session_id,
        Door::Open => "",
    };
    tracing::debug!(session, method = %parts.method, provider = name, status, "request");
    response
}

/// The first part of the path, and the provider's own path after it.
fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.find('/').map_or((path, ""), |slash| path.split_at(slash))
}

fn no_provider(name: &str) -> WireError {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(32).collect();
    WireError::not_found(format!("there is no provider `{name}`"))
}

/// 503: come back when there is a gateway again.
fn drains() -> WireError {
    let mut error =
        WireError::overloaded("the gateway is about to stop, and takes no new requests".to_owned());
    error.retry_after = Some("5".to_owned());
    error
}

fn authenticate(gateway: &Gateway, door: &Door, parts: &Parts) -> Result<Caller, WireError> {
    let key = proxy::presented_key(&parts.headers, parts.uri.query())
        .ok_or_else(|| WireError::unauthenticated("the request carries no key"))?;
    let hash = gateway.hasher.hash(&key);
    match door {
        Door::Session(lease) if lease.accepts(hash) && !gateway.may_hold_leases(lease.owner) => {
            Err(WireError::unauthenticated("the user of this session was removed"))
        }
        Door::Session(lease) if lease.accepts(hash) => Ok(lease.caller(&gateway.people).asking()),
        Door::Session(lease) => {
            tracing::warn!(
                session = lease.session_id,
                "a key that does not belong to this socket"
            );
            Err(WireError::unauthenticated(
                "this key is not valid on this session's socket",
            ))
        }
        Door::Open => {
            let line = gateway
                .keys
                .find(hash, gateway.ledger.now())
                .map_err(WireError::unauthenticated)?;
            Caller::of_key(line, &gateway.room, &gateway.people)
                .map(Caller::asking)
                .ok_or_else(|| WireError::unauthenticated("this key is not known here"))
        }
    }
}

async fn dispatch(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    provider: &Arc<ProviderSpec>,
    route: &Route,
    parts: &Parts,
    incoming: &mut Incoming,
) -> Result<Response<GuestBody>, WireError> {
    let (body, held) = match parts.method {
        Method::POST | Method::PATCH => {
            let intake = Intake {
                limits: gateway.limits,
                room: &gateway.room,
                is_file: route.takes_a_file(),
                own: &caller.bodies,
            };
            let (body, held) = intake.read(parts, incoming).await?;
            (body, Some(held))
        }
        _ => (Body::default(), None),
    };
    if caller.logs_bodies() {
        bodies::asked(caller.key_id(), &body.plain);
    }
    if provider.kind != Kind::Demo && !provider.is_usable() {
        let message = if provider.disabled.is_empty() {
            format!(
                "no key is set for the provider `{}`; add one in the settings",
                provider.name
            )
        } else {
            format!(
                "every account of the provider `{}` is disabled for now",
                provider.name
            )
        };
        return Err(WireError::unauthenticated(&message));
    }
    let answering = async {
        match provider.kind {
            Kind::Demo => forward::demo(gateway, caller, provider, route, body.plain).await,
            _ => forward::send(gateway, caller, provider, route, parts, body).await,
        }
    };
    // Dropped, it cancels the request at the provider, and what is reserved for it counts.
    let response = tokio::select! {
        response = answering => response,
        () = caller.ended.cancelled() => Err(caller.why_ended()),
    };
    drop(held);
    if caller.logs_bodies() {
        return response.map(|response| bodies::answered(caller.key_id(), response));
    }
    response
}
