//! The client of the backend's control socket.

use crate::unix;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use lodge_proto::sock::SockError;
use lodge_proto::{ErrorBody, sock};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest time for all of it.
const LIMIT: Duration = Duration::from_secs(10);

/// A link that logs a browser in once. It prints nothing of itself in a log.
#[derive(Clone, Serialize, Deserialize)]
pub struct LoginLink {
    pub url: String,
    /// Seconds.
    pub expires_in: u64,
}

impl std::fmt::Debug for LoginLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginLink")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// A call of the control socket that failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the backend's control socket does not answer; is `lodge up` running?")]
    Connect(#[from] SockError),
    #[error("talking to the backend")]
    Http(#[from] hyper::Error),
    #[error("the backend's answer broke off or is too long")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the backend's answer could not be read")]
    Answer(#[from] serde_json::Error),
    #[error("the request could not be put together")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Refused(#[from] ErrorBody),
    #[error("the backend did not answer within {} s", LIMIT.as_secs())]
    Late,
}

#[derive(Deserialize)]
struct Refusal {
    error: ErrorBody,
}

/// Asks the backend behind the control socket at `path` for a login link of `account` (absent: the local account).
pub async fn login_link(path: &Path, account: Option<&str>) -> Result<LoginLink, ControlError> {
    tokio::time::timeout(LIMIT, ask(path, account))
        .await
        .map_err(|_| ControlError::Late)?
}

async fn ask(path: &Path, account: Option<&str>) -> Result<LoginLink, ControlError> {
    let stream = unix::connect(path, sock::own_uid()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let body = serde_json::to_vec(&serde_json::json!({ "account": account }))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri("/login-link")
        .header(HOST, "lodge")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(ControlError::Body)?;
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(serde_json::from_slice(&body)?);
        }
        Err(serde_json::from_slice::<Refusal>(&body)?.error.into())
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended?;
            // The connection may end right after the answer came.
            exchange.await
        }
    }
}
