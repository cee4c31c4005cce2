//! From an HTTP request to a WebSocket.
//!
//! The page proves that it was given to this login by a token, used once, in `Sec-WebSocket-Protocol`: the only
//! header that a browser lets a page set on a WebSocket. Host and Origin were checked before (see `auth::guard`).
//!
//! The handshake is made here and not by the web framework, because the framework hides two things needed here:
//! the stream, whose written bytes tell a slow client from a stuck one, and frames, into which a long text is cut.

use super::socket;
use crate::auth::extract::User;
use crate::rest::error::ApiError;
use crate::server::{Room, Shared};
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use lodge_proto::{ErrorBody, ErrorCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The protocol's name; the token goes beside it as `token.<token>`.
pub(crate) const PROTOCOL: &str = "lodge.v1";

fn invalid(message: &str) -> ApiError {
    ErrorBody::new(ErrorCode::InvalidArgument, message).into()
}

/// The comma-separated items of all headers of a name.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The page token, if the client offers our protocol with exactly one.
fn page_token(headers: &HeaderMap) -> Option<&str> {
    let mut tokens = items(headers, SEC_WEBSOCKET_PROTOCOL).filter_map(|item| item.strip_prefix("token."));
    let token = tokens.next()?;
    let offered = items(headers, SEC_WEBSOCKET_PROTOCOL).any(|item| item == PROTOCOL);
    (offered && tokens.next().is_none()).then_some(token)
}

/// The client's key, if the request is a WebSocket handshake.
fn handshake_key(headers: &HeaderMap) -> Result<&HeaderValue, ApiError> {
    let has = |name, word: &str| items(headers, name).any(|item| item.eq_ignore_ascii_case(word));
    if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        return Err(invalid("this address is a WebSocket"));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(invalid(
            "only version 13 of the WebSocket protocol is spoken here",
        ));
    }
    headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| invalid("Sec-WebSocket-Key is missing"))
}

/// `GET /api/v1/ws`
pub(crate) async fn upgrade(
    State(app): State<Shared>,
    user: User,
    Extension(room): Extension<Room>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let accept = derive_accept_key(handshake_key(request.headers())?.as_bytes());
    let refused = || {
        ErrorBody::new(
            ErrorCode::Unauthenticated,
            "a page token is missing, was used before or is no longer good; get one from /api/v1/page-token",
        )
    };
    let token = page_token(request.headers()).ok_or_else(refused)?.to_owned();
    if !app.login.take_page_token(&token, user.login).await? {
        return Err(refused().into());
    }
    let upgrading = hyper::upgrade::on(&mut request);
    let hub = app.relay.hub(&user.actor.account);
    let stop = app.stop.clone();
    app.tasks.spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let attachment = hub.attach(user.actor, user.login);
        if stop.is_cancelled() {
            attachment.signal.close(super::signal::CloseReason::Restart);
        }
        socket::run(upgraded, attachment, user.login_ends).await;
        drop(room);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    let accept = HeaderValue::from_str(&accept).map_err(|_| invalid("Sec-WebSocket-Key is malformed"))?;
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offering(values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_token_stands_beside_the_protocol() {
        assert_eq!(page_token(&offering(&["lodge.v1, token.abc"])), Some("abc"));
        assert_eq!(page_token(&offering(&["token.abc", "lodge.v1"])), Some("abc"));
        for bad in [
            &["lodge.v1"][..],
            &["token.abc"],
            &["lodge.v2, token.abc"],
            &["lodge.v1,token.a,token.b"],
            &[],
        ] {
            assert_eq!(page_token(&offering(bad)), None, "{bad:?}");
        }
    }
}
