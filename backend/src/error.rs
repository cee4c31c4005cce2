//! Why the backend does not start or ends.

use crate::auth::StoreError;
use lodge_proto::sock::SockError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the backend does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "[backend] listen = \"{listen}\" is no loopback address, and this build serves no TLS: logins would cross \
         the network in the clear. Listen on 127.0.0.1 and reach it from elsewhere with `ssh -L {port}:127.0.0.1:{port} HOST`",
        port = listen.port()
    )]
    NotLoopback { listen: SocketAddr },
    #[error("[backend] trusted_proxy = \"{value}\": proxies are not supported yet; remove the key")]
    TrustedProxy { value: String },
    #[error(
        "[backend] allowed_hosts: `{value}` is no host; write `name` or `name:port`, without scheme, path or wildcard"
    )]
    AllowedHost { value: String },
    #[error("creating {path}")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("opening the accounts")]
    Accounts(#[from] StoreError),
    #[error("listening on {listen}; is Lodge running already?")]
    Listen {
        listen: SocketAddr,
        source: std::io::Error,
    },
    #[error("listening on the control socket")]
    Control(#[from] SockError),
    #[error("handing a listener to the event loop")]
    Register { source: std::io::Error },
    #[error("the thread that opens the accounts ended")]
    Thread(#[from] tokio::task::JoinError),
}
