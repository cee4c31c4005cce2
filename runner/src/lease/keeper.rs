//! The task that owns the connection to the gateway.

use super::connection::{Connection, Failure};
use super::{Egress, Listener, Notice};
use lodge_proto::control::{
    EgressNotice, LeaseClose, LeaseRenew, LeaseResume, egress_notice, lease_reply::Reply,
    lease_request::Request,
};
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How often leases are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// Pause before the gateway is tried again.
const RECONNECT: Duration = Duration::from_millis(200);
/// Time a request waits for a gateway that is just being started.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is handed over again to a gateway that was restarted.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: SessionId,
    pub(super) listener: Arc<OwnedFd>,
    pub(super) egress: Egress,
    pub(super) notices: Listener,
}

#[derive(Debug)]
pub(super) enum Job {
    Ask {
        request: Box<Request>,
        /// What is held from then on, where the answer is a lease.
        hold: Option<Box<Held>>,
        reply: oneshot::Sender<Result<Reply, ErrorBody>>,
    },
    Close {
        lease: String,
    },
}

/// The task that owns the connection and knows what is held.
pub(super) struct Keeper {
    pub(super) socket: PathBuf,
    pub(super) uid: u32,
    pub(super) held: HashMap<String, Held>,
}

impl Keeper {
    pub(super) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        let mut connection: Option<Connection> = None;
        let mut renewal = tokio::time::interval(RENEW_EVERY);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let lost = tokio::select! {
                job = queue.recv() => match job {
                    Some(job) => self.job(job, &mut connection).await,
                    None => return,
                },
                _ = renewal.tick() => self.renew(&mut connection).await,
                notice = notice(connection.as_mut()), if connection.is_some() => match notice {
                    Some(notice) => {
                        self.dispatch(notice);
                        false
                    }
                    None => true,
                },
            };
            // What came while an answer was waited for.
            for notice in connection
                .iter_mut()
                .flat_map(Connection::waiting)
                .collect::<Vec<_>>()
            {
                self.dispatch(notice);
            }
            if lost {
                connection = None;
                self.tell_lost();
                // What is held is handed over again as soon as the gateway is back.
                if !self.held.is_empty() {
                    connection = self.connect(PATIENCE).await.ok();
                }
            }
        }
    }

    async fn connect(&self, patience: Duration) -> Result<Connection, Failure> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match Connection::open(&self.socket, self.uid) {
                Ok(mut connection) => {
                    for (lease, held) in &self.held {
                        let request = Request::Resume(LeaseResume {
                            session_id: held.session.to_string(),
                            lease_id: lease.clone(),
                            egress: Some((&held.egress).into()),
                        });
                        if let Reply::Error(error) = connection.ask(request, Some(&held.listener)).await? {
                            tracing::warn!(session = %held.session, error = error.message, "a lease was not resumed");
                        }
                    }
                    return Ok(connection);
                }
                Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(RECONNECT).await,
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Sends one request over a connection that works; `Err` when none does.
    async fn exchange(
        &self,
        connection: &mut Option<Connection>,
        request: &Request,
        listener: Option<&Arc<OwnedFd>>,
    ) -> Result<Reply, Failure> {
        // A request that met a dying gateway is made again: opening a lease twice only leaves one that lapses.
        for _ in 0..2 {
            if connection.is_none() {
                *connection = Some(self.connect(PATIENCE).await?);
            }
            let Some(open) = connection else { break };
            match open.ask(request.clone(), listener).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => {
                    tracing::warn!(%failure, "the gateway's lease socket");
                    *connection = None;
                    self.tell_lost();
                }
            }
        }
        Err(Failure::Closed)
    }

    /// Does one job; whether the connection was lost over it.
    async fn job(&mut self, job: Job, connection: &mut Option<Connection>) -> bool {
        match job {
            Job::Close { lease } => return self.close(lease, connection).await,
            Job::Ask { request, hold, reply } => {
                let listener = hold.as_ref().map(|held| &held.listener);
                let answer = match self.exchange(connection, &request, listener).await {
                    Ok(Reply::Error(error)) => Err(ErrorBody::new(
                        error.code.parse().unwrap_or(ErrorCode::Internal),
                        format!("the gateway refused: {}", error.message),
                    )),
                    Ok(reply) => Ok(reply),
                    Err(failure) => Err(ErrorBody::new(
                        ErrorCode::Unavailable,
                        format!(
                            "the gateway cannot be reached ({failure}); is it running? see `lodge status`"
                        ),
                    )),
                };
                let granted = match &answer {
                    Ok(Reply::Granted(granted)) => Some(granted.lease_id.clone()),
                    _ => None,
                };
                // Held before anybody knows of it: its guest may be asking for something already.
                if let (Some(lease), Some(held)) = (granted.clone(), hold) {
                    self.held.insert(lease, *held);
                }
                if reply.send(answer).is_err()
                    && let Some(lease) = granted
                {
                    return self.close(lease, connection).await;
                }
            }
        }
        false
    }

    /// Ends a lease; whether the connection was lost over it. Without a gateway the lease lapses by itself.
    async fn close(&mut self, lease: String, connection: &mut Option<Connection>) -> bool {
        self.held.remove(&lease);
        let request = Request::Close(LeaseClose { lease_id: lease });
        match connection {
            Some(open) => open.ask(request, None).await.is_err(),
            None => false,
        }
    }

    fn dispatch(&self, notice: EgressNotice) {
        let Some(held) = self.held.get(&notice.lease_id) else {
            return;
        };
        match notice.notice {
            Some(egress_notice::Notice::Access(access)) => held.notices.hear(Notice::Access(access)),
            Some(egress_notice::Notice::Question(question)) => held.notices.hear(Notice::Question(question)),
            Some(egress_notice::Notice::Closed(closed)) => held.notices.hear(Notice::Closed(closed.id)),
            None => {}
        }
    }

    fn tell_lost(&self) {
        for held in self.held.values() {
            held.notices.hear(Notice::Lost);
        }
    }

    async fn renew(&mut self, connection: &mut Option<Connection>) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let request = Request::Renew(LeaseRenew {
            lease_ids: self.held.keys().cloned().collect(),
        });
        match self.exchange(connection, &request, None).await {
            Ok(Reply::Renewed(renewed)) if !renewed.unknown_lease_ids.is_empty() => {
                tracing::warn!(
                    count = renewed.unknown_lease_ids.len(),
                    "the gateway does not know some leases"
                );
                // Handing the listeners over again brings back what can be brought back.
                true
            }
            Ok(_) => false,
            Err(failure) => {
                tracing::warn!(%failure, "leases could not be renewed");
                true
            }
        }
    }
}

async fn notice(connection: Option<&mut Connection>) -> Option<EgressNotice> {
    match connection {
        Some(connection) => connection.notice().await,
        None => std::future::pending().await,
    }
}
