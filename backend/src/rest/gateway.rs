//! The client of the gateway's administration: gRPC over its Unix socket.

use crate::unix;
use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_accounts_client::GatewayAccountsClient;
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::gateway_ops_client::GatewayOpsClient;
use lodge_proto::control::gateway_setup_client::GatewaySetupClient;
use lodge_proto::control::gateway_users_client::GatewayUsersClient;
use lodge_proto::{ErrorBody, ErrorCode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tower::service_fn;

/// Longest description of everything that is set up, bytes.
const MAX_SETUP: usize = 16 << 20;
/// Longest time a call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Longest list of users, bytes.
const MAX_USERS: usize = 64 << 20;

/// A client that connects when it is needed, and again after the gateway was away.
#[derive(Debug, Clone)]
pub(crate) struct GatewayAdmin {
    channel: Channel,
}

impl GatewayAdmin {
    /// A client of the socket at `path`, behind which a process of `uid` must be.
    pub(crate) fn new(path: PathBuf, uid: u32) -> Self {
        let path: Arc<PathBuf> = Arc::new(path);
        let connector = service_fn(move |_: Uri| {
            let path = Arc::clone(&path);
            async move { unix::connect(&path, uid).await.map(TokioIo::new) }
        });
        // The address is a formality: the connector knows the socket.
        let endpoint = Endpoint::from_static("http://gateway.invalid").timeout(LIMIT);
        Self {
            channel: endpoint.connect_with_connector_lazy(connector),
        }
    }

    pub(crate) fn client(&self) -> GatewayAdminClient<Channel> {
        GatewayAdminClient::new(self.channel.clone())
    }

    pub(crate) fn accounts(&self) -> GatewayAccountsClient<Channel> {
        GatewayAccountsClient::new(self.channel.clone())
    }

    pub(crate) fn setup(&self) -> GatewaySetupClient<Channel> {
        GatewaySetupClient::new(self.channel.clone()).max_decoding_message_size(MAX_SETUP)
    }

    pub(crate) fn ops(&self) -> GatewayOpsClient<Channel> {
        GatewayOpsClient::new(self.channel.clone())
    }

    pub(crate) fn users(&self) -> GatewayUsersClient<Channel> {
        GatewayUsersClient::new(self.channel.clone()).max_decoding_message_size(MAX_USERS)
    }
}

/// A change, with the account for which it is made: the gateway writes it down.
pub(crate) fn on_behalf<T>(message: T, account: &str) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(actor) = account.parse() {
        request.metadata_mut().insert("lodge-actor", actor);
    }
    request
}

/// A gRPC status as the protocol's error.
pub(crate) fn error_of(status: &Status) -> ErrorBody {
    let code = match status.code() {
        Code::NotFound => ErrorCode::NotFound,
        Code::PermissionDenied => ErrorCode::Forbidden,
        Code::Unauthenticated => ErrorCode::Unauthenticated,
        Code::InvalidArgument | Code::OutOfRange => ErrorCode::InvalidArgument,
        Code::AlreadyExists | Code::Aborted => ErrorCode::Conflict,
        Code::FailedPrecondition => ErrorCode::Busy,
        Code::ResourceExhausted => ErrorCode::RateLimited,
        Code::DeadlineExceeded | Code::Cancelled => ErrorCode::DeadlineExceeded,
        Code::Unavailable => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    };
    // A transport's message names sockets and system errors: of no use to who asks.
    let message = match code {
        ErrorCode::Unavailable => "the gateway does not answer",
        ErrorCode::DeadlineExceeded => "the gateway did not answer in time",
        _ => status.message(),
    };
    ErrorBody::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_codes_without_inner_details() {
        let error = error_of(&Status::unavailable("connecting to /a/b.sock: ENOENT"));
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::Unavailable, "the gateway does not answer")
        );
        assert_eq!(
            error_of(&Status::not_found("provider `x`")).message,
            "provider `x`"
        );
    }
}
