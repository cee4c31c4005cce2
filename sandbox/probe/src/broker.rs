//! The egress broker as the check sees it. Sandbox crates know no gateway: whoever runs the check brings one.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixListener;

/// What a broker should be for one sandbox.
#[derive(Debug)]
pub struct BrokerRequest {
    /// The session's gateway socket, bound and listening.
    pub listener: UnixListener,
    /// Names that may be reached, as in a policy file; an empty list allows nothing.
    pub allow: Vec<String>,
    pub ports: Vec<u16>,
    /// What the broker's resolver answers: for each name one list of addresses per question, the last one again and
    /// again. Other names do not exist.
    pub names: Vec<(String, Vec<Vec<IpAddr>>)>,
    /// Where a checked address is really dialled: the scene's servers stand for the public internet. Whatever is not
    /// in here cannot be dialled.
    pub reroute: Vec<(SocketAddr, SocketAddr)>,
    /// A provider's key that the gateway should hold for the provider `demo` and never show.
    pub provider_key: String,
}

/// Serves gateway sockets with the real gateway.
pub trait Broker {
    fn open(&self, request: BrokerRequest) -> Result<Box<dyn BrokerSession>, String>;
}

/// A served socket; dropping it ends it.
pub trait BrokerSession {
    /// The session's virtual key.
    fn key(&self) -> String;
    /// A valid key of another session on the same gateway.
    fn foreign_key(&self) -> String;
    /// Makes the session's key invalid.
    fn revoke(&mut self);
    /// Everything that was logged and decided so far, to look for keys in it.
    fn log(&self) -> String;
}
