//! Leases of the gateway: a session's virtual key and its guest socket, which belong together.
//!
//! One task owns the connection to the gateway. It renews what is held and, after the gateway was restarted, hands
//! the listeners over again, so that a guest notices nothing but a failed request.

mod connection;

use connection::{Connection, Failure};
use lodge_proto::control::{
    LeaseClose, LeaseOpen, LeaseRenew, LeaseResume, Model, lease_reply::Reply, lease_request::Request,
};
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Lease time asked for, in seconds.
const TTL_SECONDS: u32 = 60;
/// How often leases are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// Pause before the gateway is tried again.
const RECONNECT: Duration = Duration::from_millis(200);
/// Time a request waits for a gateway that is just being started.
const PATIENCE: Duration = Duration::from_secs(10);
/// File in the session's gateway directory that names the lease, for the next runner. It holds no key.
const LEASE_FILE: &str = "lease";
/// Name of the guest's socket.
pub const SOCKET: &str = "gateway.sock";

/// A lease that is held. Dropping it ends the session's key.
#[derive(Debug)]
pub struct Lease {
    id: String,
    key: String,
    listener: Arc<OwnedFd>,
    models: Vec<Model>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Lease {
    /// The virtual key; empty on a lease that was resumed (the guest has it).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Models that the session may use.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The guest's listener, for the shim to keep.
    pub fn listener(&self) -> std::io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Close {
            lease: std::mem::take(&mut self.id),
        });
    }
}

#[derive(Debug)]
enum Job {
    Ask {
        request: Request,
        listener: Option<Arc<OwnedFd>>,
        reply: oneshot::Sender<Result<Reply, ErrorBody>>,
    },
    Hold {
        lease: String,
        session: SessionId,
        listener: Arc<OwnedFd>,
    },
    Close {
        lease: String,
    },
}

/// The runner's side of the lease protocol.
#[derive(Debug, Clone)]
pub struct Leases {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Leases {
    /// Starts the task that talks to the gateway at `socket`.
    pub fn start(socket: PathBuf, uid: u32) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        tokio::spawn(
            Keeper {
                socket,
                uid,
                held: HashMap::new(),
            }
            .run(queue),
        );
        Self { jobs }
    }

    async fn ask(&self, request: Request, listener: Option<Arc<OwnedFd>>) -> Result<Reply, ErrorBody> {
        let (reply, answer) = oneshot::channel();
        let gone = || ErrorBody::new(ErrorCode::Unavailable, "the gateway does not answer");
        self.jobs
            .send(Job::Ask {
                request,
                listener,
                reply,
            })
            .map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Binds the session's guest socket anew and asks for a key.
    pub async fn open(
        &self,
        session_dir: &Path,
        session: SessionId,
        harness: &str,
    ) -> Result<Lease, ErrorBody> {
        let dir = session_dir.join("gw");
        let system = |error: &dyn std::fmt::Display| {
            ErrorBody::new(
                ErrorCode::Internal,
                format!("the session's gateway socket: {error}"),
            )
        };
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(system(&error)),
            _ => {}
        }
        let listener = lodge_proto::sock::bind(&dir.join(SOCKET)).map_err(|error| system(&error))?;
        let listener = Arc::new(OwnedFd::from(listener));
        let request = Request::Open(LeaseOpen {
            session_id: session.to_string(),
            harness: harness.to_owned(),
            ttl_seconds: TTL_SECONDS,
        });
        let Reply::Granted(granted) = self.ask(request, Some(Arc::clone(&listener))).await? else {
            return Err(ErrorBody::new(
                ErrorCode::Internal,
                "the gateway answered something else",
            ));
        };
        std::fs::write(dir.join(LEASE_FILE), &granted.lease_id).map_err(|error| system(&error))?;
        Ok(self.hold(
            granted.lease_id,
            granted.virtual_key,
            session,
            listener,
            granted.models,
        ))
    }

    /// Goes on with the lease of a session whose shim outlived the runner.
    pub async fn resume(&self, session_dir: &Path, session: SessionId) -> Result<Lease, ErrorBody> {
        let unavailable =
            |error: &dyn std::fmt::Display| ErrorBody::new(ErrorCode::Unavailable, error.to_string());
        let lease_id = std::fs::read_to_string(session_dir.join("gw").join(LEASE_FILE))
            .map_err(|error| unavailable(&error))?;
        let dir = session_dir.to_owned();
        let listener = tokio::task::spawn_blocking(move || {
            lodge_shim::client::fetch_listener(&dir, Duration::from_secs(5))
        })
        .await
        .map_err(|error| unavailable(&error))?
        .map_err(|error| unavailable(&error))?;
        let listener = Arc::new(listener);
        let request = Request::Resume(LeaseResume {
            session_id: session.to_string(),
            lease_id: lease_id.clone(),
        });
        let Reply::Granted(granted) = self.ask(request, Some(Arc::clone(&listener))).await? else {
            return Err(ErrorBody::new(
                ErrorCode::Internal,
                "the gateway answered something else",
            ));
        };
        Ok(self.hold(lease_id, String::new(), session, listener, granted.models))
    }

    fn hold(
        &self,
        id: String,
        key: String,
        session: SessionId,
        listener: Arc<OwnedFd>,
        models: Vec<Model>,
    ) -> Lease {
        let hold = Job::Hold {
            lease: id.clone(),
            session,
            listener: Arc::clone(&listener),
        };
        let _ = self.jobs.send(hold);
        Lease {
            id,
            key,
            listener,
            models,
            jobs: self.jobs.clone(),
        }
    }

    /// Models that a session of this runner would get.
    pub async fn models(&self) -> Result<Vec<Model>, ErrorBody> {
        match self
            .ask(Request::Models(lodge_proto::control::ListModelsRequest {}), None)
            .await?
        {
            Reply::Models(list) => Ok(list.models),
            _ => Err(ErrorBody::new(
                ErrorCode::Internal,
                "the gateway answered something else",
            )),
        }
    }
}

/// The task that owns the connection and knows what is held.
struct Keeper {
    socket: PathBuf,
    uid: u32,
    held: HashMap<String, (SessionId, Arc<OwnedFd>)>,
}

impl Keeper {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
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
                () = ended(connection.as_ref()), if connection.is_some() => true,
            };
            if lost {
                connection = None;
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
                    for (lease, (session, listener)) in &self.held {
                        let request = Request::Resume(LeaseResume {
                            session_id: session.to_string(),
                            lease_id: lease.clone(),
                        });
                        if let Reply::Error(error) = connection.ask(request, Some(listener)).await? {
                            tracing::warn!(session = %session, error = error.message, "a lease was not resumed");
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
                }
            }
        }
        Err(Failure::Closed)
    }

    /// Does one job; whether the connection was lost over it.
    async fn job(&mut self, job: Job, connection: &mut Option<Connection>) -> bool {
        match job {
            Job::Hold {
                lease,
                session,
                listener,
            } => drop(self.held.insert(lease, (session, listener))),
            Job::Close { lease } => {
                self.held.remove(&lease);
                let request = Request::Close(LeaseClose { lease_id: lease });
                // Without a gateway the lease lapses by itself.
                if let Some(open) = connection
                    && open.ask(request, None).await.is_err()
                {
                    return true;
                }
            }
            Job::Ask {
                request,
                listener,
                reply,
            } => {
                let answer = match self.exchange(connection, &request, listener.as_ref()).await {
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
                let _ = reply.send(answer);
            }
        }
        false
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

async fn ended(connection: Option<&Connection>) {
    match connection {
        Some(connection) => connection.ended().await,
        None => std::future::pending().await,
    }
}
