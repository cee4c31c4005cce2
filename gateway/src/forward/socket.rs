//! Responses over a WebSocket: messages pass as they are in both directions, each request is checked as if it had come
//! over HTTP.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{HeaderMap, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::attempts::Taken;
use super::{Asking, attempts, prepare};
use crate::asked;
use crate::body::{self, GuestBody};
use crate::caller::Caller;
use crate::dialect::{Dialect, Route, WireError};
use crate::guest::Gateway;
use crate::intake::{self, Inflow};
use crate::json;
use crate::meter::{Meter, Plan};
use crate::provider::ProviderSpec;
use crate::stored::{Issuer, Tap};
use crate::usage;

/// Sockets of one session at a time.
const MAX_SOCKETS: usize = 16;
/// Of a message of the provider's, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Refusals that wait for the client to read.
const REFUSALS: usize = 8;
/// What a client may send; everything else is unknown to the checks.
const REQUEST: &str = "response.create";

type Client = WebSocketStream<Inflow<TokioIo<Upgraded>>>;
type Provider = WebSocketStream<TokioIo<Upgraded>>;

/// How many sockets each session has.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: Mutex<HashMap<String, usize>>,
}

/// One socket's place.
#[derive(Debug)]
struct Place {
    sockets: Arc<Sockets>,
    lease: String,
}

impl Sockets {
    fn enter(self: &Arc<Self>, lease: &str) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(lease.to_owned()).or_default();
        if *count >= MAX_SOCKETS {
            return None;
        }
        *count += 1;
        Some(Place {
            sockets: Arc::clone(self),
            lease: lease.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.sockets.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.lease) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.lease);
            }
        }
    }
}

/// Both ends of an accepted socket and what its requests are checked against.
struct Pump {
    gateway: Arc<Gateway>,
    caller: Caller,
    provider: Arc<ProviderSpec>,
    route: Route,
    parts: Parts,
    account: String,
    /// The one request that may be under way; the dialect has one at a time.
    under_way: Mutex<Option<UnderWay>>,
    _place: Place,
}

/// Opens a socket to an account and joins the two; it is cut with the lease.
pub(super) async fn open(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    asking: &Asking<'_>,
    taken: Taken<'_>,
) -> Result<Response<GuestBody>, WireError> {
    if taken.answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        if taken.answer.status().is_success() {
            return Err(WireError::upstream(
                "the provider does not speak WebSocket here".to_owned(),
            ));
        }
        return attempts::pass_on(gateway, caller, asking, taken).await;
    }
    let Taken { choice, answer, .. } = taken;
    let bad = |what: &str| WireError::invalid(format!("the WebSocket request {what}"));
    let key = asking.parts.headers.get("sec-websocket-key");
    let key = key.ok_or_else(|| bad("has no key"))?;
    let client = asking.parts.extensions.get::<OnUpgrade>().cloned();
    let client = client.ok_or_else(|| bad("cannot be upgraded"))?;
    let place = gateway.routing.sockets.enter(&caller.id);
    let place = place.ok_or_else(|| {
        WireError::limited(format!("a session may have {MAX_SOCKETS} WebSockets at a time"))
    })?;
    let mut response = body::empty();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = accepted(answer.headers(), key.as_bytes());
    let pump = Pump {
        gateway: Arc::clone(gateway),
        caller: caller.clone(),
        provider: Arc::clone(asking.provider),
        route: asking.route.clone(),
        parts: asking.parts.clone(),
        account: choice.account.name.clone(),
        under_way: Mutex::default(),
        _place: place,
    };
    let (ended, stopping) = (caller.right.clone(), gateway.stopping.clone());
    gateway.connections.spawn(async move {
        let run = async {
            if let (Ok(client), Ok(provider)) = (client.await, hyper::upgrade::on(answer).await) {
                pump.run(client, provider).await;
            }
        };
        tokio::select! {
            () = run => {}
            () = ended.cancelled() => {}
            () = stopping.cancelled() => {}
        }
    });
    Ok(response)
}

/// The headers of the request to the provider, on top of those that pass.
pub(crate) fn handshake(headers: &mut HeaderMap) -> Result<(), WireError> {
    // What the two clients agree on each is between the two ends of one hop; some carry a key in the protocol.
    let own = [
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "sec-websocket-accept",
    ];
    for name in own {
        headers.remove(name);
    }
    let nonce = crate::seal::random::<16>()
        .map_err(|_| WireError::upstream("the system has no random numbers".to_owned()))?;
    let nonce = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, nonce);
    let value = HeaderValue::from_str(&nonce);
    headers.insert(
        HeaderName::from_static("sec-websocket-key"),
        value.unwrap_or_else(|_| HeaderValue::from_static("")),
    );
    headers.insert(
        HeaderName::from_static("sec-websocket-version"),
        HeaderValue::from_static("13"),
    );
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(())
}

fn accepted(from: &HeaderMap, key: &[u8]) -> HeaderMap {
    let mut headers = crate::proxy::response_headers(from);
    headers.remove("sec-websocket-extensions");
    headers.remove("sec-websocket-protocol");
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
        headers.insert(HeaderName::from_static("sec-websocket-accept"), accept);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers
}

impl Pump {
    async fn run(&self, client: Upgraded, provider: Upgraded) {
        let limit = |bytes| {
            WebSocketConfig::default()
                .max_message_size(Some(bytes))
                .max_frame_size(Some(bytes))
        };
        let max_body = self.gateway.limits.max_body;
        let (client, message) = Inflow::new(TokioIo::new(client), &self.gateway.room, &self.caller.bodies);
        let client = Client::from_raw_socket(client, Role::Server, Some(limit(max_body))).await;
        let provider =
            Provider::from_raw_socket(TokioIo::new(provider), Role::Client, Some(limit(MAX_ANSWER))).await;
        let (to_client, from_client) = client.split();
        let (to_provider, from_provider) = provider.split();
        let (refuse, refusals) = mpsc::channel(REFUSALS);
        let ended = tokio::select! {
            ended = self.up((from_client, message), to_provider, refuse) => ended,
            ended = self.down(from_provider, to_client, refusals) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(
                session = self.caller.session,
                error = crate::causes(&error),
                "a WebSocket ended"
            );
        }
    }

    async fn up(
        &self,
        (mut from, counted): (SplitStream<Client>, intake::Message),
        mut to: SplitSink<Provider, Message>,
        refuse: mpsc::Sender<String>,
    ) -> Result<(), WsError> {
        while let Some(message) = from.next().await {
            let checked = match message? {
                Message::Text(text) => self.request(text.as_bytes()).await,
                Message::Close(frame) => return to.send(Message::Close(frame)).await,
                // Answered by the socket itself, each on its own hop.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                    counted.over();
                    continue;
                }
                Message::Binary(_) => Err(WireError::invalid(
                    "binary messages are not part of the dialect".to_owned(),
                )),
            };
            match checked.and_then(|text| String::from_utf8(text).map_err(|_| not_text())) {
                Ok(text) => to.send(Message::text(text)).await?,
                // A client that does not read its refusals is not read either.
                Err(error) => {
                    if refuse.send(event(&error)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            counted.over();
        }
        Ok(())
    }

    async fn down(
        &self,
        mut from: SplitStream<Provider>,
        mut to: SplitSink<Client, Message>,
        mut refusals: mpsc::Receiver<String>,
    ) -> Result<(), WsError> {
        // What the provider does not keep cannot be asked for later, so learning too much does no harm.
        let issuer = Issuer {
            provider: self.provider.name.clone(),
            account: self.account.clone(),
            owner: self.caller.owner().to_owned(),
        };
        let objects = Arc::clone(&self.gateway.routing.objects);
        let tap = Tap::new(objects, issuer, Dialect::Responses, true);
        loop {
            let message = tokio::select! {
                message = from.next() => message,
                Some(refusal) = refusals.recv() => {
                    to.send(Message::text(refusal)).await?;
                    continue;
                }
                // Its one request was ended by hand: the provider stops at the end of the connection only.
                () = self.caller.ended.cancelled() => {
                    if self.caller.right.is_cancelled() {
                        return Ok(());
                    }
                    to.send(Message::text(event(&self.caller.why_ended()))).await?;
                    return to.send(Message::Close(None)).await;
                }
            };
            match message.transpose()? {
                None => return Ok(()),
                Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Some(Message::Close(frame)) => return to.send(Message::Close(frame)).await,
                Some(message) => {
                    if let Message::Text(text) = &message {
                        tap.value(text.as_bytes());
                        // Settled before the client knows that it is over, and sends the next one.
                        self.saw(text.as_bytes());
                    }
                    to.send(message).await?;
                }
            }
        }
    }

    /// One request, checked and reserved for, as it goes on to the provider.
    async fn request(&self, text: &[u8]) -> Result<Vec<u8>, WireError> {
        if self.lock().is_some() {
            return Err(WireError::limited(
                "a connection has one response at a time; wait for its end, or open another connection"
                    .to_owned(),
            ));
        }
        let asking = self.check(text)?;
        let prepared: Vec<_> = prepare::targets(&self.gateway, &asking)?
            .into_iter()
            .take(1)
            .collect();
        let quotes = prepare::quotes(&asking, &prepared)?;
        // A socket lives long: its user may belong to another team by now.
        let mut caller = self.caller.clone();
        caller.look_up(&self.gateway.people);
        let plan = Plan::new(&self.gateway, &caller, &self.route.operation, quotes)?;
        let first = prepared.into_iter().next();
        let first = first.ok_or_else(|| WireError::no_model("there is no such model here".to_owned()))?;
        let mut body = first.body;
        let mut meter = plan.reserve(0, &self.account, &mut body).await?;
        meter.mark_sent();
        *self.lock() = Some(UnderWay::new(meter));
        Ok(body.to_vec())
    }

    /// An event of the provider's.
    fn saw(&self, event: &[u8]) {
        let mut under_way = self.lock();
        if under_way.as_mut().is_some_and(|under_way| under_way.saw(event)) {
            *under_way = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message may go on, and as what.
    fn check(&self, text: &[u8]) -> Result<Asking<'_>, WireError> {
        let fields = json::fields(text).map_err(|error| WireError::invalid(error.to_string()))?;
        let mut types = fields.iter().filter(|field| field.name == "type");
        let is_request =
            |field: &json::Field| json::decoded(&text[field.value.clone()]).as_deref() == Some(REQUEST);
        let is_one = types.next().is_some_and(is_request) && types.next().is_none();
        if !is_one || fields.iter().any(|field| field.name == "response") {
            return Err(WireError::forbidden(format!(
                "only messages of type `{REQUEST}`, with their fields beside the type, are passed on"
            )));
        }
        let asked = asked::read(Dialect::Responses, text)?;
        asked.check(&self.provider.provider_tools)?;
        let objects = &self.gateway.routing.objects;
        let owner = self.caller.owner().to_owned();
        let pinned = objects.pinned(&self.provider.name, &owner, &asked.objects)?;
        if pinned.as_ref().is_some_and(|pinned| *pinned != self.account) {
            return Err(WireError::invalid(
                "the request refers to objects of another account; open a new connection".to_owned(),
            ));
        }
        Ok(Asking {
            provider: &self.provider,
            route: &self.route,
            parts: &self.parts,
            body: text.to_vec().into(),
            coded: None,
            model: Some(asked.model.clone().unwrap_or_default()),
            asked,
            owner,
            session: self.caller.affinity().to_owned(),
            pinned: Some(self.account.clone()),
        })
    }
}

/// A request that the provider is answering. Dropped, it settles at what was seen, or at all of its bound.
struct UnderWay {
    /// None when it is settled.
    meter: Option<Meter>,
    tap: usage::Tap,
    /// The provider has said anything but an error.
    begun: bool,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
}

impl UnderWay {
    fn new(meter: Meter) -> Self {
        Self {
            tap: usage::Tap::messages(meter.dialect()),
            meter: Some(meter),
            begun: false,
        }
    }

    /// Takes an event; tells whether it was the last one.
    fn saw(&mut self, event: &[u8]) -> bool {
        self.tap.message(event);
        let kind = serde_json::from_slice::<Kind<'_>>(event).ok();
        let kind = kind.and_then(|event| event.kind).unwrap_or_default();
        let is_end = match &*kind {
            "response.completed" | "response.incomplete" | "response.failed" => true,
            "error" => {
                // Refused before it was begun: like an error over HTTP, it costs nothing.
                if !self.begun
                    && let Some(meter) = self.meter.take()
                {
                    meter.void();
                }
                true
            }
            _ => false,
        };
        self.begun = true;
        if is_end {
            self.settle(true);
        }
        is_end
    }

    fn settle(&mut self, complete: bool) {
        if let Some(meter) = self.meter.take() {
            meter.settle(self.tap.seen(), complete);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.settle(false);
    }
}

fn not_text() -> WireError {
    WireError::invalid("the message is not UTF-8".to_owned())
}

/// An error as this dialect sends it over a socket.
fn event(error: &WireError) -> String {
    let body = error.body(Dialect::Responses);
    json!({ "type": "error", "status": error.status, "error": body["error"] }).to_string()
}
