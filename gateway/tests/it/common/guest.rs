//! What a guest does: HTTP on its own socket.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::soon;

/// One connection of a guest.
pub(crate) struct Guest {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Guest {
    pub(crate) async fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        soon("an answer of the gateway", self.sender.send_request(request))
            .await
            .unwrap()
    }

    pub(crate) async fn try_send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        soon("an end of the request", self.sender.send_request(request)).await
    }

    /// Goes away in the middle of whatever is under way.
    pub(crate) fn vanish(self) {
        self.connection.abort();
    }

    /// Waits until the gateway closes the connection.
    pub(crate) async fn closed(self) {
        let _how_does_not_matter = soon("the gateway closes the connection", self.connection).await;
    }
}

/// A request with its key as a bearer token.
pub(crate) fn post(path: &str, key: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "127.0.0.1:8377")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

pub(crate) async fn bytes(response: Response<Incoming>) -> Bytes {
    soon("the end of the body", response.into_body().collect())
        .await
        .unwrap()
        .to_bytes()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(bytes(response).await.to_vec()).unwrap()
}

pub(crate) async fn json(response: Response<Incoming>) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&bytes(response).await).unwrap())
}
