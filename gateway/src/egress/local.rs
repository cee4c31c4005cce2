//! The broker alone, on a listener of this process: for sandboxes that no gateway knows of.

use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::broker;
use super::decisions::Decisions;
use super::policy::EgressPolicy;
use super::session::{Session, Settings};
use super::sniff::Guest;
use crate::accept::accept;

/// Connections at a time, those included that have not said anything yet.
const MAX_CONNECTIONS: usize = 256;

/// Serves whoever connects until `shutdown` resolves; then every connection is cut.
///
/// There are no models here: requests for them are refused. Whoever can open the socket can use it, so it belongs into
/// a directory of its owner's alone.
pub async fn serve(
    listener: UnixListener,
    policy: EgressPolicy,
    settings: Settings,
    decisions: Arc<dyn Decisions>,
    shutdown: impl Future<Output = ()>,
) {
    let session = Arc::new(Session::new(Arc::new(settings), policy, decisions));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (tracker, ended) = (TaskTracker::new(), CancellationToken::new());
    let accepting = async {
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            let guest = Guest::new(accept(&listener).await);
            let (session, ended) = (Arc::clone(&session), ended.clone());
            tracker.spawn(async move {
                tokio::select! {
                    () = serve_connection(&session, guest) => {},
                    () = ended.cancelled() => {},
                }
                drop(permit);
            });
        }
    };
    tokio::select! { () = accepting => {}, () = shutdown => {} }
    ended.cancel();
    tracker.close();
    tracker.wait().await;
}

async fn serve_connection(session: &Session, mut guest: Guest) {
    // A request for a model is no request to a proxy: it is answered as a malformed one.
    if let Some(spoken) = guest.sniff().await {
        broker::serve(session, guest, spoken).await;
    }
}
