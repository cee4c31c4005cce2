//! Who asks: what the socket knows of the process, and for whom that process says it acts.

use tonic::Request;
use tonic::transport::server::UdsConnectInfo;

/// Where a process says for whom it acts.
const ACTOR: &str = "lodge-actor";
/// Longest name, bytes.
const MAX_NAME: usize = 128;

/// Who asks for a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// Of the process, as the kernel says.
    pub uid: u32,
    /// The same; 0: unknown.
    pub pid: i32,
    /// For whom, as the process says; every process that gets here may do all of this by itself. Empty: for nobody else.
    pub name: String,
}

impl Actor {
    /// Who sent a request over the administrative socket.
    pub fn of<T>(request: &Request<T>) -> Self {
        let peer = request.extensions().get::<UdsConnectInfo>();
        let peer = peer.and_then(|info| info.peer_cred);
        let name = request.metadata().get(ACTOR);
        let name = name.and_then(|name| name.to_str().ok()).unwrap_or_default();
        Self {
            uid: peer.map_or(u32::MAX, |peer| peer.uid()),
            pid: peer.and_then(|peer| peer.pid()).unwrap_or(0),
            name: name
                .chars()
                .filter(char::is_ascii_graphic)
                .take(MAX_NAME)
                .collect(),
        }
    }
}
