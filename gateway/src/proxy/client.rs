//! The client side: connections to providers, and what of their answers is not passed on as it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use zeroize::Zeroizing;

use super::{headers, relay};
use crate::body::{self, GuestBody};
use crate::config::Limits;
use crate::dialect::WireError;
use crate::provider::{Account, Kind, ProviderSpec};
use crate::stored::{Tap, Tapped};

/// Error bodies are read whole before they are passed on; longer ones are replaced.
const MAX_ERROR_BODY: usize = 256 << 10;
/// Of a list of models, in bytes.
const MAX_LISTING: usize = 8 << 20;
/// For a list of models.
const LISTING: Duration = Duration::from_secs(10);
/// For a login server, and the most it may say in bytes.
const LOGIN: Duration = Duration::from_secs(20);
const MAX_LOGIN: usize = 256 << 10;
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("setting up TLS")]
    Protocol(#[source] rustls::Error),
}

/// One request to one account.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) provider: &'a ProviderSpec,
    pub(crate) account: &'a Account,
    /// The native path.
    pub(crate) path: &'a str,
    /// The caller's method, query and headers.
    pub(crate) parts: &'a Parts,
    pub(crate) body: Bytes,
    /// The body is not the one that came, and no longer compressed as that was.
    pub(crate) changed: bool,
    /// It asks for a WebSocket.
    pub(crate) websocket: bool,
}

/// Connections to all providers.
#[derive(Debug)]
pub struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: Limits,
}

impl Upstream {
    /// Trusts the machine's certificate authorities; where it has none, Mozilla's.
    pub fn new(limits: Limits) -> Result<Self, TlsError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(limits.connect));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = HttpsConnectorBuilder::new();
        let builder = match builder.with_provider_and_native_roots(Arc::clone(&provider)) {
            Ok(builder) => builder,
            Err(error) => {
                tracing::info!(%error, "no certificate authorities on this machine; using the built-in ones");
                HttpsConnectorBuilder::new()
                    .with_provider_and_webpki_roots(provider)
                    .map_err(TlsError::Protocol)?
            }
        };
        // HTTP/1.1 only: a stream of its own on a connection of its own, so that none waits for another.
        let connector = builder.https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .build(connector);
        Ok(Self { client, limits })
    }

    /// Sends a request on, byte for byte, with the account's key; dropped, it cancels the request there.
    ///
    /// Nothing is tried twice here, except where a pooled connection turns out closed before a byte was written.
    pub(crate) async fn attempt(&self, attempt: Attempt<'_>) -> Result<Response<Incoming>, WireError> {
        let Attempt {
            provider,
            account,
            path,
            parts,
            body,
            changed,
            websocket,
        } = attempt;
        let query = headers::query(parts.uri.query());
        let bad = |error| WireError::invalid(format!("the path cannot be forwarded: {error}"));
        let uri = provider.base.join(path, query.as_deref()).map_err(bad)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers::request(&parts.headers, provider.kind, account);
        if changed {
            request.headers_mut().remove(CONTENT_ENCODING);
        }
        if websocket {
            crate::forward::handshake(request.headers_mut())?;
        }
        self.send(&provider.name, request).await
    }

    /// Posts a form to a login server; no redirect is followed.
    pub(crate) async fn form(
        &self,
        url: &str,
        form: Zeroizing<String>,
    ) -> Result<(StatusCode, Bytes), WireError> {
        let failed = |what: &str| WireError::upstream(format!("the login server {what}"));
        let request = Request::post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(Full::new(Bytes::from_owner(form)))
            .map_err(|_| failed("has an address that is none"))?;
        let answer = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|_| failed("cannot be reached"))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_LOGIN).collect().await;
            let body = body.map_err(|_| failed("broke off or sent too much"))?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(LOGIN, answer)
            .await
            .unwrap_or_else(|_| Err(failed("did not answer")))
    }

    async fn send(&self, name: &str, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, WireError> {
        match tokio::time::timeout(self.limits.headers, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                tracing::warn!(
                    provider = name,
                    error = crate::causes(&error),
                    "the provider cannot be reached"
                );
                let connected = !error.is_connect();
                let what = if connected {
                    "closed the connection"
                } else {
                    "cannot be reached"
                };
                Err(WireError {
                    maybe_billed: connected,
                    ..WireError::upstream(format!("the provider `{name}` {what}"))
                })
            }
            Err(_) => {
                let seconds = self.limits.headers.as_secs();
                Err(WireError {
                    maybe_billed: true,
                    ..WireError::timeout(format!("the provider `{name}` did not answer within {seconds} s"))
                })
            }
        }
    }

    /// A request that is none to a provider: its status, once its answer has come to its end. No redirect is followed.
    pub(crate) async fn raw(&self, request: Request<Full<Bytes>>) -> Result<StatusCode, String> {
        let response = self.client.request(request).await;
        let response = response.map_err(|error| crate::causes(&error))?;
        let status = response.status();
        // Read, so that the connection can be used again.
        let _what_it_says = Limited::new(response.into_body(), MAX_LOGIN).collect().await;
        Ok(status)
    }

    /// The provider's own list of models, as it sends it.
    pub(crate) async fn models(&self, provider: &ProviderSpec) -> Result<Bytes, WireError> {
        let failed = |what: &str| WireError::upstream(format!("the provider `{}` {what}", provider.name));
        let account = provider.all_accounts().into_iter().next();
        let account = account.ok_or_else(|| failed("has no account"))?;
        let (status, body) = self.listing(provider, &account).await?;
        if status.is_success() {
            return Ok(body);
        }
        Err(failed(&format!("answered with HTTP {}", status.as_u16())))
    }

    /// What an account is answered when it asks for the list of models: free of charge, and it needs a good key.
    pub(crate) async fn listing(
        &self,
        provider: &ProviderSpec,
        account: &Account,
    ) -> Result<(StatusCode, Bytes), WireError> {
        let failed = |what: &str| WireError::upstream(format!("the provider `{}` {what}", provider.name));
        let path = match provider.kind {
            Kind::Gemini => "/v1beta/models",
            _ => "/v1/models",
        };
        let uri = provider.base.join(path, None);
        let uri = uri.map_err(|_| failed("has an address that is none"))?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        let mut from = HeaderMap::new();
        if provider.kind == Kind::Anthropic {
            from.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        *request.headers_mut() = headers::request(&from, provider.kind, account);
        let answer = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|_| failed("cannot be reached"))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_LISTING).collect().await;
            let body = body.map_err(|_| failed("broke off or sent too much"))?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(LISTING, answer)
            .await
            .unwrap_or_else(|_| Err(failed("did not answer")))
    }

    /// An answer as the caller gets it.
    pub(crate) async fn pass_on(
        &self,
        provider: &ProviderSpec,
        account: &Account,
        response: Response<Incoming>,
        tap: Option<Tap>,
    ) -> Result<Response<GuestBody>, WireError> {
        let status = response.status();
        let name = &provider.name;
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            // Some of these bodies quote the key.
            let mut error = WireError::unauthenticated(&format!(
                "the provider `{name}` refused the gateway's key or its rights (HTTP {})",
                status.as_u16()
            ));
            if status == StatusCode::FORBIDDEN {
                error = WireError::forbidden(error.message);
            }
            return Err(error);
        }
        if !(status.is_success() || status.is_client_error() || status.is_server_error()) {
            let status = status.as_u16();
            return Err(WireError::upstream(format!(
                "the provider `{name}` answered with HTTP {status}, a redirect"
            )));
        }
        let (parts, incoming) = response.into_parts();
        let mut headers = headers::response(&parts.headers);
        let body = if status.is_success() {
            let relay = relay::Relay::new(incoming, self.limits.idle);
            match tap {
                Some(tap) => Tapped::new(relay, tap).boxed_unsync(),
                None => relay.boxed_unsync(),
            }
        } else {
            headers.remove(CONTENT_LENGTH);
            body::full(self.error_body(provider, account, incoming).await?)
        };
        let mut passed = Response::new(body);
        *passed.status_mut() = status;
        *passed.headers_mut() = headers;
        Ok(passed)
    }

    async fn error_body(
        &self,
        provider: &ProviderSpec,
        account: &Account,
        incoming: Incoming,
    ) -> Result<Bytes, WireError> {
        let name = &provider.name;
        let collected = tokio::time::timeout(
            self.limits.headers,
            Limited::new(incoming, MAX_ERROR_BODY).collect(),
        );
        let Ok(Ok(collected)) = collected.await else {
            return Err(WireError::upstream(format!(
                "the provider `{name}` sent an error that cannot be passed on"
            )));
        };
        let bytes = collected.to_bytes();
        let quotes_key = provider
            .all_accounts()
            .iter()
            .chain(&provider.disabled)
            .chain([account])
            .filter_map(|account| account.key.as_ref())
            .any(|key| memchr::memmem::find(&bytes, key.expose().as_bytes()).is_some());
        if quotes_key {
            return Err(WireError::upstream(format!(
                "the provider `{name}` sent an error that quotes its key"
            )));
        }
        Ok(bytes)
    }
}
